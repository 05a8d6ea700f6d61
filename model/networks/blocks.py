"""The blocks between a network's door and its end, and how they run one after another.

Module names are those of OpenAI's files, since they make the keys. Knows no schedule of channels
and no caption: which blocks there are is the business of `unet` and `classifier`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from model.networks.attention import AttentionBlock
from model.networks.layers import GroupNorm32, downsample_average, upsample_nearest, zero_init


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualOptions:
    """What all residual blocks of a network share.

    Attributes:
        embedding_width: E, width of the timestep embedding.
        dropout: probability, while training.
        scale_shift: the embedding scales and shifts the second normalization's result; otherwise
            it is added before that normalization.
    """

    embedding_width: int
    dropout: float
    scale_shift: bool


class ResidualBlock(nn.Module):
    """Two convolutions whose second normalization hears the timestep embedding.

    Args:
        channels: of the input.
        out_channels: of the output.
        options: what the network's blocks share.
        resample: `up`, `down` or None, between the first activation and the first convolution.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        options: ResidualOptions,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.resample = {None: None, "up": upsample_nearest, "down": downsample_average}[resample]
        self.scale_shift = options.scale_shift
        self.in_layers = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(),
            nn.Linear(options.embedding_width, (1 + options.scale_shift) * out_channels),
        )
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(options.dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection: nn.Module = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, E) → (B, C', H', W')."""
        norm, activation, convolution = self.in_layers
        hidden = activation(norm(x))
        if self.resample is not None:
            hidden, x = self.resample(hidden), self.resample(x)
        hidden = convolution(hidden)
        heard = self.emb_layers(embedding)[:, :, None, None].to(hidden.dtype)
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = heard.chunk(2, dim=1)
            hidden = norm(hidden) * (1 + scale) + shift
        else:
            hidden = norm(hidden + heard)
        for layer in rest:
            hidden = layer(hidden)
        out: Tensor = self.skip_connection(x) + hidden
        return out


class Downsample(nn.Module):
    """Halves height and width: (B, C, H, W) → (B, C, H/2, W/2).

    Args:
        channels: C.
        learned: by a convolution of stride 2 instead of the mean of 2×2 pixels.
    """

    def __init__(self, channels: int, *, learned: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Shrinks `x`."""
        return downsample_average(x) if self.op is None else self.op(x)


class Upsample(nn.Module):
    """Doubles height and width by repetition: (B, C, H, W) → (B, C, 2H, 2W).

    Args:
        channels: C.
        learned: a convolution follows.
    """

    def __init__(self, channels: int, *, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        """Enlarges `x`."""
        x = upsample_nearest(x)
        return x if self.conv is None else self.conv(x)


class Level(nn.Sequential):
    """Blocks that run one after another; each gets what it needs besides the features."""

    def forward(self, x: Tensor, embedding: Tensor, text: Iterator[Tensor | None]) -> Tensor:  # type: ignore[override]
        """Runs the blocks; every attention block takes its own share of the caption from `text`."""
        for block in self:
            if isinstance(block, ResidualBlock):
                x = block(x, embedding)
            elif isinstance(block, AttentionBlock):
                x = block(x, next(text))
            else:
                x = block(x)
        return x
