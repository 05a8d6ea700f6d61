"""UNet: ADM's backbone of residual and attention blocks (Dhariwal & Nichol 2021, §3).

Source: arXiv:2105.05233. Module names, and so checkpoint keys, are those of OpenAI's files.
Super-resolution and inpainting are input channels of the same class. Knows no text: `text_unet`
adds it through two hooks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.conditioning import Conditioning
from model.networks.attention import AttentionBlock
from model.networks.layers import (
    GroupNorm32,
    downsample_average,
    timestep_embedding,
    upsample_nearest,
    zero_init,
)
from model.text.encoder import TextConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """The shape of a network.

    Attributes:
        out_channels: 3, or 6 where the variance is learned.
        model_channels: channels at the first level, before its multiplier.
        channel_mult: multiplier of each level.
        residual_blocks: residual blocks of each level (the upward path has one more).
        attention_factors: levels with attention, by their downsampling inside the network.
        head_channels: channels of one attention head.
        dropout: probability, while training.
        low_res: the previous stage's image is an input (3 channels).
        inpainting: the known pixels and their mask are inputs (4 channels).
        patch: side of the squares of pixels that become channels at the door; 1 is GLIDE's.
        residual_low_res: the output corrects the enlarged low-res image instead of replacing it.
        text: the caption's transformer; None without captions.
    """

    out_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    residual_blocks: int
    attention_factors: tuple[int, ...]
    head_channels: int = 64
    dropout: float = 0.0
    low_res: bool = False
    inpainting: bool = False
    patch: int = 1
    residual_low_res: bool = False
    text: TextConfig | None = None

    @property
    def input_channels(self) -> int:
        """Image channels at the door, before pixels become channels."""
        return 3 + 4 * self.inpainting + 3 * self.low_res

    @property
    def embedding_width(self) -> int:
        """E, width of the timestep embedding."""
        return 4 * self.model_channels


class ResidualBlock(nn.Module):
    """Two convolutions whose second normalization is scaled and shifted by the timestep embedding.

    Args:
        channels: of the input.
        out_channels: of the output.
        config: embedding width and dropout.
        resample: `up`, `down` or None, between the first activation and the first convolution.
    """

    def __init__(
        self, channels: int, out_channels: int, config: UNetConfig, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = {None: None, "up": upsample_nearest, "down": downsample_average}[resample]
        self.in_layers = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(config.embedding_width, 2 * out_channels)
        )
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(config.dropout),
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
        scale, shift = self.emb_layers(embedding)[:, :, None, None].to(hidden.dtype).chunk(2, dim=1)
        norm, *rest = self.out_layers
        hidden = norm(hidden) * (1 + scale) + shift
        for layer in rest:
            hidden = layer(hidden)
        out: Tensor = self.skip_connection(x) + hidden
        return out


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


class UNet(nn.Module):
    """x_t, t and conditioning → the network's prediction; see `UNetConfig` for the variants."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.embedding_width, config.patch**2
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        channels = config.channel_mult[0] * config.model_channels
        door = nn.Conv2d(config.input_channels * area, channels, 3, padding=1)
        self.input_blocks = nn.ModuleList([Level(door)])
        skips = [channels]
        channels = self._build_down(channels, skips)
        self.middle_block = Level(
            ResidualBlock(channels, channels, config),
            self._attention(channels),
            ResidualBlock(channels, channels, config),
        )
        self.output_blocks = nn.ModuleList()
        channels = self._build_up(channels, skips)
        self.out = nn.Sequential(
            GroupNorm32(channels),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels, config.out_channels * area, 3, padding=1)),
        )

    def _attention(self, channels: int) -> AttentionBlock:
        text = self.config.text
        heads = channels // self.config.head_channels
        return AttentionBlock(channels, heads, text.width if text else None)

    def _build_down(self, channels: int, skips: list[int]) -> int:
        config = self.config
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.residual_blocks):
                blocks: list[nn.Module] = [
                    ResidualBlock(channels, mult * config.model_channels, config)
                ]
                channels = mult * config.model_channels
                if 2**level in config.attention_factors:
                    blocks.append(self._attention(channels))
                self.input_blocks.append(Level(*blocks))
                skips.append(channels)
            if level < len(config.channel_mult) - 1:
                self.input_blocks.append(Level(ResidualBlock(channels, channels, config, "down")))
                skips.append(channels)
        return channels

    def _build_up(self, channels: int, skips: list[int]) -> int:
        config = self.config
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for index in range(config.residual_blocks + 1):
                blocks: list[nn.Module] = [
                    ResidualBlock(channels + skips.pop(), mult * config.model_channels, config)
                ]
                channels = mult * config.model_channels
                if 2**level in config.attention_factors:
                    blocks.append(self._attention(channels))
                if level > 0 and index == config.residual_blocks:
                    blocks.append(ResidualBlock(channels, channels, config, "up"))
                self.output_blocks.append(Level(*blocks))
        return channels

    @property
    def attention_blocks(self) -> list[AttentionBlock]:
        """Every attention block in the order in which the forward pass meets them."""
        return [module for module in self.modules() if isinstance(module, AttentionBlock)]

    def embed(self, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """(B,) → (B, E): what scales and shifts every residual block."""
        sinusoids = timestep_embedding(timesteps, self.config.model_channels)
        embedding: Tensor = self.time_embed(sinusoids)
        return embedding

    def text_shares(self, conditioning: Conditioning) -> Iterator[Tensor | None]:
        """What each attention block in turn reads of the caption: nothing here."""
        while True:
            yield None

    def forward(self, x_t: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """One network call.

        Args:
            x_t: (B, 3, H, W), H and W divisible by patch · 2^(levels - 1).
            timesteps: (B,) of the trained process.
            conditioning: of B rows.

        Returns:
            (B, 3 or 6, H, W) in the dtype of `x_t`.
        """
        config = self.config
        embedding = self.embed(timesteps, conditioning)
        text = self.text_shares(conditioning)
        enlarged = self._enlarged(x_t, conditioning)
        hidden = F.pixel_unshuffle(self._inputs(x_t, conditioning, enlarged), config.patch)
        hidden = hidden.to(self._body_dtype)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        skips = []
        for level in self.input_blocks:
            hidden = level(hidden, embedding, text)
            skips.append(hidden)
        hidden = self.middle_block(hidden, embedding, text)
        for level in self.output_blocks:
            hidden = level(torch.cat([hidden, skips.pop()], dim=1), embedding, text)
        out = F.pixel_shuffle(self.out(hidden.to(x_t.dtype)), config.patch)
        if config.residual_low_res and enlarged is not None:
            out = torch.cat([out[:, :3] + enlarged, out[:, 3:]], dim=1)
        return out

    @property
    def _body_dtype(self) -> torch.dtype:
        """The blocks may be half precision while the embedding and `out` stay float32."""
        return next(self.input_blocks.parameters()).dtype

    def _enlarged(self, x_t: Tensor, conditioning: Conditioning) -> Tensor | None:
        if not self.config.low_res:
            return None
        assert conditioning.low_res is not None
        size = x_t.shape[-2:]
        return F.interpolate(conditioning.low_res, size, mode="bilinear", align_corners=False)

    def _inputs(self, x_t: Tensor, conditioning: Conditioning, enlarged: Tensor | None) -> Tensor:
        """Everything at the door: [x_t, known pixels, mask, enlarged low-res image]."""
        inputs = [x_t]
        if self.config.inpainting:
            image, mask = conditioning.image, conditioning.mask
            if image is None or mask is None:
                batch, _, height, width = x_t.shape
                inputs.append(x_t.new_zeros(batch, 4, height, width))
            else:
                inputs += [image * mask, mask]
        if enlarged is not None:
            inputs.append(enlarged)
        return torch.cat(inputs, dim=1) if len(inputs) > 1 else x_t
