"""Pipeline: the cascade. A request becomes trajectories, a stage's end the next stage's start.

A pipeline holds its networks on one device, and for each the features of captions it has read of
late. It runs no step: `denoiser` and `parameterization` are what the denoising step needs. Knows
no jobs and no batches.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.catalog import PipelineSpec, StageSpec
from model.checkpoints.native import load_stage
from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import noise_schedule
from model.errors import ModelError, UnsupportedSampling
from model.imaging import Pictures
from model.networks.text_unet import TextUNet
from model.params import SamplerName, SamplingParams
from model.sampling.noise import INITIAL, noise
from model.sampling.plan import SamplingPlan, build_plan
from model.sampling.trajectory import Trajectory
from model.text.tokenizer import CaptionTokenizer, load_tokenizer

CAPTIONS_KEPT = 32


class Pipeline:
    """A loaded cascade.

    Args:
        spec: what it is.
        networks: one for each stage, on `device` and in evaluation mode.
        tokenizer: captions to ids.
        device: where the networks are.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        networks: tuple[TextUNet, ...],
        tokenizer: CaptionTokenizer,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.device = device
        self._stages = tuple(
            _Stage(stage, network, tokenizer, device)
            for stage, network in zip(spec.stages, networks, strict=True)
        )

    @classmethod
    def load(cls, spec: PipelineSpec, device: torch.device, dtype: torch.dtype) -> "Pipeline":
        """Reads the weights of every stage.

        Args:
            spec: which cascade.
            device: where its networks go.
            dtype: of the networks' bodies; embeddings and outputs stay float32.

        Raises:
            CheckpointError: a file is missing, damaged or of another shape.
        """
        networks = tuple(
            _lower_precision(load_stage(spec, stage), dtype).to(device) for stage in spec.stages
        )
        return cls(spec, networks, load_tokenizer(spec), device)

    def prepare(
        self,
        params: SamplingParams,
        skip: Collection[int] = (),
        pictures: Pictures | None = None,
    ) -> list[Trajectory]:
        """One first-stage trajectory for each drawn image k not in `skip`, seeded with seed + k.

        Args:
            params: the request.
            skip: images that are there already.
            pictures: what `params.image` and `params.mask` name, for the tasks that need it.

        Raises:
            UnsupportedSampling: the pipeline can't serve the request.
            ConditioningError: a picture or a mask that can't be used.
        """
        violations = self.spec.violations(params)
        if violations:
            first = violations[0]
            raise UnsupportedSampling(f"{first.field}: {first.message}.")
        stage = self._stages[0]
        plan = stage.plan(params.sampler, params.steps, params.eta)
        conditioning = stage.caption(params.prompt)
        unconditional = None
        if params.guidance_scale != 1.0 and params.prompt != params.negative_prompt:
            unconditional = stage.caption(params.negative_prompt)
        return [
            Trajectory(
                plan=plan,
                x=stage.initial_noise(params.seed + index),
                conditioning=conditioning,
                unconditional=unconditional,
                guidance_scale=params.guidance_scale,
                guidance_interval=params.guidance_interval,
                thresholding=params.thresholding,
                dynamic_percentile=params.dynamic_percentile,
                seed=params.seed + index,
                stage_index=0,
            )
            for index in range(params.drawn)
            if index not in skip
        ]

    def promote(
        self, trajectory: Trajectory, params: SamplingParams, pictures: Pictures | None = None
    ) -> Trajectory | None:
        """The next stage's trajectory of one that is done; None when its image is finished.

        The low-resolution image is not rounded to 8 bits in between: kernels round differently by
        batch size, and a whole level flipped here would show in the finished image.

        Raises:
            ModelError: the stage ended in something that is no image.
        """
        index = trajectory.stage_index + 1
        if index == len(self.spec.stages_for(params.width)):
            return None
        stage, wanted = self._stages[index], params.upsample
        temperature = stage.spec.temperature if wanted.temperature is None else wanted.temperature
        caption = stage.caption(params.prompt)
        return Trajectory(
            plan=stage.plan(
                wanted.sampler or stage.spec.sampler, wanted.steps or stage.spec.steps, 0.0
            ),
            x=stage.initial_noise(trajectory.seed, index) * temperature,
            conditioning=Conditioning(
                pooled=caption.pooled,
                keys_values=caption.keys_values,
                low_res=_checked(trajectory.x).clamp(-1, 1),
            ),
            seed=trajectory.seed,
            stage_index=index,
        )

    def image(self, trajectory: Trajectory) -> NDArray[np.uint8]:
        """The image of a finished trajectory, (H, W, 3) uint8.

        Raises:
            ModelError: the trajectory ended in something that is no image.
        """
        return _to_pixels(trajectory.x)

    def preview(self, trajectory: Trajectory) -> NDArray[np.uint8]:
        """x̂₀ of a trajectory in flight, (h, w, 3) uint8, no larger than the base stage's."""
        x0 = trajectory.x if trajectory.x0 is None else trajectory.x0
        side = self.spec.base.resolution
        small = torch.nn.functional.adaptive_avg_pool2d(x0, (side, side))
        return _to_pixels(small)

    def rank(self, params: SamplingParams, images: Sequence[NDArray[np.uint8]]) -> Sequence[float]:
        """How well each image, (H, W, 3) uint8, fits the prompt by the pipeline's noised CLIP.

        Raises:
            UnsupportedSampling: the pipeline has none.
        """
        raise UnsupportedSampling(f"{self.spec.name} has no CLIP to rank images with.")

    def stage(self, trajectory: Trajectory) -> StageSpec:
        """The stage that a trajectory is in."""
        return self.spec.stages[trajectory.stage_index]

    def denoiser(self, stage: str) -> TextUNet:
        """A stage's network."""
        return self._stage_named(stage).network

    def parameterization(self, stage: str) -> Parameterization:
        """What a stage's network predicts."""
        return self._stage_named(stage).parameterization

    def _stage_named(self, name: str) -> "_Stage":
        return next(stage for stage in self._stages if stage.spec.name == name)


