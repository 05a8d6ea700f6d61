"""The update itself: a weighted sum of every row's basis, and what a gradient adds to it.

Knows no network; the weights come from each trajectory's plan.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.diffusion.prediction import learned_log_variance, per_row
from model.diffusion.schedule import FloatArray
from model.sampling.table import HISTORY, GradientTarget
from model.sampling.trajectory import Trajectory


def updated(
    trajectories: Sequence[Trajectory],
    x_t: Tensor,
    x_0: Tensor,
    variances: Tensor,
    gradient: Tensor | None = None,
) -> Tensor:
    """(B, C, H, W) x_s of every row; tensors that no row uses are not even made.

    Args:
        trajectories: B of them.
        x_t: (B, C, H, W).
        x_0: (B, C, H, W) x̂₀, bounded, and moved by the gradient in the rows where it moves x̂₀.
        variances: (B, C, H, W) the network's, or (B, 0, H, W) where it has none.
        gradient: (B, C, H, W) scaled gradient of the guides; None: no row is guided by any.
    """
    weights = np.stack([each.plan.weights[each.step] for each in trajectories])  # (B, K)
    total = torch.zeros_like(x_t)
    for column in np.flatnonzero(np.any(weights, axis=0)):
        match column:
            case 0:
                plane = x_t
            case 1:
                plane = x_0
            case earlier if earlier < 2 + HISTORY:
                plane = _earlier_x0(trajectories, int(earlier) - 2)
            case _:
                plane = _noise(trajectories, weights[:, column], x_t)
                plane = plane * _standard_deviation(trajectories, variances, x_t)
        total = total + per_row(torch.from_numpy(weights[:, column]), x_t) * plane
    if gradient is None:
        return total
    return total + _pull(trajectories, variances, gradient)


def moved_images(
    x_0: Tensor,
    gradient: Tensor | None,
    target: GradientTarget,
    trajectories: Sequence[Trajectory],
    alpha_bar: Tensor,
) -> Tensor:
    """x̂₀ + (1 - ᾱ) / √ᾱ g in the rows whose plan has that target: see `GradientTarget`.

    Args:
        x_0: (B, C, H, W) x̂₀, before or after it is bounded.
        gradient: (B, C, H, W) scaled; None: no row is guided by any.
        target: the one whose turn it is.
        trajectories: B of them.
        alpha_bar: (B,) float64, of each row's timestep.
    """
    moves = torch.tensor([each.plan.table.gradient_moves == target for each in trajectories])
    if gradient is None or not moves.any():
        return x_0
    return x_0 + per_row(moves * (1 - alpha_bar) / alpha_bar.sqrt(), x_0) * gradient


def _pull(trajectories: Sequence[Trajectory], variances: Tensor, gradient: Tensor) -> Tensor:
    """σ² g in the rows whose plan moves x_s: Dhariwal & Nichol 2021, algorithm 1."""
    share = [each.plan.gradient_variance(each.step) for each in trajectories]
    if not any(share):
        return torch.zeros_like(gradient)
    factor = per_row(torch.tensor(share, dtype=torch.float64), gradient)
    return factor * _standard_deviation(trajectories, variances, gradient).square() * gradient


def _earlier_x0(trajectories: Sequence[Trajectory], age: int) -> Tensor:
    return torch.stack(
        [
            each.history[age] if age < len(each.history) else torch.zeros_like(each.x)
            for each in trajectories
        ]
    )


def _noise(trajectories: Sequence[Trajectory], weights: FloatArray, like: Tensor) -> Tensor:
    shape = tuple(like.shape[1:])
    planes = [
        each.noise(each.seed, each.stage_index, each.step, shape) if used else torch.zeros(shape)
        for each, used in zip(trajectories, weights.astype(bool), strict=True)
    ]
    return torch.stack(planes).to(like)


def _standard_deviation(
    trajectories: Sequence[Trajectory], variances: Tensor, like: Tensor
) -> Tensor:
    """σ per pixel where a plan leaves it to the network; 1, since log 1 = 0, in other rows."""
    logs = [each.plan.log_variances(each.step) for each in trajectories]
    if not any(log is not None for log in logs):
        return torch.ones_like(like[:, :1, :1, :1])
    assert variances.shape == like.shape, "this plan needs a network with learned variances"
    log_beta, log_beta_tilde = torch.tensor(
        [log or (0.0, 0.0) for log in logs], dtype=torch.float64
    ).unbind(1)
    return (learned_log_variance(variances, log_beta, log_beta_tilde) / 2).exp()
