"""Pipeline: a cascade as a library offers it: load, sample, edit, watch.

Runs the steps of one request at a time, and so makes the pictures that the service makes. Pictures
go in and come out as Pillow's. Knows no jobs.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.cascade import Cascade, Ranker
from model.catalog import PipelineSpec, load_catalog, load_spec, total_steps, with_defaults
from model.errors import ConditioningError, UnsupportedSampling
from model.guiding import Guides
from model.imaging import Pictures, Source
from model.params import SamplerName, SamplingParams, Task, Thresholding, UpsampleParams
from model.sampling.plan import encoding_plan
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from model.stages import load_network
from model.text.tokenizer import load_tokenizer

MAX_BATCH = 8
"""Most images that share a step, as a worker has it unless told otherwise."""

PictureLike = Source | str | Path
"""A picture of Pillow's, an array, an encoded file, or where one lies."""

_ENUMERATIONS: Mapping[str, type[StrEnum]] = {
    "sampler": SamplerName,
    "thresholding": Thresholding,
}

P = TypeVar("P", bound="Pipeline")


class CommonOptions(TypedDict, total=False):
    """What may be said of any request; see `SamplingParams`. The rest is the pipeline's default."""

    negative_prompt: str
    width: int
    height: int
    steps: int | str
    sampler: SamplerName | str
    guidance_scale: float
    guidance_interval: tuple[float, float]
    eta: float
    thresholding: Thresholding | str
    dynamic_percentile: float
    upsample: UpsampleParams
    label: int
    clip_guidance_scale: float
    classifier_guidance_scale: float


class Options(CommonOptions, total=False):
    """The same with the number of images and their seeds."""

    n: int
    seed: int
    best_of: int


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """A request after one of its steps.

    Attributes:
        step: network steps done, over all images and stages.
        total_steps: of the whole request.
        stage: name of the stage at work.
        previews: makes x̂₀ of every image, at the base stage's size; costs nothing until called.
    """

    step: int
    total_steps: int
    stage: str
    previews: Callable[[], list[Image.Image]]


Watch = Callable[[Progress], None]


