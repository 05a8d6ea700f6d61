"""The running average of a network's weights that is shipped in place of the last ones."""

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def average_in(averages: Mapping[str, Tensor], weights: Mapping[str, Tensor], rate: float) -> None:
    """Moves averages towards weights, in place: average = rate · average + (1 - rate) · weight.

    Args:
        averages: by name; at first a copy of the weights.
        weights: of the same names and shapes.
        rate: share of the average that stays.
    """
    for name, weight in weights.items():
        averages[name].lerp_(weight, 1 - rate)
