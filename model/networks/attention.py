"""Self-attention over [text keys/values ; image keys/values] (GLIDE, arXiv:2112.10741 §2.2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.layers import GroupNorm32, zero_init

AttentionOrder = Literal["legacy", "new"]


class AttentionBlock(nn.Module):
    """Image positions attend to each other and to the caption; a residual branch.

    No position is masked: a caption's padding is attended too, with embeddings of its own.

    Args:
        channels: C.
        heads: number of heads.
        text_width: D of the caption's sequence; None without a caption.
        order: the channels of `qkv` are heads × [q | k | v] × head width (`legacy`) or [q | k | v]
            × heads × head width (`new`), those of `encoder_kv` likewise with [k | v].
    """

    def __init__(
        self, channels: int, heads: int, text_width: int | None, *, order: AttentionOrder = "legacy"
    ) -> None:
        super().__init__()
        self.heads = heads
        self.order = order
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.encoder_kv = nn.Conv1d(text_width, 2 * channels, 1) if text_width else None
        self.proj_out = zero_init(nn.Conv1d(channels, channels, 1))

    @property
    def text_channels(self) -> int:
        """Width of this block's share of a caption's keys and values; 0 without a caption."""
        return 0 if self.encoder_kv is None else self.encoder_kv.out_channels

    def text_keys_values(self, sequence: Tensor) -> Tensor:
        """The caption's keys and values for this block: (B, L, D) → (B, L, 2C)."""
        assert self.encoder_kv is not None
        return F.linear(sequence, self.encoder_kv.weight[:, :, 0], self.encoder_kv.bias)

    def forward(self, x: Tensor, text: Tensor | None) -> Tensor:
        """Adds what each position attended to.

        Args:
            x: (B, C, H, W).
            text: (B, L, 2C) from `text_keys_values`, or None.
        """
        batch, channels, height, width = x.shape
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        qkv = F.linear(positions, self.qkv.weight[:, :, 0], self.qkv.bias)
        query, key, value = self._split(qkv, 3)
        if text is not None:
            text_key, text_value = self._split(text.to(qkv.dtype), 2)
            key = torch.cat([text_key, key], dim=2)  # (B, heads, L + HW, C / heads)
            value = torch.cat([text_value, value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(1, 2).reshape(batch, height * width, channels)
        out = F.linear(attended, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return x + out.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def _split(self, joined: Tensor, parts: int) -> tuple[Tensor, ...]:
        return split_heads(joined, self.heads, parts, self.order)


def split_heads(
    joined: Tensor, heads: int, parts: int, order: AttentionOrder
) -> tuple[Tensor, ...]:
    """Queries, keys and values out of one tensor's channels.

    Args:
        joined: (B, N, parts · C).
        heads: number of heads.
        parts: 3 for queries, keys and values; 2 for keys and values.
        order: how they lie in the channels, see `AttentionBlock`.

    Returns:
        `parts` tensors (B, heads, N, C / heads).
    """
    batch, length, _ = joined.shape
    if order == "legacy":
        return joined.reshape(batch, length, heads, parts, -1).permute(3, 0, 2, 1, 4).unbind(0)
    return joined.reshape(batch, length, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
