"""UNet: ADM's backbone of residual and attention blocks (Dhariwal & Nichol 2021, §3).

Source: arXiv:2105.05233. Module names, and so checkpoint keys, are those of OpenAI's files.
Super-resolution and inpainting are input channels of the same class. Knows no text: `text_unet`
adds it through two hooks. The way down, `Backbone`, is the noised classifier's too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.conditioning import Conditioning
from model.networks.attention import AttentionBlock, AttentionOrder
from model.networks.blocks import Downsample, Level, ResidualBlock, ResidualOptions, Upsample
from model.networks.layers import GroupNorm32, timestep_embedding, zero_init
from model.text.encoder import TextConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """The shape of a network. The defaults are GLIDE's, but for sizes.

    Attributes:
        out_channels: 3, or 6 where the variance is learned; a classifier's classes.
        model_channels: channels at the first level, before its multiplier.
        channel_mult: multiplier of each level; a fraction of channels is cut off.
        residual_blocks: residual blocks of each level (the upward path has one more).
        attention_factors: levels with attention, by their downsampling inside the network.
        head_channels: channels of one attention head; -1 where `heads` says how many there are.
        heads: attention heads where `head_channels` is -1.
        heads_upsample: the same on the upward path; -1 for `heads`.
        attention_order: how a head's query, key and value lie in the channels, see `attention`.
        scale_shift: the embedding scales and shifts instead of being added.
        resblock_updown: residual blocks change the resolution; otherwise layers of their own.
        conv_resample: those layers have a convolution.
        dropout: probability, while training.
        image_channels: of the picture.
        low_res: the previous stage's image is an input (`image_channels` more).
        inpainting: the known pixels and their mask are inputs (`image_channels` + 1 more).
        patch: side of the squares of pixels that become channels at the door; 1 is GLIDE's.
        residual_low_res: the output corrects the enlarged low-res image instead of replacing it.
        classes: number of classes of a class-conditional network; 0 for any other.
        text: the caption's transformer; None without captions.
    """

    out_channels: int
    model_channels: int
    channel_mult: tuple[float, ...]
    residual_blocks: int
    attention_factors: tuple[int, ...]
    head_channels: int = 64
    heads: int = 1
    heads_upsample: int = -1
    attention_order: AttentionOrder = "legacy"
    scale_shift: bool = True
    resblock_updown: bool = True
    conv_resample: bool = True
    dropout: float = 0.0
    image_channels: int = 3
    low_res: bool = False
    inpainting: bool = False
    patch: int = 1
    residual_low_res: bool = False
    classes: int = 0
    text: TextConfig | None = None

    @property
    def input_channels(self) -> int:
        """Image channels at the door, before pixels become channels."""
        picture = self.image_channels
        return picture + (picture + 1) * self.inpainting + picture * self.low_res

    @property
    def embedding_width(self) -> int:
        """E, width of the timestep embedding."""
        return 4 * self.model_channels

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def residual(self) -> ResidualOptions:
        """What the residual blocks share."""
        return ResidualOptions(
            embedding_width=self.embedding_width,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
        )


class Backbone(nn.Module):
    """The way down to the coarsest level and the blocks there."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embedding_width
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, width)
        channels = config.level_channels[0]
        door = nn.Conv2d(config.input_channels * config.patch**2, channels, 3, padding=1)
        self.input_blocks = nn.ModuleList([Level(door)])
        self.skip_channels = [channels]
        for level, wanted in enumerate(config.level_channels):
            channels = self._build_level(level, channels, wanted)
        self.middle_block = Level(
            ResidualBlock(channels, channels, config.residual),
            self._attention(channels),
            ResidualBlock(channels, channels, config.residual),
        )

    def _build_level(self, level: int, channels: int, wanted: int) -> int:
        config = self.config
        for _ in range(config.residual_blocks):
            blocks: list[nn.Module] = [ResidualBlock(channels, wanted, config.residual)]
            channels = wanted
            if 2**level in config.attention_factors:
                blocks.append(self._attention(channels))
            self.input_blocks.append(Level(*blocks))
            self.skip_channels.append(channels)
        if level < len(config.channel_mult) - 1:
            self.input_blocks.append(Level(self._resample(channels, "down")))
            self.skip_channels.append(channels)
        return channels

    def _attention(self, channels: int, *, upward: bool = False) -> AttentionBlock:
        config, text = self.config, self.config.text
        heads = config.heads
        if upward and config.heads_upsample != -1:
            heads = config.heads_upsample
        if config.head_channels != -1:
            heads = channels // config.head_channels
        return AttentionBlock(
            channels, heads, text.width if text else None, order=config.attention_order
        )

    def _resample(self, channels: int, way: Literal["up", "down"]) -> nn.Module:
        if self.config.resblock_updown:
            return ResidualBlock(channels, channels, self.config.residual, way)
        layer = {"up": Upsample, "down": Downsample}[way]
        return layer(channels, learned=self.config.conv_resample)

    @property
    def attention_blocks(self) -> list[AttentionBlock]:
        """Every attention block in the order in which the forward pass meets them."""
        return [module for module in self.modules() if isinstance(module, AttentionBlock)]

    @property
    def body_dtype(self) -> torch.dtype:
        """The blocks may be half precision while the embedding and `out` stay float32."""
        return next(self.input_blocks.parameters()).dtype

    def timestep(self, timesteps: Tensor) -> Tensor:
        """(B,) → (B, E)."""
        embedding: Tensor = self.time_embed(
            timestep_embedding(timesteps, self.config.model_channels)
        )
        return embedding

    def down(
        self, hidden: Tensor, embedding: Tensor, text: Iterator[Tensor | None]
    ) -> Iterator[Tensor]:
        """The features after each input block, and at last those after the middle block.

        Args:
            hidden: (B, C, H, W), everything at the door.
            embedding: (B, E).
            text: what each attention block in turn reads of the caption.
        """
        hidden = hidden.to(self.body_dtype).contiguous(memory_format=torch.channels_last)
        for level in self.input_blocks:
            hidden = level(hidden, embedding, text)
            yield hidden
        yield self.middle_block(hidden, embedding, text)


