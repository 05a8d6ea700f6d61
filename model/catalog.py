"""Named pipelines: their stages, sizes, defaults and limits. Torch-free.

A pipeline on disk is a folder with a `pipeline.json` (this module's `PipelineSpec`), a
`tokenizer.json` and, for each stage, weight shards in the project's own format. An API process
needs only the two JSON files. The catalog knows nothing of tensors.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from model.errors import CheckpointError
from model.params import (
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SamplerName,
    SamplingParams,
    Task,
    UpsampleParams,
    steps_at_strength,
)
from model.tasks import Check, task_checks

StageName = Literal["base", "upsample"]
BUILTIN_FOLDER = Path(__file__).parent / "weights"
WORK_RESOLUTION = 64  # px
DRAWN_FOR_EACH = 4
"""So many images may be drawn for each of the `max_images` that are kept."""
RESPACING = re.compile(r"(ddim[1-9]\d{0,5}|fast27|[1-9]\d{0,5}(,[1-9]\d{0,5})*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One network of the cascade.

    Attributes:
        name: `base` or `upsample`.
        resolution: side of the stage's image, px.
        schedule: name of the noise schedule, `cosine` or `linear`.
        timesteps: T, length of the trained process.
        prediction: what the network's first three channels are: `epsilon`, `x0` or `v`.
        variance: `fixed_small`, `fixed_large` or `learned_range`.
        sampler: default sampler.
        steps: default steps.
        temperature: default standard deviation of the initial noise.
        weights: the project's shard files, or one of OpenAI's `.pt` files; relative to the
            pipeline's folder, or absolute.
        architecture: name of the network of an OpenAI file, see `model.checkpoints.architectures`;
            None for the project's files, which say it themselves.
        round_low_res: the previous stage's image is rounded to 8 bits, as OpenAI's recipes do.
    """

    name: StageName
    resolution: int
    schedule: Literal["cosine", "linear"]
    timesteps: int
    prediction: Literal["epsilon", "x0", "v"]
    variance: Literal["fixed_small", "fixed_large", "learned_range"]
    sampler: SamplerName
    steps: int | str
    temperature: float = 1.0
    weights: tuple[str, ...] = ()
    architecture: str | None = None
    round_low_res: bool = False

    @property
    def row_work(self) -> int:
        """What one row of this stage's network costs, in rows of 64 px: its pixels decide."""
        return max(1, round((self.resolution / WORK_RESOLUTION) ** 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideSpec:
    """A network beside the cascade whose gradient can guide the base stage.

    Attributes:
        kind: `clip`, a noised CLIP, or `classifier`, a noised classifier.
        weights: its files, as in `StageSpec`.
        architecture: as in `StageSpec`.
    """

    kind: Literal["clip", "classifier"]
    weights: tuple[str, ...]
    architecture: str | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that a pipeline can't serve: its name and a sentence that says what it can."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A named cascade with everything a client may ask about it.

    Attributes:
        name: the name that requests use.
        description: one sentence for people.
        folder: where its files are.
        stages: `base`, and `upsample` where there is one.
        guidance_scale: default scale of classifier-free guidance.
        guidance_interval: default interval, see `SamplingParams`.
        context: caption length in tokens; 0 for a pipeline that reads no captions.
        classes: number of classes that a label may name, of the networks or of a classifier that
            guides them; 0 for a pipeline that takes no label.
        guides: networks for CLIP guidance and classifier guidance.
        max_images: largest n.
        max_steps: largest number of steps of a stage.
        max_guidance_scale: largest guidance scale.
    """

    name: str
    description: str
    folder: Path = field(compare=False)
    stages: tuple[StageSpec, ...]
    guidance_scale: float
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    context: int
    classes: int = 0
    guides: tuple[GuideSpec, ...] = ()
    max_images: int = 8
    max_steps: int = 1000
    max_guidance_scale: float = 50.0

    @property
    def base(self) -> StageSpec:
        """The first stage."""
        return self.stages[0]

    @property
    def max_drawn(self) -> int:
        """Largest `best_of`."""
        return DRAWN_FOR_EACH * self.max_images

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides, in px, of the square images this pipeline can make."""
        return tuple(stage.resolution for stage in self.stages)

    def stages_for(self, width: int) -> tuple[StageSpec, ...]:
        """The stages that an image of this width passes."""
        return self.stages[: self.sizes.index(width) + 1]

    def guided_by(self, kind: Literal["clip", "classifier"]) -> bool:
        """Whether a network of that kind can guide the base stage."""
        return any(guide.kind == kind for guide in self.guides)

    def violations(self, params: SamplingParams, *, ranking: bool = False) -> list[Violation]:
        """Every field of `params` that this pipeline can't serve; empty when it can serve all.

        Args:
            params: the request.
            ranking: whether there is a CLIP beside the pipeline's own that ranks images.
        """
        checks = (*self._size_checks(params), *task_checks(self, params, ranking=ranking))
        found = [Violation(name, message) for name, holds, message in checks if not holds]
        found += self._steps_violations("steps", params.steps, self.base)
        return found + self._upsample_violations(params)

    def _size_checks(self, params: SamplingParams) -> Iterable[Check]:
        longest = f"at most {MAX_PROMPT_CHARACTERS} characters"
        low, high = params.guidance_interval
        yield "prompt", len(params.prompt) <= MAX_PROMPT_CHARACTERS, longest
        yield "negative_prompt", len(params.negative_prompt) <= MAX_PROMPT_CHARACTERS, longest
        sizes = ", ".join(f"{size}x{size}" for size in self.sizes)
        yield "width", params.width in self.sizes, f"{self.name} makes {sizes}"
        square = f"{self.name} makes square images: {sizes}"
        yield "height", params.height == params.width, square
        yield "n", 1 <= params.n <= self.max_images, f"between 1 and {self.max_images}"
        last_seed = MAX_SEED - min(params.drawn, self.max_drawn)
        yield "seed", 0 <= params.seed <= last_seed, "between 0 and 2**63 - 1 - n"
        yield (
            "guidance_scale",
            0 <= params.guidance_scale <= self.max_guidance_scale,
            f"a finite number between 0 and {self.max_guidance_scale:g}",
        )
        yield "guidance_interval", 0 <= low <= high <= 1, "two numbers, 0 <= low <= high <= 1"
        yield "eta", 0 <= params.eta <= 1, "between 0 and 1"
        yield "dynamic_percentile", 0 < params.dynamic_percentile <= 1, "in (0, 1]"
        yield "previews", 0 <= params.previews <= 8, "between 0 and 8"

    def _upsample_violations(self, params: SamplingParams) -> list[Violation]:
        upsample, found = params.upsample, []
        if upsample.steps is not None and len(self.stages) > 1:
            found += self._steps_violations("upsample/steps", upsample.steps, self.stages[1])
        temperature = upsample.temperature
        if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
            found.append(Violation("upsample/temperature", "between 0 and 2"))
        return found

    def _steps_violations(self, name: str, steps: int | str, stage: StageSpec) -> list[Violation]:
        limit = min(self.max_steps, stage.timesteps)
        if isinstance(steps, str) and not RESPACING.fullmatch(steps):
            return [Violation(name, "a number, or a respacing: 100, 25,25, ddim50, fast27")]
        if 1 <= step_count(steps) <= limit:
            return []
        return [Violation(name, f"between 1 and {limit}")]


def step_count(steps: int | str) -> int:
    """Number of steps that a count or a respacing string asks for: `25,25` and `ddim50` ask for 50.

    Args:
        steps: a count, or a string that matches `RESPACING`.
    """
    if isinstance(steps, int):
        return steps
    return sum(int(number) for number in re.sub(r"^(ddim|fast)", "", steps).split(","))


def stages_passed(spec: PipelineSpec, params: SamplingParams) -> tuple[StageSpec, ...]:
    """The stages that each image of a request passes, in order.

    Raises:
        ValueError: the pipeline can't serve `params`; ask `PipelineSpec.violations` first.
    """
    stages = spec.stages_for(params.width)
    return stages[1:] if params.task is Task.UPSCALE else stages


def total_steps(spec: PipelineSpec, params: SamplingParams) -> int:
    """Network steps of a whole request: all its images through all the stages they pass.

    Raises:
        ValueError: the pipeline can't serve `params`; ask `PipelineSpec.violations` first.
    """
    return params.drawn * sum(steps for _, steps in _steps_by_stage(spec, params))


def total_work(spec: PipelineSpec, params: SamplingParams) -> int:
    """Rows of all network calls of a whole request, each in rows of 64 px; see `row_work`.

    An image under classifier-free guidance takes two rows of the base stage's network in each step;
    the part of the run outside the guidance interval is not told apart.

    Raises:
        ValueError: the pipeline can't serve `params`; ask `PipelineSpec.violations` first.
    """
    each = sum(steps * step_work(stage, params) for stage, steps in _steps_by_stage(spec, params))
    return params.drawn * each


def step_work(stage: StageSpec, params: SamplingParams) -> int:
    """Rows of one step of one image in a stage, each in rows of 64 px; see `total_work`."""
    guided = params.guidance_scale not in (0, 1) and stage.name == "base"
    return stage.row_work * (2 if guided else 1)


def _steps_by_stage(spec: PipelineSpec, params: SamplingParams) -> list[tuple[StageSpec, int]]:
    asked = {"base": params.steps, "upsample": params.upsample.steps}
    each = []
    for stage in stages_passed(spec, params):
        steps = step_count(asked[stage.name] or stage.steps)
        if stage.name == "base" and params.task is Task.VARIATION:
            steps = steps_at_strength(steps, params.strength)
        each.append((stage, steps))
    return each


def with_defaults(spec: PipelineSpec, given: Mapping[str, Any]) -> SamplingParams:
    """The request of a client that leaves the rest to the pipeline.

    Args:
        spec: whose defaults.
        given: members of `SamplingParams`; None, or absence, asks for the default.
    """
    members = {name: value for name, value in given.items() if value is not None}
    width = members.get("width", members.get("height", spec.sizes[-1]))
    defaults = {
        "width": width,
        "height": width,
        "steps": spec.base.steps,
        "sampler": spec.base.sampler,
        "guidance_scale": spec.guidance_scale,
        "guidance_interval": spec.guidance_interval,
    }
    upsample = members.pop("upsample", UpsampleParams())
    if len(spec.stages) > 1 and width != spec.base.resolution:
        upsample = _upsample_defaults(upsample, spec.stages[1])
    return SamplingParams(**{**defaults, **members, "model": spec.name, "upsample": upsample})


def _upsample_defaults(given: UpsampleParams, stage: StageSpec) -> UpsampleParams:
    return UpsampleParams(
        steps=stage.steps if given.steps is None else given.steps,
        sampler=given.sampler or stage.sampler,
        temperature=stage.temperature if given.temperature is None else given.temperature,
    )


def load_spec(folder: Path) -> PipelineSpec:
    """Reads `pipeline.json` of a pipeline folder.

    Raises:
        CheckpointError: the file is missing, not JSON, or has missing or unknown members.
    """
    path = folder / "pipeline.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        stages = tuple(_stage(stage) for stage in record.pop("stages"))
        record["guides"] = tuple(_guide(guide) for guide in record.get("guides", ()))
        record["guidance_interval"] = tuple(record.get("guidance_interval", (0.0, 1.0)))
        return PipelineSpec(folder=folder, stages=stages, **record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable pipeline description: {error}") from error


def save_spec(spec: PipelineSpec) -> None:
    """Writes `pipeline.json` into the pipeline's folder, in one piece or not at all."""
    record = {name: member for name, member in asdict(spec).items() if name != "folder"}
    part = spec.folder / "pipeline.json.part"
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(spec.folder / "pipeline.json")


def load_catalog(folders: Iterable[Path] = ()) -> Mapping[str, PipelineSpec]:
    """Every pipeline found below the built-in weights and the given folders, by name.

    Args:
        folders: each either a pipeline folder itself or a folder of pipeline folders; a later one
            replaces an earlier pipeline of the same name.
    """
    found: dict[str, PipelineSpec] = {}
    for root in (BUILTIN_FOLDER, *folders):
        for path in sorted({*root.glob("pipeline.json"), *root.glob("*/pipeline.json")}):
            spec = load_spec(path.parent)
            found[spec.name] = spec
    return found


def _stage(record: Mapping[str, Any]) -> StageSpec:
    members = dict(record)
    members["sampler"] = SamplerName(members["sampler"])
    members["weights"] = tuple(members.get("weights", ()))
    return StageSpec(**members)


def _guide(record: Mapping[str, Any]) -> GuideSpec:
    return GuideSpec(**{**record, "weights": tuple(record["weights"])})
