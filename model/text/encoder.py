"""TextEncoder: GLIDE's caption transformer (arXiv:2112.10741 §2.1)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The shape of a caption transformer.

    Attributes:
        vocabulary: number of token ids.
        context: L, tokens of a caption.
        width: D.
        layers: transformer blocks.
        heads: attention heads.
        pooling: what becomes the caption's vector: the `last` position (GLIDE's), or the `mean`
            over the caption's real tokens.
        final_norm: the sequence is normalized at the end.
        padding: padding positions get a learned vector each; otherwise they are tokens like others.
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    pooling: Literal["last", "mean"] = "last"
    final_norm: bool = True
    padding: bool = True


class TextEncoder(nn.Module):
    """Gives a network the caption half of GLIDE's checkpoints, whose keys are flat: a mixin.

    A network that inherits from it calls `build_text` once, after its own `__init__`.
    """

    def build_text(self, config: TextConfig, embedding_width: int) -> None:
        """Creates the modules.

        Args:
            config: the transformer's shape.
            embedding_width: E, width of the network's timestep embedding.
        """
        self.text_config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context, config.width) * 0.02)
        if config.padding:
            self.padding_embedding = nn.Parameter(torch.randn(config.context, config.width) * 0.02)
        self.transformer = Transformer(config)
        self.final_ln = _Norm(config.width) if config.final_norm else None
        self.transformer_proj = nn.Linear(config.width, embedding_width)

    def encode_caption(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Reads captions.

        Args:
            tokens: (B, L) int64.
            mask: (B, L) bool, True for real tokens.

        Returns:
            The captions' vectors (B, E) and sequences (B, L, D).
        """
        x = self.token_embedding(tokens) + self.positional_embedding[None]
        if self.text_config.padding:
            x = torch.where(mask[..., None], x, self.padding_embedding[None])
        x = self.transformer(x.to(self.transformer_proj.weight.dtype))
        sequence: Tensor = x if self.final_ln is None else self.final_ln(x)
        pooled: Tensor = self.transformer_proj(self._pool(sequence, mask))
        return pooled, sequence

    def _pool(self, sequence: Tensor, mask: Tensor) -> Tensor:
        if self.text_config.pooling == "last":
            return sequence[:, -1]
        weights = mask.to(sequence.dtype)[..., None]
        return (sequence * weights).sum(1) / weights.sum(1).clamp(min=1)


def _silent(layer: nn.Linear) -> nn.Linear:
    """A residual branch that starts as nothing, so that at first a position says its own token.

    With branches at full strength and small embeddings, what all captions have in common drowns
    what tells them apart, and a short training never hears the caption.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Norm(nn.LayerNorm):
    """Layer normalization in float32, cast back; (*, D) → (*, D)."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Transformer(nn.Module):
    """Pre-normalized bidirectional transformer without a mask: (B, L, D) → (B, L, D)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Block(config) for _ in range(config.layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Runs all blocks."""
        out: Tensor = self.resblocks(x)
        return out


class _Block(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.attn = _Attention(config)
        self.ln_1 = _Norm(config.width)
        self.mlp = _Mlp(config.width)
        self.ln_2 = _Norm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class _Attention(nn.Module):
    """The channels of `c_qkv` are heads × [q | k | v] × head width."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_qkv = nn.Linear(config.width, 3 * config.width)
        self.c_proj = _silent(nn.Linear(config.width, config.width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.c_qkv(x).reshape(batch, length, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.c_proj(attended.transpose(1, 2).reshape(batch, length, width))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = _silent(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return out
