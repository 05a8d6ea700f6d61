"""NoisedClassifier: log p(y | x_t, t) from the UNet's way down (Dhariwal & Nichol 2021, §4).

Source: arXiv:2105.05233; keys are those of OpenAI's files. Knows no sampling: its gradient is taken
where images are guided.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.attention import split_heads
from model.networks.layers import GroupNorm32, zero_init
from model.networks.unet import Backbone, UNetConfig

Pool = Literal["attention", "adaptive", "spatial", "spatial_v2"]
HIDDEN = 2048  # width of the spatial pools' own layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """The shape of a classifier.

    Attributes:
        trunk: the way down; its `out_channels` are the number of classes.
        image_size: side of the image it is made for, px; attention pooling allows no other.
        pool: how positions become one vector: `attention` from their mean to all of them, their
            `adaptive` mean, or a small network on the means of every block's output (`spatial`,
            and `spatial_v2` with a normalization).
    """

    trunk: UNetConfig
    image_size: int
    pool: Pool = "attention"

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.trunk.out_channels

    @property
    def last_side(self) -> int:
        """Side of the coarsest level, in positions."""
        return self.image_size // self.trunk.patch >> (len(self.trunk.channel_mult) - 1)


class AttentionPool(nn.Module):
    """The mean of all positions attends to them: (B, C, H, W) → (B, classes).

    Args:
        side: H and W.
        channels: C.
        heads: attention heads.
        classes: columns of the answer.
    """

    def __init__(self, side: int, channels: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pools `x`."""
        positions = x.flatten(2)
        positions = torch.cat([positions.mean(dim=-1, keepdim=True), positions], dim=-1)
        positions = (positions + self.positional_embedding.to(x.dtype)).transpose(1, 2)
        qkv = F.linear(positions, self.qkv_proj.weight[:, :, 0], self.qkv_proj.bias)
        query, key, value = split_heads(qkv, self.heads, 3, "new")
        attended = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        return F.linear(attended.flatten(1), self.c_proj.weight[:, :, 0], self.c_proj.bias)


class NoisedClassifier(Backbone):
    """x_t and t → logits."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config.trunk)
        self.classifier_config = config
        self.out = _head(config, self.skip_channels)

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """One network call.

        Args:
            x_t: (B, 3, H, W).
            timesteps: (B,) of the trained process.

        Returns:
            Logits (B, classes) in the dtype of `x_t`.
        """
        door = F.pixel_unshuffle(x_t, self.config.patch)
        outputs = self.down(door, self.timestep(timesteps), repeat(None))
        logits: Tensor = self.out(self._pooled(outputs, x_t.dtype))
        return logits

    def _pooled(self, outputs: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
        if self.classifier_config.pool.startswith("spatial"):
            return torch.cat([output.to(dtype).mean(dim=(2, 3)) for output in outputs], dim=-1)
        *_, last = outputs
        return last.to(dtype)


def _head(config: ClassifierConfig, skip_channels: list[int]) -> nn.Sequential:
    channels, classes = skip_channels[-1], config.classes
    width = sum(skip_channels) + channels
    match config.pool:
        case "attention":
            heads = channels // config.trunk.head_channels
            pool = AttentionPool(config.last_side, channels, heads, classes)
            return nn.Sequential(GroupNorm32(channels), nn.SiLU(), pool)
        case "adaptive":
            last = zero_init(nn.Conv2d(channels, classes, 1))
            mean = nn.AdaptiveAvgPool2d(1)
            return nn.Sequential(GroupNorm32(channels), nn.SiLU(), mean, last, nn.Flatten())
        case "spatial":
            return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
        case "spatial_v2":
            return nn.Sequential(
                nn.Linear(width, HIDDEN), GroupNorm32(HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, classes)
            )
