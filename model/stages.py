"""Stage: one network of a cascade with its process and the captions it has read of late.

Knows no request and no other stage.
"""

import torch
from torch import Tensor

from model.catalog import PipelineSpec, StageSpec
from model.checkpoints import native
from model.checkpoints.openai import load_openai
from model.conditioning import Conditioning
from model.diffusion.prediction import Parameterization
from model.diffusion.schedule import noise_schedule
from model.errors import CheckpointError
from model.networks.text_unet import TextUNet
from model.networks.unet import UNet
from model.params import SamplerName
from model.sampling.noise import INITIAL
from model.sampling.plan import SamplingPlan, build_plan
from model.sampling.trajectory import NoiseSource
from model.text.recent import RecentCaptions
from model.text.tokenizer import CaptionTokenizer


def load_network(spec: PipelineSpec, stage: StageSpec, dtype: torch.dtype) -> UNet:
    """The network of a stage on the CPU, in evaluation mode, from the project's files or OpenAI's.

    Args:
        spec: the pipeline.
        stage: one of its stages.
        dtype: of what may be narrow, see `model.networks.precision`.

    Raises:
        CheckpointError: a file is missing, damaged or of another network.
    """
    paths = [spec.folder / name for name in stage.weights]
    if not paths:
        raise CheckpointError(f"the pipeline {spec.name} names no weights for {stage.name}")
    if stage.architecture is None:
        network = native.load_network(paths, dtype)
    elif len(paths) == 1:
        network = load_openai(paths[0], stage.architecture, dtype)
    else:
        raise CheckpointError(
            f"a network of OpenAI's is one file; {spec.name}/{stage.name} names {len(paths)}"
        )
    if not isinstance(network, UNet) or isinstance(network, TextUNet) != (spec.context > 0):
        raise CheckpointError(f"{', '.join(stage.weights)}: no network for {spec.name}")
    return network


class Stage:
    """A loaded stage.

    Args:
        spec: what it is.
        index: its place in the cascade, and in its noise.
        network: on `device`, in evaluation mode.
        tokenizer: captions to ids; None for a network that reads none.
        device: where the network is.
    """

    def __init__(
        self,
        spec: StageSpec,
        index: int,
        network: UNet,
        tokenizer: CaptionTokenizer | None,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.index = index
        self.network = network
        self.schedule = noise_schedule(spec.schedule, spec.timesteps)
        self.parameterization = Parameterization(
            prediction=spec.prediction, variance=spec.variance, schedule=self.schedule
        )
        self._tokenizer = tokenizer
        self._device = device
        self._captions: RecentCaptions[Conditioning] = RecentCaptions()

    def plan(
        self, sampler: SamplerName, steps: int | str, eta: float = 0.0, strength: float = 1.0
    ) -> SamplingPlan:
        """The run that a request asks for.

        Raises:
            UnsupportedSampling: steps that the process can't give.
        """
        return build_plan(
            sampler,
            self.schedule,
            steps,
            eta=eta,
            variance=self.spec.variance,
            strength=strength,
        )

    def initial_noise(self, seed: int, source: NoiseSource, temperature: float) -> Tensor:
        """(3, side, side) what a run from pure noise starts from."""
        side = self.spec.resolution
        drawn = source(seed, self.index, INITIAL, (3, side, side))
        return (drawn * temperature).to(self._device)

    def caption(self, text: str) -> Conditioning:
        """What the network knows of a caption; nothing where it reads none."""
        return self._captions.get(text, self._read)

    @torch.no_grad()
    def _read(self, text: str) -> Conditioning:
        if self._tokenizer is None or not isinstance(self.network, TextUNet):
            return Conditioning()
        tokens = self._tokenizer.encode(text)
        pooled, keys_values = self.network.encode_text(
            torch.tensor([tokens.ids], device=self._device),
            torch.tensor([tokens.mask], device=self._device),
        )
        return Conditioning(pooled=pooled[0], keys_values=keys_values[0])
