"""What a network's output means: ε ↔ x₀ ↔ v, bounds on x̂₀, learned variances.

Works on rows (B, C, H, W) with one number a row; knows no network and no sampler.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.diffusion.schedule import NoiseSchedule, Variance
from model.params import Thresholding

Prediction = Literal["epsilon", "x0", "v"]


@dataclass(frozen=True, slots=True, eq=False)
class Parameterization:
    """How a stage's network is to be read.

    Attributes:
        prediction: what its first C channels are.
        variance: `learned_range` if C more channels are variances.
        schedule: the process it was trained on.
    """

    prediction: Prediction
    variance: Variance
    schedule: NoiseSchedule


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Shapes (B,) numbers to (B, 1, 1, …) in the dtype and on the device of `like`."""
    return values.to(like).reshape(-1, *(1,) * (like.ndim - 1))


def to_x0(prediction: Prediction, output: Tensor, x_t: Tensor, alpha_bar: Tensor) -> Tensor:
    """x̂₀ of a network's output.

    Args:
        prediction: what `output` is. `v` = √ᾱ ε - √(1 - ᾱ) x₀ (Salimans & Ho 2022,
            arXiv:2202.00512).
        output: (B, C, H, W).
        x_t: (B, C, H, W).
        alpha_bar: (B,) float64, ᾱ of each row's timestep.
    """
    match prediction:
        case "epsilon":
            signal, noise = (1 / alpha_bar).sqrt(), (1 / alpha_bar - 1).sqrt()
            return per_row(signal, x_t) * x_t - per_row(noise, x_t) * output
        case "v":
            signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            return per_row(signal, x_t) * x_t - per_row(noise, x_t) * output
        case "x0":
            return output


def to_epsilon(prediction: Prediction, output: Tensor, x_t: Tensor, alpha_bar: Tensor) -> Tensor:
    """ε̂ of a network's output; arguments as in `to_x0`."""
    match prediction:
        case "epsilon":
            return output
        case "v":
            signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            return per_row(noise, x_t) * x_t + per_row(signal, x_t) * output
        case "x0":
            x_t_factor, x0_factor = (1 / (1 - alpha_bar)).sqrt(), (1 / (1 / alpha_bar - 1)).sqrt()
            return per_row(x_t_factor, x_t) * x_t - per_row(x0_factor, x_t) * output


def target(prediction: Prediction, x_0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a network of that prediction should say of x_t = √ᾱ x₀ + √(1 - ᾱ) ε."""
    match prediction:
        case "epsilon":
            return noise
        case "v":
            signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            return per_row(signal, x_0) * noise - per_row(sigma, x_0) * x_0
        case "x0":
            return x_0


def learned_log_variance(fraction: Tensor, log_beta: Tensor, log_beta_tilde: Tensor) -> Tensor:
    """The log σ² of every pixel, between log β̃ and log β: Nichol & Dhariwal 2021, eq. 15.

    Args:
        fraction: (B, C, H, W) a network's variance channels; -1 is log β̃, 1 is log β, and values
            beyond are not bounded.
        log_beta: (B,) float64.
        log_beta_tilde: (B,) float64.
    """
    f = (fraction + 1) / 2
    return f * per_row(log_beta, fraction) + (1 - f) * per_row(log_beta_tilde, fraction)


def threshold(
    x_0: Tensor,
    modes: Sequence[Thresholding],
    percentiles: Sequence[float],
    measured: Tensor | None = None,
) -> Tensor:
    """Bounds x̂₀ row by row.

    Static: clamped to [-1, 1]. Dynamic: clamped to [-s, s] and divided by s, where s is the row's
    quantile of |x̂₀|, at least 1 (Saharia et al. 2022, §2.3, arXiv:2205.11487).

    Args:
        x_0: (B, C, H, W).
        modes: one for each row.
        percentiles: the quantile of each row, in (0, 1]; read where the mode is dynamic.
        measured: (B, C, H, W) whose quantile it is; None: of x_0 itself.
    """
    limits = torch.tensor([math.inf if mode is Thresholding.NONE else 1.0 for mode in modes])
    bound = per_row(limits, x_0)
    dynamic = [row for row, mode in enumerate(modes) if mode is Thresholding.DYNAMIC]
    if not dynamic:
        return torch.minimum(torch.maximum(x_0, -bound), bound)
    sizes = (x_0 if measured is None else measured)[dynamic].abs().flatten(1)
    s = quantile(sizes, [percentiles[row] for row in dynamic]).clamp(min=1)
    divisor = torch.ones_like(bound)
    divisor[dynamic] = per_row(s, x_0)
    bound = bound * divisor
    return torch.minimum(torch.maximum(x_0, -bound), bound) / divisor


def quantile(values: Tensor, percentiles: Sequence[float]) -> Tensor:
    """(B,) the ⌈p n⌉-th smallest of each row's n values: the inverse of its empirical distribution.

    No interpolation, so the result is one of the values whatever the batch; and only the largest
    values are sorted, which is few of them for p near 1.

    Args:
        values: (B, n).
        percentiles: p of each row, in (0, 1].
    """
    n = values.shape[1]
    from_top = [n - min(max(math.ceil(p * n), 1), n) for p in percentiles]
    largest = values.topk(max(from_top) + 1, dim=1).values
    index = torch.tensor(from_top, device=values.device)[:, None]
    return largest.gather(1, index).squeeze(1)
