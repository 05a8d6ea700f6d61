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
from model.params import SamplerName, steps_at_strength
from model.sampling import dpm_solver, unipc
from model.sampling.ddim import encoding, implicit
from model.sampling.ddpm import ancestral
from model.sampling.table import HISTORY, UpdateTable


class Sampler(Protocol):
    """A paper's formulas, evaluated for every step of a process."""

    def __call__(self, process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
        """The updates for the process of the run's own timesteps."""
        ...


SAMPLERS: Mapping[SamplerName, Sampler] = {
    SamplerName.DDPM: ancestral,
    SamplerName.DDIM: implicit,
    SamplerName.DPMPP_1: dpm_solver.first_order,
    SamplerName.DPMPP_2M: dpm_solver.second_order_multistep,
    SamplerName.DPMPP_3M: dpm_solver.third_order_multistep,
    SamplerName.DPMPP_2M_SDE: dpm_solver.second_order_multistep_sde,
    SamplerName.UNIPC: unipc.second_order,
    SamplerName.UNIPC_3: unipc.third_order,
}

SPACINGS: Mapping[SamplerName, Callable[[int, int], tuple[int, ...]]] = {
    SamplerName.DDPM: space_timesteps,
    SamplerName.DDIM: space_timesteps,
    SamplerName.DPMPP_1: trailing_timesteps,
    SamplerName.DPMPP_2M: trailing_timesteps,
    SamplerName.DPMPP_3M: trailing_timesteps,
    SamplerName.DPMPP_2M_SDE: trailing_timesteps,
    SamplerName.UNIPC: trailing_timesteps,
    SamplerName.UNIPC_3: trailing_timesteps,
}
"""How a sampler spreads a plain number of steps; a respacing string means the same to all."""


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """A run of S steps.

    Attributes:
        timesteps: (S,) int64, of the trained process: noisiest first, or, where an image is
            encoded, noisiest last.
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

    def gradient_variance(self, step: int) -> float:
        """σ² of a step whose x_s a gradient moves, 0 where it moves x̂₀; see `GradientTarget`."""
        variance = self.table.gradient_variance
        return 0.0 if variance is None else float(variance[step])

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
    strength: float = 1.0,
) -> SamplingPlan:
    """The run of a sampler over some timesteps of a trained process.

    With a strength below 1 it is the end of that run, ⌈strength · S⌉ steps of it, to be started
    from a picture (Meng et al. 2022, arXiv:2108.01073; `model.sampling.start`).

    Args:
        sampler: whose formulas.
        schedule: the trained process.
        steps: a step count, spread as the sampler likes it, or a respacing string.
        eta: DDIM's stochasticity, 0 … 1.
        variance: what the network's stage says of the variance; only DDPM uses it.
        strength: the share of the process that is run, in (0, 1].

    Raises:
        UnsupportedSampling: an unknown sampler, steps that the process can't give, or a strength
            out of its range.
    """
    if sampler not in SAMPLERS:
        raise UnsupportedSampling(f"no sampler is called {sampler}")
    if not 0 < strength <= 1:
        raise UnsupportedSampling(f"a strength is above 0 and at most 1, not {strength}")
    if isinstance(steps, int):
        grid = SPACINGS[sampler](steps, schedule.timesteps)
    else:
        grid = space_timesteps(steps, schedule.timesteps)
    grid = grid[: steps_at_strength(len(grid), strength)]
    table = SAMPLERS[sampler](schedule.respaced(grid), eta=eta, variance=variance)
    return SamplingPlan(np.array(grid[::-1], np.int64), table)


def encoding_plan(schedule: NoiseSchedule, steps: int | str) -> SamplingPlan:
    """The run from an image to the noise that DDIM over the same timesteps makes it of.

    Args:
        schedule: the trained process.
        steps: a step count, spread as DDIM does, or a respacing string.

    Raises:
        UnsupportedSampling: steps that the process can't give.
    """
    grid = space_timesteps(steps, schedule.timesteps)
    return SamplingPlan(np.array(grid, np.int64), encoding(schedule.respaced(grid)))
