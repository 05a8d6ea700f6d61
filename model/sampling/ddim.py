"""DDIM and its reverse: Song, Meng & Ermon 2021, arXiv:2010.02502.

Holds the paper's formulas; knows no tensors.
"""

import numpy as np

from model.diffusion.schedule import NoiseSchedule, Variance
from model.sampling.table import NOISE, X0, X_T, UpdateTable


def implicit(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """Song et al. 2021, eq. 12 with σ of eq. 16, and ε̂ that fits the bounded x̂₀.

    Args:
        process: the process of the run's own timesteps.
        eta: 0 is deterministic, 1 as stochastic as ancestral sampling.
        variance: not a parameter of this sampler.
    """
    rows = []
    for t in reversed(range(process.timesteps)):
        a, a_prev = process.alpha_bar[t], process.alpha_bar_prev[t]
        eps = (X_T - np.sqrt(a) * X0) / np.sqrt(1 - a)
        sigma = eta * np.sqrt((1 - a_prev) / (1 - a)) * np.sqrt(1 - a / a_prev)
        # 1 - a_prev - sigma**2 without the cancellation that it ends in at η = 1
        rest = (1 - a_prev) * (1 - eta**2 + eta**2 * (a / a_prev) * (1 - a_prev) / (1 - a))
        rows.append(np.sqrt(a_prev) * X0 + np.sqrt(rest) * eps + sigma * NOISE)
    return UpdateTable(np.array(rows), gradient_moves="bounded_x0")


def encoding(process: NoiseSchedule) -> UpdateTable:
    """From an image to the noise that `implicit` with η = 0 makes it of: §4.3 and appendix F.

    The ordinary differential equation run backwards: ε̂ of x_t serves the step to x_{t+1}, so a
    picture comes back the better the more steps there are. The first step takes the image for
    x_0 of the process, the last one ends in pure noise, ᾱ = 0.

    Args:
        process: the process of the run's own timesteps.
    """
    rows = []
    for a, a_next in zip(process.alpha_bar, process.alpha_bar_next, strict=True):
        eps = (X_T - np.sqrt(a) * X0) / np.sqrt(1 - a)
        rows.append(np.sqrt(a_next) * X0 + np.sqrt(1 - a_next) * eps)
    return UpdateTable(np.array(rows), gradient_moves="bounded_x0")