class UNet(Backbone):
    """x_t, t and conditioning → the network's prediction; see `UNetConfig` for the variants."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.output_blocks = nn.ModuleList()
        channels = self._build_up()
        self.out = nn.Sequential(
            GroupNorm32(channels),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels, config.out_channels * config.patch**2, 3, padding=1)),
        )

    def _build_up(self) -> int:
        config, skips = self.config, list(self.skip_channels)
        channels = skips[-1]
        for level, wanted in reversed(list(enumerate(config.level_channels))):
            for index in range(config.residual_blocks + 1):
                blocks: list[nn.Module] = [
                    ResidualBlock(channels + skips.pop(), wanted, config.residual)
                ]
                channels = wanted
                if 2**level in config.attention_factors:
                    blocks.append(self._attention(channels, upward=True))
                if level > 0 and index == config.residual_blocks:
                    blocks.append(self._resample(channels, "up"))
                self.output_blocks.append(Level(*blocks))
        return channels

    def embed(self, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """(B,) → (B, E): what every residual block hears of timestep and class."""
        embedding = self.timestep(timesteps)
        if self.config.classes:
            assert conditioning.label is not None
            embedding = embedding + self.label_emb(conditioning.label)
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
        door = F.pixel_unshuffle(self._inputs(x_t, conditioning, enlarged), config.patch)
        *skips, hidden = self.down(door, embedding, text)
        for level in self.output_blocks:
            hidden = level(torch.cat([hidden, skips.pop()], dim=1), embedding, text)
        out = F.pixel_shuffle(self.out(hidden.to(x_t.dtype)), config.patch)
        if config.residual_low_res and enlarged is not None:
            picture = config.image_channels
            out = torch.cat([out[:, :picture] + enlarged, out[:, picture:]], dim=1)
        return out

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
                batch, channels, height, width = x_t.shape
                inputs.append(x_t.new_zeros(batch, channels + 1, height, width))
            else:
                inputs += [image * mask, mask]
        if enlarged is not None:
            inputs.append(enlarged)
        return torch.cat(inputs, dim=1) if len(inputs) > 1 else x_t
