"""A sampler's whole run as a table, and the samplers by name.

Knows no tensors: `model.sampling.step` carries a plan out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.diffusion.schedule import FloatArray, NoiseSchedule, Variance
from model.diffusion.spacing import space_timesteps, trailing_timesteps
from model.errors import UnsupportedSampling
from model.params import SamplerName
from model.sampling.ddim import implicit
from model.sampling.ddpm import ancestral
from model.sampling.dpm_solver import second_order_multistep
from model.sampling.table import HISTORY, UpdateTable


class Sampler(Protocol):
    """A paper's formulas, evaluated for every step of a process."""

    def __call__(self, process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
        """The updates for the process of the run's own timesteps."""
        ...


SAMPLERS: Mapping[SamplerName, Sampler] = {
    SamplerName.DDPM: ancestral,
    SamplerName.DDIM: implicit,
    SamplerName.DPMPP_2M: second_order_multistep,
}

SPACINGS: Mapping[SamplerName, Callable[[int, int], tuple[int, ...]]] = {
    SamplerName.DDPM: space_timesteps,
    SamplerName.DDIM: space_timesteps,
    SamplerName.DPMPP_2M: trailing_timesteps,
}
"""How a sampler spreads a plain number of steps; a respacing string means the same to all."""


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """A run of S steps.

    Attributes:
        timesteps: (S,) int64, of the trained process, noisiest first.
        table: the updates, step by step.
    """

    timesteps: NDArray[np.int64]
    table: UpdateTable

    @property
    def steps(self) -> int:
        """S, the number of network evaluations."""
        return len(self.timesteps)

    @property
    def weights(self) -> FloatArray:
        """(S, K) float64 weights of [x_t, x̂₀, x̂₀ of the last three steps, noise]."""
        return self.table.weights

    def log_variances(self, step: int) -> tuple[float, float] | None:
        """(log β, log β̃) of a step where the network chooses the variance, else None."""
        if self.table.log_beta is None or self.table.log_beta_tilde is None:
            return None
        return float(self.table.log_beta[step]), float(self.table.log_beta_tilde[step])

    @cached_property
    def history(self) -> int:
        """How many earlier x̂₀ the run has to keep."""
        used = np.flatnonzero(np.any(self.weights[:, 2 : 2 + HISTORY], axis=0))
        return int(used.max(initial=-1)) + 1


def build_plan(
    sampler: SamplerName,
    schedule: NoiseSchedule,
    steps: int | str,
    *,
    eta: float = 0.0,
    variance: Variance = "fixed_small",
) -> SamplingPlan:
    """The run of a sampler over some timesteps of a trained process.

    Args:
        sampler: whose formulas.
        schedule: the trained process.
        steps: a step count, spread as the sampler likes it, or a respacing string.
        eta: DDIM's stochasticity, 0 … 1.
        variance: what the network's stage says of the variance; only DDPM uses it.

    Raises:
        UnsupportedSampling: an unknown sampler, or steps that the process can't give.
    """
    if sampler not in SAMPLERS:
        raise UnsupportedSampling(f"no sampler is called {sampler}")
    if isinstance(steps, int):
        grid = SPACINGS[sampler](steps, schedule.timesteps)
    else:
        grid = space_timesteps(steps, schedule.timesteps)
    table = SAMPLERS[sampler](schedule.respaced(grid), eta=eta, variance=variance)
    return SamplingPlan(np.array(grid[::-1], np.int64), table)
