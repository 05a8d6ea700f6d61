"""What a denoised row is conditioned on: caption or class, low-resolution image, picture to edit.

A `Conditioning` without batch axis belongs to one trajectory; `stack` makes one for a batch of
rows. Knows no network: who computes the features is the network's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """Inputs of one row, or with a leading batch axis of B rows.

    None means the network has no such input, or, for `image` and `mask`, that nothing is known and
    all is to be painted.

    Attributes:
        pooled: (E,) the caption's vector, added to the timestep embedding.
        keys_values: (L, S) the caption's keys and values of every attention layer, side by side.
        low_res: (3, h, w) in [-1, 1], the previous stage's image.
        image: (3, H, W) in [-1, 1], the picture to edit.
        mask: (1, H, W), 1 = keep the pixel, 0 = paint it; between the two, a blend.
        label: () int64, the class of a class-conditional network.
        clip_text: (E,) the caption's unit vector of a noised CLIP, for its guidance alone.
    """

    pooled: Tensor | None = None
    keys_values: Tensor | None = None
    low_res: Tensor | None = None
    image: Tensor | None = None
    mask: Tensor | None = None
    label: Tensor | None = None
    clip_text: Tensor | None = None


def stack(rows: Sequence[Conditioning]) -> Conditioning:
    """Stacks the conditioning of B rows of one stage along a new first axis.

    A member that some rows lack is zeros for them (for `image` and `mask`: nothing known).
    """
    return Conditioning(
        *(_stack_member([getattr(row, name) for row in rows]) for name in Conditioning.__slots__)
    )


def _stack_member(members: Sequence[Tensor | None]) -> Tensor | None:
    present = next((member for member in members if member is not None), None)
    if present is None:
        return None
    zeros = None if all(member is not None for member in members) else torch.zeros_like(present)
    return torch.stack([member if member is not None else zeros for member in members])  # type: ignore[misc]