class _Stage:
    """One network with its process and the captions that it has read of late."""

    def __init__(
        self, spec: StageSpec, network: TextUNet, tokenizer: CaptionTokenizer, device: torch.device
    ) -> None:
        self.spec = spec
        self.network = network
        self.schedule = noise_schedule(spec.schedule, spec.timesteps)
        self.parameterization = Parameterization(
            prediction=spec.prediction, variance=spec.variance, schedule=self.schedule
        )
        self._tokenizer = tokenizer
        self._device = device
        self._captions: OrderedDict[str, Conditioning] = OrderedDict()
        self._empty = self._encode("")

    def plan(self, sampler: SamplerName, steps: int | str, eta: float) -> SamplingPlan:
        return build_plan(sampler, self.schedule, steps, eta=eta, variance=self.spec.variance)

    def initial_noise(self, seed: int, stage_index: int = 0) -> Tensor:
        side = self.spec.resolution
        return noise(seed, stage_index, INITIAL, (3, side, side)).to(self._device)

    def caption(self, text: str) -> Conditioning:
        """The features of a caption; those of the empty one and of recent ones are kept."""
        if not text:
            return self._empty
        if text not in self._captions:
            self._captions[text] = self._encode(text)
            if len(self._captions) > CAPTIONS_KEPT:
                self._captions.popitem(last=False)
        self._captions.move_to_end(text)
        return self._captions[text]

    @torch.no_grad()
    def _encode(self, text: str) -> Conditioning:
        tokens = self._tokenizer.encode(text)
        pooled, keys_values = self.network.encode_text(
            torch.tensor([tokens.ids], device=self._device),
            torch.tensor([tokens.mask], device=self._device),
        )
        return Conditioning(pooled=pooled[0], keys_values=keys_values[0])


def _lower_precision(network: TextUNet, dtype: torch.dtype) -> TextUNet:
    """Casts what carries the features; the caption's half of a network runs once and stays."""
    for blocks in (network.input_blocks, network.middle_block, network.output_blocks):
        for name, module in blocks.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d) and not name.endswith("encoder_kv"):
                module.to(dtype)
    return network


def _checked(x: Tensor) -> Tensor:
    if not bool(torch.isfinite(x).all()):
        raise ModelError("The network's numbers overflowed: try a lower guidance scale.")
    return x


def _to_pixels(x: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [-1, 1] to (H, W, 3) uint8."""
    levels = ((_checked(x).clamp(-1, 1) + 1) * 127.5).round()
    return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
