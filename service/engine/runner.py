"""ModelRunner: the pipelines on their device, as the engine drives them.

The only place in the service that calls the denoising step. Knows no jobs, no queue and no time.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from model.catalog import PipelineSpec, total_steps
from model.errors import UnsupportedSampling
from model.imaging import Pictures
from model.params import SamplingParams
from model.pipeline import Pipeline
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from service.engine.scheduler import BatchKey

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class ModelRunner:
    """Loaded pipelines by name."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = dict(pipelines)

    @classmethod
    def load(cls, specs: Iterable[PipelineSpec], device: str, dtype: str) -> "ModelRunner":
        """Loads pipelines.

        Args:
            specs: which.
            device: `auto`, or a torch device such as `cpu` or `cuda:1`.
            dtype: of the networks, a name of `DTYPES`.

        Raises:
            CheckpointError: a weight file is missing, damaged or of another shape.
            UnsupportedSampling: this machine has no such device.
        """
        place = pick_device(device)
        return cls({spec.name: Pipeline.load(spec, place, DTYPES[dtype]) for spec in specs})

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the loaded pipelines."""
        return tuple(self._pipelines)

    @property
    def device(self) -> str:
        """Where they are, such as `cpu` or `cuda:0`."""
        return ", ".join(sorted({str(pipeline.device) for pipeline in self._pipelines.values()}))

    def prepare(
        self,
        params: SamplingParams,
        skip: Collection[int] = (),
        pictures: Pictures | None = None,
    ) -> list[Trajectory]:
        """One trajectory for each drawn image of the request, without those of `skip`.

        Raises:
            ModelError: the request can't be served.
        """
        return self._pipeline(params).prepare(params, skip, pictures)

    def steps_per_image(self, params: SamplingParams) -> int:
        """Network steps of one image through all its stages."""
        return total_steps(self._pipeline(params).spec, replace(params, n=1))

    def key(self, params: SamplingParams, trajectory: Trajectory) -> BatchKey:
        """Whom this trajectory may share its next step with."""
        stage = self._pipeline(params).stage(trajectory)
        return BatchKey(params.model, stage.name, stage.resolution, stage.resolution)

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        """Advances the trajectories by one step; returns the rows of the network call."""
        pipeline = self._pipelines[key.pipeline]
        report = denoise_step(
            pipeline.denoiser(key.stage), trajectories, pipeline.parameterization(key.stage)
        )
        return report.rows

    def promote(
        self, params: SamplingParams, trajectory: Trajectory, pictures: Pictures | None = None
    ) -> Trajectory | None:
        """The next stage's trajectory of a finished one, or None when the image is finished."""
        return self._pipeline(params).promote(trajectory, params, pictures)

    def image(self, params: SamplingParams, trajectory: Trajectory) -> NDArray[np.uint8]:
        """The finished image, (H, W, 3) uint8."""
        return self._pipeline(params).image(trajectory)

    def rank(self, params: SamplingParams, images: Sequence[NDArray[np.uint8]]) -> Sequence[float]:
        """How well each image, (H, W, 3) uint8, fits the prompt; higher is better."""
        return self._pipeline(params).rank(params, images)

    def preview(self, params: SamplingParams, trajectory: Trajectory) -> NDArray[np.uint8]:
        """What the image looks like so far, (h, w, 3) uint8, no larger than the base stage's."""
        return self._pipeline(params).preview(trajectory)

    def _pipeline(self, params: SamplingParams) -> Pipeline:
        try:
            return self._pipelines[params.model]
        except KeyError:
            known = ", ".join(sorted(self._pipelines)) or "none"
            raise UnsupportedSampling(
                f"There is no pipeline {params.model!r} here; there are: {known}."
            ) from None


def pick_device(name: str) -> torch.device:
    """The torch device of a name; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        UnsupportedSampling: no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedSampling(f"This machine has no device {name!r}: {reason}") from error
    return device
