"""One image in flight: its noise, its position in its plan, and its snapshot.

Knows no network and no batch; `model.sampling.step` moves it on.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.errors import SnapshotError
from model.params import GuideName, Thresholding
from model.sampling.noise import noise
from model.sampling.plan import SamplingPlan

SNAPSHOT_VERSION = 1
_MAGIC = b"GLTR"
_PREFIX = struct.Struct("<4sI")  # magic, length of the header


class NoiseSource(Protocol):
    """Where a step's noise comes from: a pure function of its arguments."""

    def __call__(self, seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise of that shape."""
        ...


@dataclass(slots=True, eq=False, kw_only=True)
class Trajectory:
    """One image on its way from noise to x₀ through one stage.

    Attributes:
        plan: the run.
        x: (C, H, W) float32, the image now; at first the stage's initial noise.
        conditioning: what it is conditioned on; its `image` stays where its `mask` is 1.
        unconditional: the same for classifier-free guidance; None turns guidance off.
        guidance_scale: 1 turns guidance off.
        guidance_interval: see `SamplingParams`; of every kind of guidance.
        guide_scales: how strongly each guide's gradient acts; a guide that is not named, or has
            scale 0, is not asked.
        thresholding: what bounds x̂₀.
        dynamic_percentile: of dynamic thresholding, in (0, 1].
        seed: of its noise.
        stage_index: of its noise.
        step: index of the next step; `plan.steps` when it is done.
        history: x̂₀ of the last steps, newest first, as many as the plan uses.
        x0: (C, H, W), the last step's x̂₀ for previews; None before the first step.
        noise: where its noise comes from.
    """

    plan: SamplingPlan
    x: Tensor
    conditioning: Conditioning
    unconditional: Conditioning | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guide_scales: Mapping[GuideName, float] = field(default_factory=dict)
    thresholding: Thresholding = Thresholding.STATIC
    dynamic_percentile: float = 0.995
    seed: int = 0
    stage_index: int = 0
    step: int = 0
    history: tuple[Tensor, ...] = ()
    x0: Tensor | None = None
    noise: NoiseSource = noise

    @property
    def done(self) -> bool:
        """Whether `x` is the finished image."""
        return self.step >= self.plan.steps

    @property
    def timestep(self) -> int:
        """The next step's t in the trained process."""
        return int(self.plan.timesteps[self.step])

    def advance(self, x: Tensor, x0: Tensor) -> None:
        """Takes over a step's results.

        Args:
            x: (C, H, W) the image after the step.
            x0: (C, H, W) the step's x̂₀.
        """
        self.x, self.x0 = x, x0
        self.history = (x0, *self.history)[: self.plan.history]
        self.step += 1

    def to_snapshot(self) -> bytes:
        """Everything that a run prepared from the same request needs to go on from here.

        The magic `GLTR`, the header's length (4 bytes, little-endian), the header (JSON), and x
        and the history as little-endian float32.
        """
        assert self.x.dtype == torch.float32
        planes = torch.stack([self.x, *self.history]).cpu().numpy().astype("<f4").tobytes()
        header = self._identity() | {
            "step": self.step,
            "history": len(self.history),
            "crc32": zlib.crc32(planes),
        }
        encoded = json.dumps(header).encode()
        return _PREFIX.pack(_MAGIC, len(encoded)) + encoded + planes

    def restore(self, snapshot: bytes) -> None:
        """Goes to where the snapshot was taken; the next steps are those it would have taken.

        Raises:
            SnapshotError: the snapshot is damaged or of another run; this trajectory is unchanged.
        """
        header, planes = _parse(snapshot)
        for name, value in self._identity().items():
            if header.get(name) != value:
                raise SnapshotError(f"the snapshot's {name} is {header.get(name)}, not {value}")
        step, history = header.get("step"), header.get("history")
        size = 4 * self.x.numel()
        if type(step) is not int or not 0 <= step <= self.plan.steps:
            raise SnapshotError(f"the snapshot's step is {step} of {self.plan.steps}")
        if history != min(step, self.plan.history) or len(planes) != size * (1 + history):
            raise SnapshotError("the snapshot's images are not those that its run keeps")
        stacked = np.frombuffer(planes, "<f4").astype(np.float32).reshape(-1, *self.x.shape)
        self.x, *rest = torch.from_numpy(stacked).to(self.x.device).unbind()
        self.history, self.step, self.x0 = tuple(rest), step, None

    def _identity(self) -> dict[str, Any]:
        return {
            "version": SNAPSHOT_VERSION,
            "shape": list(self.x.shape),
            "seed": self.seed,
            "stage": self.stage_index,
            "timesteps": zlib.crc32(self.plan.timesteps.astype("<i8").tobytes()),
        }


def _parse(snapshot: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        magic, length = _PREFIX.unpack_from(snapshot)
        header = json.loads(snapshot[_PREFIX.size : _PREFIX.size + length])
    except (struct.error, ValueError) as error:
        raise SnapshotError(f"not a trajectory's snapshot: {error}") from error
    planes = snapshot[_PREFIX.size + length :]
    if magic != _MAGIC or not isinstance(header, dict):
        raise SnapshotError("not a trajectory's snapshot")
    if header.get("crc32") != zlib.crc32(planes):
        raise SnapshotError("the snapshot's images are damaged")
    return header, planes
