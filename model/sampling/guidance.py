"""Classifier-free guidance, row by row: Ho & Salimans 2022, arXiv:2207.12598.

Decides which rows a network call needs and combines what comes back. A trajectory that guidance
doesn't touch costs one row, one that it does costs two. Knows no trajectories and no networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.conditioning import Conditioning
from model.diffusion.prediction import per_row


@dataclass(frozen=True, slots=True, eq=False)
class GuidedRows:
    """The rows of one call for B trajectories: first one of each, then the second rows.

    Attributes:
        conditioning: of each of the R rows.
        source: (R,) the trajectory that each row belongs to.
        unconditional: (B,) the row with each trajectory's unconditional output, or its own row
            where one row is all it needs.
        scales: (B,) guidance scales.
    """

    conditioning: Sequence[Conditioning]
    source: Sequence[int]
    unconditional: Sequence[int]
    scales: Sequence[float]

    @property
    def has_pairs(self) -> bool:
        """Whether any trajectory has a second row."""
        return len(self.source) > len(self.scales)


def active_scale(
    scale: float,
    interval: tuple[float, float],
    timestep: int,
    timesteps: int,
    *,
    off: float = 1.0,
) -> float:
    """The scale where guidance acts, and the one that means no guidance elsewhere.

    Args:
        scale: s in ε = ε_∅ + s (ε_c - ε_∅), or of a guide's gradient.
        interval: (low, high) as fractions of the trained process, 1 being pure noise:
            Kynkäänniemi et al. 2024, arXiv:2404.07724.
        timestep: t of the trained process.
        timesteps: T, its length.
        off: the scale that means no guidance: 1 for classifier-free guidance, 0 for a gradient.
    """
    low, high = interval
    return scale if low <= timestep / max(timesteps - 1, 1) <= high else off


def guided_rows(
    conditional: Sequence[Conditioning],
    unconditional: Sequence[Conditioning | None],
    scales: Sequence[float],
) -> GuidedRows:
    """Lays out a call: scale 1, or no unconditional input, needs the conditional row alone.

    Scale 0 needs the unconditional row alone.

    Args:
        conditional: of B trajectories.
        unconditional: of B trajectories; None turns guidance off.
        scales: of B trajectories.
    """
    first: list[Conditioning] = []
    second: list[tuple[int, Conditioning]] = []
    pair: list[int] = []
    for row, (c, u, scale) in enumerate(zip(conditional, unconditional, scales, strict=True)):
        first.append(u if u is not None and scale == 0 else c)
        pair.append(row)
        if u is not None and scale not in (0, 1):
            pair[row] = len(conditional) + len(second)
            second.append((row, u))
    source = [*range(len(first)), *(row for row, _ in second)]
    return GuidedRows([*first, *(u for _, u in second)], source, pair, scales)


def guide(output: Tensor, rows: GuidedRows, channels: int) -> Tensor:
    """One output for each trajectory: u + s (c - u) on the prediction, c's variance channels.

    ε, x₀ and v are affine in each other at one x_t, so the sum, whose weights add up to 1, is the
    same guidance whichever of them the network predicts.

    Args:
        output: (R, C', H, W).
        rows: the call's layout.
        channels: C, how many of the C' channels are the prediction.
    """
    own = output[: len(rows.scales)]
    if not rows.has_pairs:
        return own
    u = output[torch.tensor(rows.unconditional, device=output.device), :channels]
    scale = per_row(torch.tensor(rows.scales, dtype=torch.float64), output)
    return torch.cat([u + scale * (own[:, :channels] - u), own[:, channels:]], dim=1)
