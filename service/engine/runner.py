"""ModelRunner: the pipelines on their device, as the engine drives them.

The only place in the service that calls the denoising step. Knows no jobs, no queue and no time.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from model.catalog import PipelineSpec, step_work, total_steps
from model.checkpoints.survey import footprint
from model.errors import UnsupportedSampling
from model.imaging import Pictures
from model.params import SamplingParams
from model.pipeline import Pipeline
from model.ranking import FolderClip
from model.sampling.step import denoise_step
from model.sampling.trajectory import Trajectory
from service.engine.scheduler import BatchKey
from service.engine.shelf import Bounds, Shelf

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
NO_BOUNDS = Bounds()


class ModelRunner:
    """Pipelines by name, on one device.

    Args:
        pipelines: a shelf that loads them, or pipelines that are loaded already.
    """

    def __init__(self, pipelines: Shelf | Mapping[str, Pipeline]) -> None:
        self._shelf = pipelines if isinstance(pipelines, Shelf) else Shelf.of(pipelines)

    @classmethod
    def load(
        cls,
        specs: Iterable[PipelineSpec],
        device: str,
        dtype: str,
        bounds: Bounds = NO_BOUNDS,
        clip: Path | None = None,
    ) -> Self:
        """A runner that loads each pipeline when a job first asks for it.

        Args:
            specs: which pipelines there are.
            device: `auto`, or a torch device such as `cpu` or `cuda:1`.
            dtype: of the networks, a name of `DTYPES`.
            bounds: how much may be loaded at a time.
            clip: folder of a CLIP that ranks the images of `best_of` for all of them; it is
                loaded at once, and counts for no bound.

        Raises:
            UnsupportedSampling: this machine has no such device.
            CheckpointError: the folder holds no CLIP.
        """
        place = pick_device(device)
        ranker = None if clip is None else FolderClip.load(clip, place)
        shelf = Shelf(
            {spec.name: spec for spec in specs},
            lambda spec: Pipeline.load(spec, place, DTYPES[dtype], ranker),
            lambda spec: footprint(spec).bytes[dtype],
            bounds,
            str(place),
        )
        return cls(shelf)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the pipelines that can be asked for."""
        return self._shelf.names

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of those that are loaded, the least recently used first."""
        return self._shelf.loaded

    @property
    def device(self) -> str:
        """Where they are, such as `cpu` or `cuda:0`."""
        return self._shelf.device

    def has_room(self, name: str, in_use: Collection[str]) -> bool:
        """Whether a pipeline is loaded, or can be while those in use stay."""
        return self._shelf.has_room(name, in_use)

    def require(self, name: str, in_use: Collection[str]) -> None:
        """Loads a pipeline unless it is loaded; those in use stay.

        Raises:
            CheckpointError: a weight file is missing, damaged or of another shape.
            UnsupportedSampling: there is no such pipeline, or no room for it.
        """
        self._shelf.get(name, in_use)

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
        return total_steps(self._pipeline(params).spec, replace(params, n=1, best_of=None))

    def key(self, params: SamplingParams, trajectory: Trajectory) -> BatchKey:
        """Whom this trajectory may share its next step with."""
        stage = self._pipeline(params).stage(trajectory)
        return BatchKey(params.model, stage.name, stage.resolution, stage.resolution)

    def work(self, params: SamplingParams, trajectory: Trajectory) -> int:
        """What one step of this trajectory costs, in the unit of `model.catalog.total_work`."""
        return step_work(self._pipeline(params).stage(trajectory), params)

    def run(self, key: BatchKey, trajectories: Sequence[Trajectory]) -> int:
        """Advances the trajectories by one step; returns the rows of the network call."""
        pipeline = self._shelf.get(key.pipeline)
        report = denoise_step(
            pipeline.denoiser(key.stage),
            trajectories,
            pipeline.parameterization(key.stage),
            pipeline.guides(key.stage),
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
        return self._shelf.get(params.model)


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
