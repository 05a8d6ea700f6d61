"""Which pipelines are loaded: each when it is first needed, the least recently used goes first.

Bounds are the operator's: how many, and how many bytes of weights. A pipeline with trajectories in
flight never goes; who they are is told with each call. Knows no jobs and no devices.
"""

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Self

import torch

from model.catalog import PipelineSpec
from model.checkpoints.checksums import check_pipeline
from model.errors import ModelError, UnsupportedSampling
from model.pipeline import Pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be loaded at a time; None: as much as there is.

    Attributes:
        count: pipelines.
        bytes: of weights, of all loaded pipelines together.
    """

    count: int | None = None
    bytes: int | None = None


class Shelf:
    """Pipelines by name, loaded and not.

    Args:
        specs: every pipeline that can be asked for.
        load: reads one, onto its device.
        size: bytes that one takes once it is loaded.
        bounds: how much may be loaded at a time.
        device: where they are loaded to, in words.
    """

    def __init__(
        self,
        specs: Mapping[str, PipelineSpec],
        load: Callable[[PipelineSpec], Pipeline],
        size: Callable[[PipelineSpec], int],
        bounds: Bounds,
        device: str,
    ) -> None:
        self._specs = dict(specs)
        self._load = load
        self._size = size
        self._bounds = bounds
        self.device = device
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()

    @classmethod
    def of(cls, pipelines: Mapping[str, Pipeline]) -> Self:
        """A shelf of pipelines that are loaded already, and stay."""
        specs = {name: pipeline.spec for name, pipeline in pipelines.items()}
        device = ", ".join(sorted({str(pipeline.device) for pipeline in pipelines.values()}))
        shelf = cls(specs, lambda spec: pipelines[spec.name], lambda _: 0, Bounds(), device)
        shelf._loaded.update(pipelines)
        return shelf

    @property
    def names(self) -> tuple[str, ...]:
        """Every pipeline that can be asked for."""
        return tuple(self._specs)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Those that are loaded, the least recently used first."""
        return tuple(self._loaded)

    def has_room(self, name: str, in_use: Collection[str]) -> bool:
        """Whether `get` would not have to wait for one of those in use to go.

        A pipeline that can't be loaded at all needs no room: `get` says why.
        """
        if name in self._loaded or name not in self._specs or not in_use:
            return True
        try:
            return self._fits(name, [each for each in self._loaded if each in in_use])
        except ModelError:
            return True

    def get(self, name: str, in_use: Collection[str] = ()) -> Pipeline:
        """A loaded pipeline; others may go for it.

        Args:
            name: which.
            in_use: pipelines with trajectories in flight.

        Raises:
            UnsupportedSampling: there is none of that name, or it is larger than the bounds allow.
            CheckpointError: its files are missing or damaged.
        """
        if name not in self._specs:
            known = ", ".join(sorted(self._specs)) or "none"
            raise UnsupportedSampling(f"There is no pipeline {name!r} here; there are: {known}.")
        if name not in self._loaded:
            check_pipeline(self._specs[name])
            self._make_room(name, in_use)
            self._loaded[name] = self._read(name, in_use)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _make_room(self, name: str, in_use: Collection[str]) -> None:
        """Lets go of idle pipelines, until this one fits."""
        if not self._fits(name, [each for each in self._loaded if each in in_use]):
            size = self._size(self._specs[name]) / 1e9
            raise UnsupportedSampling(
                f"The pipeline {name} takes {size:.2f} GB of weights, more than this worker may "
                "load beside what it is drawing: raise GLIDE_WORKER__MAX_LOADED_BYTES."
            )
        for idle in [each for each in self._loaded if each not in in_use]:
            if self._fits(name, self._loaded):
                return
            self._drop(idle)

    def _fits(self, name: str, beside: Collection[str]) -> bool:
        count, most = self._bounds.count, self._bounds.bytes
        if count is not None and len(beside) >= count:
            return False
        if most is None:
            return True
        return sum(self._size(self._specs[each]) for each in (*beside, name)) <= most

    def _read(self, name: str, in_use: Collection[str]) -> Pipeline:
        """Loads a pipeline; a full device is tried again once all idle ones have gone."""
        spec = self._specs[name]
        logger.info("loading model", extra={"model": name})
        try:
            pipeline = self._load(spec)
        except torch.OutOfMemoryError:
            for idle in [each for each in self._loaded if each not in in_use]:
                self._drop(idle)
            pipeline = self._load(spec)
        logger.info("model loaded", extra={"model": name, "loaded": len(self._loaded) + 1})
        return pipeline

    def _drop(self, name: str) -> None:
        del self._loaded[name]
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.info("model dropped", extra={"model": name})
