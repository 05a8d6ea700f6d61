"""Cascade: a request becomes trajectories, a stage's end the next stage's start.

A cascade holds its networks on one device. It runs no step: `denoiser`, `parameterization` and
`guides` are what the denoising step needs. Knows no jobs and no batches.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.catalog import PipelineSpec, StageSpec, stages_passed
from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.errors import ConditioningError, ModelError, UnsupportedSampling
from model.guiding import Guides, to_signal
from model.imaging import Pictures
from model.networks.unet import UNet
from model.params import GuideName, SamplingParams, Task
from model.sampling.guides import Guide
from model.sampling.noise import noise
from model.sampling.start import slerp, start_from
from model.sampling.trajectory import NoiseSource, Trajectory
from model.stages import Stage
from model.tasks import PICTURED
from model.text.tokenizer import CaptionTokenizer

Start = Callable[[int, NoiseSource], Trajectory]
"""A seed and its noise become an image's first trajectory."""


class Ranker(Protocol):
    """Something that says how well images fit a caption."""

    def scores(self, text: str, images: Sequence[NDArray[np.uint8]]) -> Sequence[float]:
        """One score for each image, (H, W, 3) uint8; higher is better."""
        ...


@dataclass(frozen=True, slots=True)
class NoiseBetween:
    """The noise at a fraction of the arc from a trajectory's own seed to another, at every step."""

    seed_to: int
    fraction: float

    def __call__(self, seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """As `NoiseSource`."""
        ends = noise(seed, stage, step, shape), noise(self.seed_to, stage, step, shape)
        return slerp(*ends, self.fraction)


class Cascade:
    """A loaded cascade.

    Args:
        spec: what it is.
        networks: one for each stage, on `device` and in evaluation mode.
        tokenizer: captions to ids; None where no stage reads captions.
        device: where the networks are.
        guides: its guides.
        ranker: ranks the images of `best_of` in place of its own CLIP.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        networks: Sequence[UNet],
        tokenizer: CaptionTokenizer | None,
        device: torch.device,
        guides: Guides,
        ranker: Ranker | None = None,
    ) -> None:
        self.spec = spec
        self.device = device
        self._guides = guides
        self._ranker = ranker
        self._stages = tuple(
            Stage(stage, index, network, tokenizer, device)
            for index, (stage, network) in enumerate(zip(spec.stages, networks, strict=True))
        )

    def prepare(
        self,
        params: SamplingParams,
        skip: Collection[int] = (),
        pictures: Pictures | None = None,
    ) -> list[Trajectory]:
        """One first-stage trajectory for each drawn image k not in `skip`.

        Image k has seed + k; the frames of an interpolation all have the first one's seed.

        Args:
            params: the request.
            skip: images that are there already.
            pictures: what `params.image` and `params.mask` name, for the tasks that need it.

        Raises:
            UnsupportedSampling: the pipeline can't serve the request.
            ConditioningError: a picture or a mask that can't be used.
        """
        self._refuse(params, pictures)
        sources = [each for k, each in enumerate(_noise_sources(params)) if k not in skip]
        if params.task is Task.UPSCALE:
            assert pictures is not None
            low_res = self._signal(pictures, self.spec.base.resolution)
            start: Start = partial(self._second, params, pictures, low_res)
        else:
            start = self._first(params, pictures)
        return [start(seed, source) for seed, source in sources]

    def _refuse(self, params: SamplingParams, pictures: Pictures | None) -> None:
        """Raises for whatever can't be served, before anything is computed."""
        violations = self.spec.violations(params, ranking=self._ranker is not None)
        if violations:
            first = violations[0]
            raise UnsupportedSampling(f"{first.field}: {first.message}.")
        if params.task not in PICTURED:
            return
        if pictures is None:
            raise ConditioningError(f"{params.task} starts from a picture, and none came along.")
        if params.task is Task.INPAINT:
            sides = [stage.resolution for stage in stages_passed(self.spec, params)]
            pictures.fit_to(sides, masked=True)
        else:
            pictures.fit_to([self.spec.base.resolution], masked=False)

    def _first(self, params: SamplingParams, pictures: Pictures | None) -> Start:
        """What all images of a request share in the base stage."""
        stage, given = self._stages[0], self._given(self._stages[0], params, pictures)
        varied = params.task is Task.VARIATION
        plan = stage.plan(
            params.sampler, params.steps, params.eta, params.strength if varied else 1.0
        )
        conditioning = _with(stage.caption(params.prompt), given)
        unconditional = None
        if params.guidance_scale != 1.0 and params.prompt != params.negative_prompt:
            unconditional = _with(stage.caption(params.negative_prompt), given)
        scales = _guide_scales(params)
        if GuideName.CLIP in scales:
            conditioning = _with(conditioning, {"clip_text": self._guides.caption(params.prompt)})

        def start(seed: int, source: NoiseSource) -> Trajectory:
            if pictures is not None and varied:
                original = self._signal(pictures, stage.spec.resolution)
                x = start_from(original, plan, stage.schedule, seed=seed, stage=stage.index)
            else:
                x = stage.initial_noise(seed, source, stage.spec.temperature)
            return Trajectory(
                plan=plan,
                x=x,
                conditioning=conditioning,
                unconditional=unconditional,
                guidance_scale=params.guidance_scale,
                guidance_interval=params.guidance_interval,
                guide_scales=scales,
                thresholding=params.thresholding,
                dynamic_percentile=params.dynamic_percentile,
                seed=seed,
                stage_index=stage.index,
                noise=source,
            )

        return start

    def promote(
        self, trajectory: Trajectory, params: SamplingParams, pictures: Pictures | None = None
    ) -> Trajectory | None:
        """The next stage's trajectory of one that is done; None when its image is finished.

        Unless the stage's recipe says so, the low-resolution image is not rounded to 8 bits in
        between: kernels round differently by batch size, and a whole level flipped here would show
        in the finished image.

        Args:
            trajectory: at its end.
            params: the request.
            pictures: as in `prepare`.

        Raises:
            ModelError: the stage ended in something that is no image.
        """
        if trajectory.stage_index + 1 == len(self.spec.stages_for(params.width)):
            return None
        low_res = _finished(trajectory)
        if self._stages[1].spec.round_low_res:  # not clamped either, as in OpenAI's recipes
            low_res = ((low_res + 1) * 127.5).round() / 127.5 - 1
        else:
            low_res = low_res.clamp(-1, 1)
        return self._second(params, pictures, low_res, trajectory.seed, trajectory.noise)

    def _second(
        self,
        params: SamplingParams,
        pictures: Pictures | None,
        low_res: Tensor,
        seed: int,
        source: NoiseSource,
    ) -> Trajectory:
        stage, wanted = self._stages[1], params.upsample
        temperature = stage.spec.temperature if wanted.temperature is None else wanted.temperature
        plan = stage.plan(wanted.sampler or stage.spec.sampler, wanted.steps or stage.spec.steps)
        given = self._given(stage, params, pictures)
        return Trajectory(
            plan=plan,
            x=stage.initial_noise(seed, source, temperature),
            conditioning=_with(stage.caption(params.prompt), {**given, "low_res": low_res}),
            seed=seed,
            stage_index=stage.index,
            noise=source,
        )

    def _given(
        self, stage: Stage, params: SamplingParams, pictures: Pictures | None
    ) -> dict[str, Tensor]:
        """What a stage is told besides the caption: the class, and the picture to edit."""
        given = {}
        if params.label is not None:
            given["label"] = torch.tensor(params.label, device=self.device)
        if pictures is not None and params.task is Task.INPAINT:
            side = stage.spec.resolution
            given["image"] = self._signal(pictures, side)
            given["mask"] = torch.from_numpy(pictures.keep_at(side)).to(self.device)[None]
        return given

    def _signal(self, pictures: Pictures, side: int) -> Tensor:
        return to_signal(pictures.image_at(side)).to(self.device)

    def image(self, trajectory: Trajectory) -> NDArray[np.uint8]:
        """The image of a finished trajectory, (H, W, 3) uint8; kept pixels are the picture's own.

        Raises:
            ModelError: the trajectory ended in something that is no image.
        """
        return _to_pixels(_finished(trajectory))

    def preview(self, trajectory: Trajectory) -> NDArray[np.uint8]:
        """x̂₀ of a trajectory in flight, (h, w, 3) uint8, no larger than the base stage's."""
        x0 = trajectory.x if trajectory.x0 is None else trajectory.x0
        side = self.spec.base.resolution
        small = torch.nn.functional.adaptive_avg_pool2d(x0, (side, side))
        return _to_pixels(_checked(small))

    def rank(self, params: SamplingParams, images: Sequence[NDArray[np.uint8]]) -> Sequence[float]:
        """How well each image, (H, W, 3) uint8, fits the prompt; higher is better.

        Raises:
            UnsupportedSampling: there is no CLIP to say so.
        """
        return (self._ranker or self._guides).scores(params.prompt, images)

    def stage(self, trajectory: Trajectory) -> StageSpec:
        """The stage that a trajectory is in."""
        return self.spec.stages[trajectory.stage_index]

    def denoiser(self, stage: str) -> UNet:
        """A stage's network."""
        return self._stage_named(stage).network

    def parameterization(self, stage: str) -> Parameterization:
        """What a stage's network predicts."""
        return self._stage_named(stage).parameterization

    def guides(self, stage: str) -> Mapping[GuideName, Guide]:
        """What can lead a stage: the guides see the base stage's images alone."""
        return self._guides.for_steps if stage == self.spec.base.name else {}

    def _stage_named(self, name: str) -> Stage:
        return next(stage for stage in self._stages if stage.spec.name == name)


def _noise_sources(params: SamplingParams) -> list[tuple[int, NoiseSource]]:
    """Seed and noise of every image that is drawn."""
    if params.task is not Task.INTERPOLATION:
        return [(params.seed + index, noise) for index in range(params.drawn)]
    assert params.seed_to is not None
    fractions = (index / (params.n - 1) for index in range(params.n))
    return [(params.seed, NoiseBetween(params.seed_to, fraction)) for fraction in fractions]


def _guide_scales(params: SamplingParams) -> dict[GuideName, float]:
    scales = {
        GuideName.CLIP: params.clip_guidance_scale,
        GuideName.CLASSIFIER: params.classifier_guidance_scale,
    }
    return {name: scale for name, scale in scales.items() if scale}


def _with(caption: Conditioning, given: Mapping[str, Tensor]) -> Conditioning:
    return replace(caption, **given) if given else caption


def _finished(trajectory: Trajectory) -> Tensor:
    """(3, H, W) a trajectory's image; guidance may have moved pixels that are to be kept."""
    x, known = _checked(trajectory.x), trajectory.conditioning
    if known.image is None or known.mask is None:
        return x
    return torch.where(known.mask == 1, known.image, x)


def _checked(x: Tensor) -> Tensor:
    if not bool(torch.isfinite(x).all()):
        raise ModelError("The network's numbers overflowed: try a lower guidance scale.")
    return x


def _to_pixels(x: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    levels = ((x.clamp(-1, 1) + 1) * 127.5).round()
    return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