class Pipeline(Cascade):
    """A loaded cascade with everything that people do with it."""

    @classmethod
    def load(
        cls: type[P],
        pipeline: PipelineSpec | str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        ranker: Ranker | None = None,
    ) -> P:
        """Reads every network of a pipeline.

        Args:
            pipeline: the name of a shipped one such as `scenes`, the folder of any, or its spec.
            device: where the networks go.
            dtype: of the networks' bodies; embeddings and outputs stay float32.
            ranker: ranks the images of `best_of` in place of the pipeline's own CLIP.

        Raises:
            CheckpointError: a file is missing, damaged or of another network.
            UnsupportedSampling: there is no pipeline of that name.
        """
        spec, place = _spec(pipeline), torch.device(device)
        networks = [load_network(spec, stage, dtype).to(place) for stage in spec.stages]
        tokenizer = load_tokenizer(spec) if spec.context else None
        guides = Guides.load(spec, tokenizer, place, dtype)
        return cls(spec, networks, tokenizer, place, guides, ranker)

    def sample(
        self,
        prompt: str = "",
        *,
        start: Tensor | None = None,
        on_step: Watch | None = None,
        **options: Unpack[Options],
    ) -> list[Image.Image]:
        """Draws images of a prompt, or of a class.

        Args:
            prompt: the caption.
            start: (3, side, side) what the base stage starts from in place of the seed's noise,
                such as `encode` returns.
            on_step: called after every step.
            options: see `Options`.

        Returns:
            n images, image k from seed + k; with `best_of`, the best first.

        Raises:
            UnsupportedSampling: the pipeline can't serve it.
        """
        params = self._params(Task.GENERATE, prompt, options)
        return self._draw(params, None, on_step, start)

    def edit(
        self,
        prompt: str,
        image: PictureLike,
        mask: PictureLike | None = None,
        *,
        strength: float | None = None,
        on_step: Watch | None = None,
        **options: Unpack[Options],
    ) -> list[Image.Image]:
        """Repaints what a mask leaves free, or with a strength makes variations of a whole picture.

        Args:
            prompt: what the whole picture is to show.
            image: cropped to the square in its centre.
            mask: of the picture's size, white (or transparent) where to paint; None takes the
                picture's own transparency.
            strength: in (0, 1]; given, there is no mask, and this share of the process is run
                again: more of it keeps less of the picture.
            on_step: called after every step.
            options: see `Options`.

        Raises:
            ConditioningError: a picture or a mask that can't be used.
            UnsupportedSampling: the pipeline can't serve it.
        """
        if strength is not None and mask is not None:
            raise ConditioningError("Give a mask or a strength: one repaints, the other varies.")
        task = Task.INPAINT if strength is None else Task.VARIATION
        pictures = Pictures(_source(image), None if mask is None else _source(mask))
        params = self._params(task, prompt, {**options, "strength": strength}, pictures)
        return self._draw(params, pictures, on_step)

    def upscale(
        self,
        image: PictureLike,
        prompt: str = "",
        *,
        on_step: Watch | None = None,
        **options: Unpack[Options],
    ) -> list[Image.Image]:
        """Enlarges a picture with the second stage; arguments and errors as in `edit`."""
        pictures = Pictures(_source(image))
        params = self._params(Task.UPSCALE, prompt, options, pictures)
        return self._draw(params, pictures, on_step)

    def interpolate(
        self,
        prompt: str,
        seed: int,
        seed_to: int,
        n: int,
        *,
        on_step: Watch | None = None,
        **options: Unpack[CommonOptions],
    ) -> list[Image.Image]:
        """Walks in n frames from the image of one seed to that of another.

        Raises:
            UnsupportedSampling: the pipeline can't serve it.
        """
        given = {**options, "seed": seed, "n": n, "seed_to": seed_to}
        params = self._params(Task.INTERPOLATION, prompt, given)
        return self._draw(params, None, on_step)

    def encode(
        self,
        image: PictureLike,
        prompt: str = "",
        *,
        label: int | None = None,
        steps: int | str = 50,
        on_step: Watch | None = None,
    ) -> Tensor:
        """The noise that deterministic DDIM draws a picture of: Song et al. 2021, §4.3.

        `sample` makes the picture again from it with the same prompt and steps, `sampler="ddim"`
        and `guidance_scale=1`; with another prompt, it makes something alike.

        Args:
            image: cropped and resized to the base stage's side.
            prompt: what the picture shows.
            label: its class, where the pipeline draws classes.
            steps: more are more exact.
            on_step: called after every step.

        Returns:
            (3, side, side), for `sample(start=…)`.

        Raises:
            ConditioningError: a picture that can't be used.
            UnsupportedSampling: steps that the process can't give.
        """
        side = self.spec.base.resolution
        given = {"width": side, "guidance_scale": 1.0, "label": label}
        pictures = Pictures(_source(image))
        (trajectory,) = self.prepare(self._params(Task.GENERATE, prompt, given))
        trajectory.plan = encoding_plan(self._stages[0].schedule, steps)
        trajectory.x = self._signal(pictures, side)
        self._denoise([trajectory], _Counter(trajectory.plan.steps, on_step))
        return trajectory.x

    def _params(
        self,
        task: Task,
        prompt: str,
        options: Mapping[str, Any],
        pictures: Pictures | None = None,
    ) -> SamplingParams:
        given = {**options, "task": task, "prompt": prompt}
        if pictures is not None:
            given["image"] = _name(pictures.image)
            given["mask"] = None if pictures.mask is None else _name(pictures.mask)
        for name, kind in _ENUMERATIONS.items():
            if name in given:
                given[name] = _member(name, kind, str(given[name]))
        return with_defaults(self.spec, given)

    def _draw(
        self,
        params: SamplingParams,
        pictures: Pictures | None,
        on_step: Watch | None,
        start: Tensor | None = None,
    ) -> list[Image.Image]:
        flight = self.prepare(params, pictures=pictures)
        if start is not None:
            for trajectory in flight:
                trajectory.x = start.to(trajectory.x)
        counter = _Counter(total_steps(self.spec, params), on_step)
        while True:
            self._denoise(flight, counter)
            promoted = [self.promote(trajectory, params, pictures) for trajectory in flight]
            if None in promoted:  # all of one request end together
                break
            flight = [trajectory for trajectory in promoted if trajectory is not None]
        images = [self.image(trajectory) for trajectory in flight]
        if params.best_of is not None:
            scores = np.array(self.rank(params, images))
            images = [images[index] for index in np.argsort(-scores, kind="stable")[: params.n]]
        return [Image.fromarray(image) for image in images]

    def _denoise(self, flight: Sequence[Trajectory], counter: "_Counter") -> None:
        """Takes trajectories of one stage and plan to their end, in step with each other."""
        stage = self.stage(flight[0]).name
        while not flight[0].done:
            for first in range(0, len(flight), MAX_BATCH):
                batch = flight[first : first + MAX_BATCH]
                denoise_step(
                    self.denoiser(stage), batch, self.parameterization(stage), self.guides(stage)
                )
                counter.add(
                    len(batch), stage, lambda: [Image.fromarray(self.preview(t)) for t in flight]
                )


@dataclass(slots=True)
class _Counter:
    """Counts steps, and tells who watches."""

    total_steps: int
    watch: Watch | None
    step: int = 0

    def add(self, steps: int, stage: str, previews: Callable[[], list[Image.Image]]) -> None:
        self.step += steps
        if self.watch is not None:
            self.watch(Progress(self.step, self.total_steps, stage, previews))


def _spec(pipeline: PipelineSpec | str | Path) -> PipelineSpec:
    if isinstance(pipeline, PipelineSpec):
        return pipeline
    shipped = load_catalog()
    if isinstance(pipeline, str) and pipeline in shipped:
        return shipped[pipeline]
    if not (Path(pipeline) / "pipeline.json").exists():
        known = ", ".join(sorted(shipped)) or "none"
        raise UnsupportedSampling(
            f"There is no pipeline {str(pipeline)!r}: give the folder of one, or one of {known}."
        )
    return load_spec(Path(pipeline))


def _source(picture: PictureLike) -> Source:
    if not isinstance(picture, str | Path):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise ConditioningError(f"{picture} can't be read: {error.strerror}.") from error


def _name(source: Source) -> str:
    """What a request calls a picture: the SHA-256 of its file, or of its pixels."""
    data = source if isinstance(source, bytes) else np.ascontiguousarray(np.asarray(source)).data
    return hashlib.sha256(data).hexdigest()


def _member(name: str, kind: type[StrEnum], value: str) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        raise UnsupportedSampling(f"{name}: one of {', '.join(kind)}, not {value!r}.") from None
