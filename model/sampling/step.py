"""The one denoising step, used by serving, the command line, training previews and evaluation.

Any set of trajectories of one stage and size shares it: samplers, step counts, positions, guidance
and thresholding are numbers of a row here. Knows no network and no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.conditioning import Conditioning, stack
from model.diffusion.prediction import (
    Parameterization,
    learned_log_variance,
    per_row,
    threshold,
    to_x0,
)
from model.diffusion.schedule import FloatArray
from model.params import Thresholding
from model.sampling.guidance import GuidedRows, active_scale, guide, guided_rows
from model.sampling.table import HISTORY
from model.sampling.trajectory import Trajectory


class Denoiser(Protocol):
    """A network that says something of x₀ given x_t."""

    def __call__(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The prediction, and the variance's channels where the network has them.

        Args:
            x_t: (R, C, H, W).
            t: (R,) int64 timesteps of the trained process.
            conditioning: of R rows.

        Returns:
            (R, C, H, W), or (R, 2 C, H, W) with learned variances.
        """
        ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did.

    Attributes:
        trajectories: how many moved on by one step.
        rows: how many rows the network call had.
    """

    trajectories: int
    rows: int


@torch.no_grad()
def denoise_step(
    denoiser: Denoiser, trajectories: Sequence[Trajectory], parameterization: Parameterization
) -> StepReport:
    """Moves every trajectory on by one step with one call of the network.

    Args:
        denoiser: the stage's network.
        trajectories: of one stage, one size and one device; none done, none twice.
        parameterization: of the stage.
    """
    assert not any(trajectory.done for trajectory in trajectories)
    x_t = torch.stack([trajectory.x for trajectory in trajectories])  # (B, C, H, W)
    t = torch.tensor([trajectory.timestep for trajectory in trajectories])
    rows = _rows(trajectories, parameterization.schedule.timesteps)
    source = torch.tensor(rows.source)
    output = denoiser(
        x_t[source.to(x_t.device)], t[source].to(x_t.device), stack(rows.conditioning)
    )
    channels = x_t.shape[1]
    output = guide(output.to(x_t.dtype), rows, channels)  # (B, C or 2 C, H, W)
    alpha_bar = torch.from_numpy(parameterization.schedule.alpha_bar)[t]
    x_0 = to_x0(parameterization.prediction, output[:, :channels], x_t, alpha_bar)
    x_0 = _bounded(x_0, trajectories)
    updated = _update(trajectories, x_t, x_0, output[:, channels:])
    for trajectory, x, image in zip(trajectories, updated, x_0, strict=True):
        trajectory.advance(x, image)
    return StepReport(trajectories=len(trajectories), rows=len(rows.source))


def _rows(trajectories: Sequence[Trajectory], timesteps: int) -> GuidedRows:
    return guided_rows(
        [trajectory.conditioning for trajectory in trajectories],
        [trajectory.unconditional for trajectory in trajectories],
        [
            active_scale(each.guidance_scale, each.guidance_interval, each.timestep, timesteps)
            for each in trajectories
        ],
    )


def _bounded(x_0: Tensor, trajectories: Sequence[Trajectory]) -> Tensor:
    """x̂₀ with the known pixels put in, then bounded.

    GLIDE's order. Dynamic thresholding divides x̂₀, so its rows get their known pixels once more.
    """
    known = stack(
        [
            Conditioning(image=trajectory.conditioning.image, mask=trajectory.conditioning.mask)
            for trajectory in trajectories
        ]
    )
    modes = [trajectory.thresholding for trajectory in trajectories]
    percentiles = [trajectory.dynamic_percentile for trajectory in trajectories]
    bounded = threshold(_keep_known(x_0, known), modes, percentiles)
    if known.mask is None or Thresholding.DYNAMIC not in modes:
        return bounded
    dynamic = torch.tensor([mode is Thresholding.DYNAMIC for mode in modes])
    return torch.where(per_row(dynamic, x_0).bool(), _keep_known(bounded, known), bounded)


def _keep_known(x_0: Tensor, known: Conditioning) -> Tensor:
    if known.image is None or known.mask is None:
        return x_0
    return x_0 * (1 - known.mask) + known.image * known.mask


def _update(
    trajectories: Sequence[Trajectory], x_t: Tensor, x_0: Tensor, variances: Tensor
) -> Tensor:
    """The weighted sum of every row's basis; tensors that no row uses are not even made."""
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
    return total


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
