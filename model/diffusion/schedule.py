"""The trained forward process: ᾱ, σ, λ and the posterior's tables in float64.

Knows nothing of tensors, networks or samplers. Tables are indexed by timestep t = 0 … T - 1, t = 0
being the least noisy; notation of Ho et al. 2020, arXiv:2006.11239.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import UnsupportedSampling

FloatArray = NDArray[np.float64]
ScheduleName = Literal["cosine", "linear"]
Variance = Literal["fixed_small", "fixed_large", "learned_range"]
"""How large the variance of the learned reverse process is; see `model.sampling.ddpm`."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A forward process x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε.

    Attributes:
        alpha_bar: (T,) ᾱ_t, the share of the image's variance that is left; falling, in (0, 1).
        betas: (T,) β_t = 1 - ᾱ_t / ᾱ_{t-1}, the variances of the single steps. Kept beside ᾱ
            since neither follows from the other without loss: ᾱ comes close to 0, β to both ends.
    """

    alpha_bar: FloatArray
    betas: FloatArray

    def __post_init__(self) -> None:
        assert self.betas.ndim == 1
        assert self.betas.size > 0
        assert self.betas.shape == self.alpha_bar.shape
        assert np.all((self.betas > 0) & (self.betas < 1))

    @property
    def timesteps(self) -> int:
        """T, the length of the process."""
        return self.betas.size

    @cached_property
    def alpha_bar_prev(self) -> FloatArray:
        """(T,) ᾱ_{t-1}; the clean image's 1 at t = 0."""
        return np.append(1.0, self.alpha_bar[:-1])

    @cached_property
    def alpha_bar_next(self) -> FloatArray:
        """(T,) ᾱ_{t+1}; pure noise's 0 at t = T - 1."""
        return np.append(self.alpha_bar[1:], 0.0)

    @cached_property
    def sqrt_alpha_bar(self) -> FloatArray:
        """(T,) α_t of the DPM-Solver papers: the image's factor in x_t."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def sqrt_one_minus_alpha_bar(self) -> FloatArray:
        """(T,) σ_t of the DPM-Solver papers: the noise's factor in x_t."""
        return np.sqrt(1 - self.alpha_bar)

    @cached_property
    def lambdas(self) -> FloatArray:
        """(T,) λ_t = log(α_t / σ_t), half the log signal-to-noise ratio (Lu et al. 2022)."""
        return 0.5 * (np.log(self.alpha_bar) - np.log1p(-self.alpha_bar))

    @cached_property
    def snr(self) -> FloatArray:
        """(T,) ᾱ_t / (1 - ᾱ_t)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> FloatArray:
        """(T,) β̃_t, the variance of q(x_{t-1} | x_t, x_0); Ho et al. 2020, eq. 7."""
        return self.betas * self._posterior_share

    @cached_property
    def posterior_log_variance_clipped(self) -> FloatArray:
        """(T,) log β̃_t with log β̃_1 in place of the infinite entry 0.

        A process of one step has no β̃_1; its entry is log β_0.
        """
        if self.timesteps == 1:
            return np.log(self.betas)
        log_variance: FloatArray = np.log(self.posterior_variance[1:])
        return np.append(log_variance[0], log_variance)

    @cached_property
    def posterior_mean_coef1(self) -> FloatArray:
        """(T,) the factor of x_0 in the mean of q(x_{t-1} | x_t, x_0); Ho et al. 2020, eq. 7."""
        return self.betas * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_mean_coef2(self) -> FloatArray:
        """(T,) the factor of x_t in the mean of q(x_{t-1} | x_t, x_0); Ho et al. 2020, eq. 7."""
        return np.sqrt(self.alpha_bar / self.alpha_bar_prev) * self._posterior_share

    @cached_property
    def _posterior_share(self) -> FloatArray:
        return (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    def respaced(self, timestep_map: tuple[int, ...]) -> "NoiseSchedule":
        """The process that visits only some timesteps of this one.

        Nichol & Dhariwal 2021, §4, arXiv:2102.09672: β'_i = 1 - ᾱ_{t_i} / ᾱ_{t_{i-1}}.

        Args:
            timestep_map: ascending, distinct timesteps of this process.
        """
        kept = self.alpha_bar[list(timestep_map)]
        return NoiseSchedule(kept, 1 - kept / np.append(1.0, kept[:-1]))


def noise_schedule(name: ScheduleName, timesteps: int) -> NoiseSchedule:
    """The process of that name and length.

    `linear`: Ho et al. 2020, §4, scaled to T steps. `cosine`: Nichol & Dhariwal 2021, eq. 17, with
    β at most 0.999.

    Raises:
        UnsupportedSampling: an unknown name, or a length at which some β is not below 1.
    """
    match name:
        case "linear":
            betas = _linear_betas(timesteps)
        case "cosine":
            betas = _cosine_betas(timesteps)
        case _:
            raise UnsupportedSampling(f"no noise schedule is called {name}")
    return NoiseSchedule(np.cumprod(1 - betas, dtype=np.float64), betas)


def _linear_betas(timesteps: int) -> FloatArray:
    if timesteps <= 20:
        raise UnsupportedSampling("a linear noise schedule needs more than 20 timesteps")
    scale = 1000 / timesteps
    return np.linspace(scale * 1e-4, scale * 0.02, timesteps)


def _cosine_betas(timesteps: int) -> FloatArray:
    if timesteps < 1:
        raise UnsupportedSampling("a noise schedule needs at least one timestep")
    u = np.arange(timesteps + 1, dtype=np.float64) / timesteps
    f: FloatArray = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)
