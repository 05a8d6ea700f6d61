"""The one denoising step, used by serving, the command line, training previews and evaluation.

Any set of trajectories of one stage and size shares it: samplers, step counts, positions, guidance
and thresholding are numbers of a row here. Knows no network and no request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.conditioning import Conditioning, stack
from model.diffusion.prediction import Parameterization, per_row, threshold, to_x0
from model.errors import UnsupportedSampling
from model.params import GuideName, Thresholding
from model.sampling.guidance import GuidedRows, active_scale, guide, guided_rows
from model.sampling.guides import Guide
from model.sampling.trajectory import Trajectory
from model.sampling.update import moved_images, updated

NO_GUIDES: Mapping[GuideName, Guide] = {}


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
        guide_rows: how many rows the calls of the guides had.
    """

    trajectories: int
    rows: int
    guide_rows: int = 0


@torch.no_grad()
def denoise_step(
    denoiser: Denoiser,
    trajectories: Sequence[Trajectory],
    parameterization: Parameterization,
    guides: Mapping[GuideName, Guide] = NO_GUIDES,
) -> StepReport:
    """Moves every trajectory on by one step with one call of the network.

    A guide is called once, with the rows that ask for it; its gradient is taken at x_t.

    Args:
        denoiser: the stage's network.
        trajectories: of one stage, one size and one device; none done, none twice.
        parameterization: of the stage.
        guides: the networks whose gradient can lead a row.

    Raises:
        UnsupportedSampling: a row asks for a guide that is not there; nothing has moved.
    """
    assert not any(trajectory.done for trajectory in trajectories)
    _check_guides(trajectories, guides)
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
    pulls = _pulls(trajectories, parameterization.schedule.timesteps)
    gradient = _gradient(guides, pulls, trajectories, x_t, t) if pulls else None
    x_0 = to_x0(parameterization.prediction, output[:, :channels], x_t, alpha_bar)
    x_0 = moved_images(x_0, gradient, "x0", trajectories, alpha_bar)
    x_0 = _bounded(x_0, trajectories)
    x_0 = moved_images(x_0, gradient, "bounded_x0", trajectories, alpha_bar)
    x_s = updated(trajectories, x_t, x_0, output[:, channels:], gradient)
    for trajectory, x, image in zip(trajectories, x_s, x_0, strict=True):
        trajectory.advance(x, image)
    guide_rows = sum(len(scales) for scales in pulls.values())
    return StepReport(len(trajectories), rows=len(rows.source), guide_rows=guide_rows)


def _check_guides(trajectories: Sequence[Trajectory], guides: Mapping[GuideName, Guide]) -> None:
    for name in GuideName:
        if name not in guides and any(each.guide_scales.get(name) for each in trajectories):
            raise UnsupportedSampling(f"This stage has no {name} that could guide it.")


def _pulls(
    trajectories: Sequence[Trajectory], timesteps: int
) -> Mapping[GuideName, Mapping[int, float]]:
    """The rows that each guide acts on now, with their scales; guides without rows left out."""
    found = {}
    for name in GuideName:
        scales = {
            row: active_scale(scale, each.guidance_interval, each.timestep, timesteps, off=0.0)
            for row, each in enumerate(trajectories)
            if (scale := each.guide_scales.get(name, 0.0))
        }
        if acting := {row: scale for row, scale in scales.items() if scale}:
            found[name] = acting
    return found


def _gradient(
    guides: Mapping[GuideName, Guide],
    pulls: Mapping[GuideName, Mapping[int, float]],
    trajectories: Sequence[Trajectory],
    x_t: Tensor,
    t: Tensor,
) -> Tensor:
    """(B, C, H, W) Σ scale · gradient over the guides; zeros in rows that none acts on."""
    total = torch.zeros_like(x_t)
    for name, scales in pulls.items():
        wanted = [_asked(name, trajectories[row].conditioning) for row in scales]
        assert len({each.label is None for each in wanted}) == 1, "a row would get class 0"
        index = torch.tensor(list(scales), device=x_t.device)
        gradient = guides[name](x_t[index], t.to(x_t.device)[index], stack(wanted)).to(total)
        scale = per_row(torch.tensor(list(scales.values()), dtype=torch.float64), total)
        total[index] += scale * gradient
    return total


def _asked(name: GuideName, conditioning: Conditioning) -> Conditioning:
    """What a guide looks at; rows may differ in what only the other one needs."""
    match name:
        case GuideName.CLIP:
            return Conditioning(clip_text=conditioning.clip_text)
        case GuideName.CLASSIFIER:
            return Conditioning(label=conditioning.label)


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
    """x̂₀ with the known pixels put in, then bounded: GLIDE's order.

    Dynamic thresholding divides x̂₀, so its rows get their known pixels afterwards, whose quantile
    counts nevertheless.
    """
    known = stack(
        [
            Conditioning(image=trajectory.conditioning.image, mask=trajectory.conditioning.mask)
            for trajectory in trajectories
        ]
    )
    modes = [trajectory.thresholding for trajectory in trajectories]
    percentiles = [trajectory.dynamic_percentile for trajectory in trajectories]
    edited = _keep_known(x_0, known)
    bounded = threshold(edited, modes, percentiles)
    if known.mask is None or Thresholding.DYNAMIC not in modes:
        return bounded
    divided = threshold(x_0, modes, percentiles, measured=edited)
    dynamic = torch.tensor([mode is Thresholding.DYNAMIC for mode in modes])
    return torch.where(per_row(dynamic, x_0).bool(), _keep_known(divided, known), bounded)


def _keep_known(x_0: Tensor, known: Conditioning) -> Tensor:
    if known.image is None or known.mask is None:
        return x_0
    return x_0 * (1 - known.mask) + known.image * known.mask
