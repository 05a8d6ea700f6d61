"""Ancestral sampling: Ho et al. 2020, arXiv:2006.11239; learned variances: Nichol & Dhariwal 2021.

Holds the paper's formulas; knows no tensors.
"""

import numpy as np

from model.diffusion.schedule import FloatArray, NoiseSchedule, Variance
from model.sampling.table import NOISE, X0, X_T, UpdateTable


def ancestral(process: NoiseSchedule, *, eta: float, variance: Variance) -> UpdateTable:
    """x_{t-1} ~ N(μ̃(x_t, x̂₀), σ²): Ho et al. 2020, eq. 7 and algorithm 2; no noise at the end.

    Args:
        process: the process of the run's own timesteps.
        eta: not a parameter of this sampler.
        variance: σ² is β̃ (`fixed_small`), β (`fixed_large`) or lies between the two, pixel by
            pixel (`learned_range`).
    """
    sigma = _sigma(process, variance)
    rows = []
    for t in reversed(range(process.timesteps)):
        mean = process.posterior_mean_coef1[t] * X0 + process.posterior_mean_coef2[t] * X_T
        rows.append(mean + (t > 0) * sigma[t] * NOISE)
    weights = np.array(rows)
    gradient_variance = _gradient_variance(process, variance)[::-1].copy()
    if variance != "learned_range":
        return UpdateTable(weights, gradient_moves="x_s", gradient_variance=gradient_variance)
    log_beta, log_beta_tilde = np.log(process.betas), process.posterior_log_variance_clipped
    return UpdateTable(
        weights, log_beta[::-1].copy(), log_beta_tilde[::-1].copy(), "x_s", gradient_variance
    )


def _sigma(process: NoiseSchedule, variance: Variance) -> FloatArray:
    match variance:
        case "fixed_small":
            return np.sqrt(process.posterior_variance)
        case "fixed_large":
            return np.sqrt(process.betas)
        case "learned_range":
            return np.ones(process.timesteps)


def _gradient_variance(process: NoiseSchedule, variance: Variance) -> FloatArray:
    """σ² of x_{t-1} for a gradient; at t = 0, which draws no noise, β counts as β̃_1."""
    if variance != "fixed_large":
        return _sigma(process, variance) ** 2
    return np.append(np.exp(process.posterior_log_variance_clipped[0]), process.betas[1:])
