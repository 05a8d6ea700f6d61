"""The small parts that every network of the project is made of. Knows no text and no diffusion."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)


class GroupNorm32(nn.GroupNorm):
    """Group normalization, always computed in float32 and cast back; (B, C, *) → (B, C, *)."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes `x` in groups of C/32 channels."""
        if x.dtype == torch.float32:
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


def zero_init(module: M) -> M:
    """Sets all parameters of `module` to zero, so that a residual branch starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Sinusoids of the timestep, cosines first (Vaswani et al. 2017, arXiv:1706.03762).

    Args:
        timesteps: (B,), may be fractional.
        width: E, number of columns; an odd width ends in a column of zeros.

    Returns:
        (B, E) float32. The float32 operations are grouped as GLIDE's: regrouping moves them 3e-5.
    """
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequencies = torch.exp(-math.log(10_000) * index / half)
    angles = timesteps[:, None].float() * frequencies[None]
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, width % 2))


def upsample_nearest(x: Tensor) -> Tensor:
    """Doubles height and width: (B, C, H, W) → (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample_average(x: Tensor) -> Tensor:
    """Halves height and width: (B, C, H, W) → (B, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)
