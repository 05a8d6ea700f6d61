"""The training objective: the prediction's error, its weight by noise level, the variational bound.

Everything is per row, (B,), so that a trainer may weigh and log it. Knows no network and no
optimizer.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.diffusion.prediction import (
    Parameterization,
    Prediction,
    learned_log_variance,
    per_row,
    target,
    to_x0,
)
from model.diffusion.schedule import FloatArray, NoiseSchedule, Variance

_BOUND_SHARE = 1 / 1000  # Nichol & Dhariwal 2021, eq. 16: λ = 0.001 for a bound summed over T


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """A batch's losses, each (B,).

    Attributes:
        total: what to descend.
        simple: the prediction's mean squared error, unweighted.
        bound: the variational bound's term in bits per dimension; None with fixed variances.
    """

    total: Tensor
    simple: Tensor
    bound: Tensor | None


def gather(table: FloatArray, t: Tensor) -> Tensor:
    """(B,) float64 entries of a schedule's table at timesteps t, on the device of t."""
    return torch.from_numpy(table).to(t.device)[t]


def diffuse(x_0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ x₀ + √(1 - ᾱ) ε: Ho et al. 2020, eq. 4.

    Args:
        x_0: (B, C, H, W).
        noise: (B, C, H, W) standard normal.
        alpha_bar: (B,) float64.
    """
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return per_row(signal, x_0) * x_0 + per_row(sigma, x_0) * noise


def min_snr_weight(prediction: Prediction, alpha_bar: Tensor, gamma: float = 5.0) -> Tensor:
    """(B,) weights that make any prediction's error min(SNR, γ) times that of x₀.

    Hang et al. 2023, §3.4, arXiv:2303.09556.

    Args:
        prediction: what the error is of.
        alpha_bar: (B,) float64.
        gamma: the largest signal-to-noise ratio that counts.
    """
    snr = alpha_bar / (1 - alpha_bar)
    clamped = snr.clamp(max=gamma)
    match prediction:
        case "x0":
            return clamped
        case "epsilon":
            return clamped / snr
        case "v":
            return clamped / (snr + 1)


def training_losses(
    output: Tensor,
    x_0: Tensor,
    noise: Tensor,
    t: Tensor,
    parameterization: Parameterization,
    weight: Tensor | None = None,
) -> Losses:
    """L_hybrid = weight · L_simple + 0.001 L_vlb of an output at `diffuse(x_0, noise, ᾱ_t)`.

    The bound trains the variances alone: its gradient does not reach the prediction. Nichol &
    Dhariwal 2021, §3.1, arXiv:2102.09672.

    Args:
        output: (B, C or 2 C, H, W) of the network.
        x_0: (B, C, H, W) in [-1, 1].
        noise: (B, C, H, W).
        t: (B,) int64.
        parameterization: how `output` is to be read.
        weight: (B,) of L_simple, such as `min_snr_weight`; None is 1.
    """
    channels = x_0.shape[1]
    alpha_bar = gather(parameterization.schedule.alpha_bar, t)
    aim = target(parameterization.prediction, x_0, noise, alpha_bar)
    simple = (output[:, :channels] - aim).square().flatten(1).mean(1)
    total = simple if weight is None else weight.to(simple) * simple
    if parameterization.variance != "learned_range":
        return Losses(total, simple, None)
    frozen = torch.cat([output[:, :channels].detach(), output[:, channels:]], dim=1)
    x_t = diffuse(x_0, noise, alpha_bar)
    bound = variational_bound(frozen, x_0, x_t, t, parameterization)
    share = parameterization.schedule.timesteps * _BOUND_SHARE
    return Losses(total + share * bound, simple, bound)


def variational_bound(
    output: Tensor,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    parameterization: Parameterization,
    *,
    clip: bool = False,
) -> Tensor:
    """(B,) the bound's term at t, in bits per dimension: Ho et al. 2020, eq. 5.

    KL(q(x_{t-1} | x_t, x₀) ‖ p(x_{t-1} | x_t)) for t > 0, the likelihood of 8-bit pixels at t = 0.

    Args:
        output: (B, C or 2 C, H, W) of the network.
        x_0: (B, C, H, W) in [-1, 1].
        x_t: (B, C, H, W).
        t: (B,) int64.
        parameterization: how `output` is to be read.
        clip: whether x̂₀ is clamped to [-1, 1].
    """
    mean, log_variance = reverse_process(output, x_t, t, parameterization, clip=clip)
    return bound_term(mean, log_variance, x_0, x_t, t, parameterization.schedule)


def reverse_process(
    output: Tensor,
    x_t: Tensor,
    t: Tensor,
    parameterization: Parameterization,
    *,
    clip: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean and log σ² of the learned p(x_{t-1} | x_t), both (B, C, H, W) or broadcasting to it.

    Arguments as in `variational_bound`.
    """
    channels, schedule = x_t.shape[1], parameterization.schedule
    alpha_bar = gather(schedule.alpha_bar, t)
    x_0_hat = to_x0(parameterization.prediction, output[:, :channels], x_t, alpha_bar)
    mean = posterior_mean(schedule, x_0_hat.clamp(-1, 1) if clip else x_0_hat, x_t, t)
    return mean, _log_variance(schedule, parameterization.variance, t, output[:, channels:], x_t)


def bound_term(
    mean: Tensor, log_variance: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """(B,) the variational bound's term of a reverse process, in bits per dimension.

    Args:
        mean: (B, C, H, W) of p(x_{t-1} | x_t).
        log_variance: of it, broadcasting to (B, C, H, W).
        x_0: (B, C, H, W) in [-1, 1].
        x_t: (B, C, H, W).
        t: (B,) int64.
        schedule: the process.
    """
    true_mean = posterior_mean(schedule, x_0, x_t, t)
    true_log_variance = per_row(gather(schedule.posterior_log_variance_clipped, t), x_t)
    kl = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
    nll = _pixel_nll(x_0, mean, log_variance)
    nats = torch.where(per_row(t, x_t) == 0, nll, kl)
    return nats.flatten(1).mean(1) / math.log(2)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, mean_2: Tensor, log_variance_2: Tensor
) -> Tensor:
    """KL(N(mean, e^log_variance) ‖ N(mean_2, e^log_variance_2)), elementwise, in nats."""
    squared = (mean - mean_2).square() * (-log_variance_2).exp()
    ratio = log_variance - log_variance_2
    return 0.5 * (squared + ratio.exp() - ratio - 1)


def posterior_mean(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """(B, C, H, W) the mean of q(x_{t-1} | x_t, x₀): Ho et al. 2020, eq. 7."""
    coef1 = per_row(gather(schedule.posterior_mean_coef1, t), x_t)
    coef2 = per_row(gather(schedule.posterior_mean_coef2, t), x_t)
    return coef1 * x_0 + coef2 * x_t


def _log_variance(
    schedule: NoiseSchedule, variance: Variance, t: Tensor, fraction: Tensor, like: Tensor
) -> Tensor:
    """The reverse process' log σ²; at t = 0, where β̃ is 0 and β too large, it is log β̃_1."""
    log_beta_tilde = schedule.posterior_log_variance_clipped
    log_beta: FloatArray = np.log(schedule.betas)
    match variance:
        case "fixed_small":
            return per_row(gather(log_beta_tilde, t), like)
        case "fixed_large":
            return per_row(gather(np.append(log_beta_tilde[0], log_beta[1:]), t), like)
        case "learned_range":
            return learned_log_variance(fraction, gather(log_beta, t), gather(log_beta_tilde, t))


def _pixel_nll(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of the probability of x₀'s bin of 1/127.5 under a Gaussian; the outer bins are open.

    Ho et al. 2020, eq. 13, with tanh's approximation of the normal distribution.
    """
    inverse_sigma = (-0.5 * log_variance).exp()
    above = _normal_cdf(inverse_sigma * (x_0 - mean + 1 / 255))
    below = _normal_cdf(inverse_sigma * (x_0 - mean - 1 / 255))
    probability = torch.where(
        x_0 > 0.999, 1 - below, torch.where(x_0 < -0.999, above, above - below)
    )
    return -probability.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
