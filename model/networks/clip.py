"""NoisedClip: image and text encoders that understand x_t (Nichol et al. 2021, §2.3 and §4.2).

Source: arXiv:2112.10741; keys are those of OpenAI's two files, one for each encoder. Knows no
tokenizer and no sampling: its gradient is taken where images are guided.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.layers import timestep_embedding

LOGIT_SCALE = 100.0  # of the inner product of two unit vectors; not in the files
_MEANS = (122.77093945, 116.74601272, 104.09373519)  # of red, green and blue, in 0 … 255
_DEVIATIONS = (68.50053285, 66.63215831, 70.32316309)
# Of residual branches at first: words and places are heard above what all inputs have in common,
# or a short training never hears them.
_BRANCH_GAIN = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTextConfig:
    """The shape of a caption encoder.

    Attributes:
        vocabulary: number of token ids.
        context: longest caption, in tokens.
        embedding: E, width of the caption's vector.
        heads: attention heads.
        head_channels: channels of a head; the transformer is heads · head_channels wide.
        layers: transformer blocks.
    """

    vocabulary: int
    context: int
    embedding: int
    heads: int
    head_channels: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipImageConfig:
    """The shape of an image encoder.

    Attributes:
        image_size: side of the image, px.
        patch: side of the squares that become positions, px.
        timesteps: T of the process whose noise it knows.
        embedding: E, width of the image's vector.
        heads: attention heads.
        head_channels: channels of a head.
        layers: transformer blocks.
    """

    image_size: int
    patch: int
    timesteps: int
    embedding: int
    heads: int
    head_channels: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """The shapes of both encoders, whose vectors have the same width."""

    text: ClipTextConfig
    image: ClipImageConfig


class _Norm(nn.Module):
    """Layer normalization with the files' parameter names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.g.shape, self.g, self.b)


class _Affine(nn.Module):
    """A matrix with the files' parameter names: (*, in) → (*, out)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs) * gain * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w, self.b)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.ln = _Norm(width)
        self.f_q = _Affine(width, width)
        self.f_k = _Affine(width, width, bias=False)
        self.f_v = _Affine(width, width)
        self.f_c = _Affine(width, width, gain=_BRANCH_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln(x)
        query, key, value = (
            project(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.f_q, self.f_k, self.f_v)
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        out: Tensor = x + self.f_c(attended.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = _Norm(width)
        self.f_1 = _Affine(width, 4 * width)
        self.f_2 = _Affine(4 * width, width, gain=_BRANCH_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.f_2(F.gelu(self.f_1(self.ln(x))))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.f_attn = _Attention(width, heads, causal=causal)
        self.f_mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.f_mlp(self.f_attn(x))
        return out


class _Output(nn.Module):
    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.ln = _Norm(width)
        self.f = _Affine(width, embedding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.f(self.ln(x))
        return out


class _TextInput(nn.Module):
    def __init__(self, config: ClipTextConfig, width: int) -> None:
        super().__init__()
        self.w_voc = nn.Parameter(torch.randn(config.vocabulary, width))
        self.w_pos = nn.Parameter(torch.randn(config.context, width) * 0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.w_voc) + self.w_pos[: tokens.shape[1]]


class _ImageInput(nn.Module):
    def __init__(self, config: ClipImageConfig, width: int) -> None:
        super().__init__()
        positions = (config.image_size // config.patch) ** 2 + 1
        kernel = torch.randn(width, 3, config.patch, config.patch)
        # Neighbouring timesteps are rarely in one batch: they start alike.
        times = timestep_embedding(torch.arange(config.timesteps), width)
        self.w_t = nn.Parameter(times)
        self.patch_proj = nn.Parameter(kernel * kernel[0].numel() ** -0.5)
        self.w_pos = nn.Parameter(torch.randn(positions, width))
        self.ln = _Norm(width)

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        means, deviations = (
            torch.tensor(each, dtype=x_t.dtype, device=x_t.device)[:, None, None]
            for each in (_MEANS, _DEVIATIONS)
        )
        pixels = ((x_t + 1) * 127.5 - means) / deviations
        patches = F.conv2d(pixels, self.patch_proj, stride=self.patch_proj.shape[-1])
        time = F.embedding(timesteps, self.w_t)[:, None]
        sequence = torch.cat([time, patches.flatten(2).transpose(1, 2)], dim=1)
        out: Tensor = self.ln(sequence + self.w_pos)
        return out


class _Encoder(nn.Module):
    """Input, transformer blocks and output, under the files' names."""

    def __init__(self, config: ClipTextConfig | ClipImageConfig, door: nn.Module) -> None:
        super().__init__()
        width, causal = config.heads * config.head_channels, isinstance(config, ClipTextConfig)
        self.layers = tuple(f"block_{number}" for number in range(config.layers))
        self.blocks = nn.ModuleDict({"input": door})
        for name in self.layers:
            self.blocks[name] = _Block(width, config.heads, causal=causal)
        self.blocks["output"] = _Output(width, config.embedding)

    def _transform(self, x: Tensor) -> Tensor:
        for name in self.layers:
            x = self.blocks[name](x)
        return x


class ClipTextEncoder(_Encoder):
    """Captions → vectors."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__(config, _TextInput(config, config.heads * config.head_channels))
        self.config = config

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Reads captions.

        Args:
            tokens: (B, L) int64.
            lengths: (B,) int64, tokens of each caption with its end token, which answers.

        Returns:
            (B, E), not normalized.
        """
        x = self._transform(self.blocks["input"](tokens))
        rows = torch.arange(len(x), device=x.device)
        out: Tensor = self.blocks["output"](x[rows, lengths - 1])
        return out


class ClipImageEncoder(_Encoder):
    """Noised images → vectors."""

    def __init__(self, config: ClipImageConfig) -> None:
        super().__init__(config, _ImageInput(config, config.heads * config.head_channels))
        self.config = config

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Looks at noised images.

        Args:
            x_t: (B, 3, H, W), H and W the encoder's `image_size`.
            timesteps: (B,) int64 of the trained process.

        Returns:
            (B, E), not normalized.
        """
        x = self._transform(self.blocks["input"](x_t, timesteps.long()))
        out: Tensor = self.blocks["output"](x[:, 0])
        return out


class NoisedClip(nn.Module):
    """Both encoders; `LOGIT_SCALE` times the product of their unit vectors is the similarity."""

    def __init__(self, text: ClipTextEncoder, image: ClipImageEncoder) -> None:
        super().__init__()
        self.text = text
        self.image = image

    @property
    def config(self) -> ClipConfig:
        """The shapes of both encoders."""
        return ClipConfig(text=self.text.config, image=self.image.config)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors of captions: (B, L) and (B,) → (B, E); before that see `text`."""
        return _unit(self.text(tokens, lengths))

    def encode_image(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Unit vectors of noised images: (B, 3, H, W), (B,) → (B, E); before that see `image`."""
        return _unit(self.image(x_t, timesteps))


def build_clip(config: ClipConfig) -> NoisedClip:
    """Both encoders with random weights."""
    return NoisedClip(ClipTextEncoder(config.text), ClipImageEncoder(config.image))


def _unit(features: Tensor) -> Tensor:
    unit: Tensor = features / (features.norm(dim=-1, keepdim=True) + 1e-12)
    return unit
