"""GLIDE's and ADM's networks once more, from their description alone: float64, slow and plain.

Reads a state dict by its keys and shares nothing with the project's networks, so that a test can
hold one against the other for any options: those of ADM's constructors, GLIDE's captions besides.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class PlainNetwork:
    """One network.

    Attributes:
        weights: its state dict, float64.
        config: ADM's constructor arguments.
        text: (B, D, L), the sequence of a caption, or None.
        extra: (B, E), added to the timestep's embedding: a class's vector or a caption's.
    """

    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    text: Tensor | None = None
    extra: Tensor | float = 0.0

    def unet(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction of a UNet: (B, C, H, W) float64 and (B,) → (B, C', H, W)."""
        skips = self.outputs(x, t)
        x, embedding, index = skips.pop(), self.embedding(t), 0
        for level in reversed(range(len(self.config["channel_mult"]))):
            for block in range(self.config["num_res_blocks"] + 1):
                name, last = f"output_blocks.{index}", 1
                x = self.residual(f"{name}.0", torch.cat([x, skips.pop()], 1), embedding)
                if 2**level in self.config["attention_resolutions"]:
                    x, last = self.attention(f"{name}.1", x, upward=True), 2
                if level and block == self.config["num_res_blocks"]:
                    x = self.resampled(f"{name}.{last}", x, embedding, "up")
                index += 1
        return self.convolved("out.2", F.silu(self.normed("out.0", x)))

    def outputs(self, x: Tensor, t: Tensor) -> list[Tensor]:
        """What each input block and the middle block give."""
        embedding = self.embedding(t)
        outputs = [self.convolved("input_blocks.0.0", x)]
        levels = len(self.config["channel_mult"])
        for level in range(levels):
            for _ in range(self.config["num_res_blocks"]):
                name = f"input_blocks.{len(outputs)}"
                x = self.residual(f"{name}.0", outputs[-1], embedding)
                if 2**level in self.config["attention_resolutions"]:
                    x = self.attention(f"{name}.1", x)
                outputs.append(x)
            if level < levels - 1:
                name = f"input_blocks.{len(outputs)}.0"
                outputs.append(self.resampled(name, outputs[-1], embedding, "down"))
        x = self.residual("middle_block.0", outputs[-1], embedding)
        x = self.attention("middle_block.1", x)
        return [*outputs, self.residual("middle_block.2", x, embedding)]

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        """The answer of a classifier: (B, classes)."""
        outputs, pool = self.outputs(x, t), self.config["pool"]
        means = torch.cat([output.mean((2, 3)) for output in outputs], 1)
        if pool == "spatial":
            return self.linear("out.2", F.relu(self.linear("out.0", means)))
        if pool == "spatial_v2":
            hidden = self.normed("out.1", self.linear("out.0", means))
            return self.linear("out.3", F.silu(hidden))
        last = F.silu(self.normed("out.0", outputs[-1])).flatten(2)
        if pool == "adaptive":
            return self.linear("out.3", last.mean(2))
        sequence = torch.cat([last.mean(2, keepdim=True), last], 2)
        sequence = sequence + self.weights["out.2.positional_embedding"]
        heads = last.shape[1] // self.config["num_head_channels"]
        joined = self.linear("out.2.qkv_proj", sequence.mT).mT
        pooled = attended(*split(joined, heads, 3, new=True))
        return self.linear("out.2.c_proj", pooled.mT)[:, 0]

    def embedding(self, t: Tensor) -> Tensor:
        """(B, E) of timesteps and what is added to them."""
        half = self.config["model_channels"] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
        angles = t.double()[:, None] * frequencies
        sinusoids = torch.cat([angles.cos(), angles.sin()], 1)
        hidden = F.silu(self.linear("time_embed.0", sinusoids))
        return self.linear("time_embed.2", hidden) + self.extra

    def residual(self, name: str, x: Tensor, embedding: Tensor, way: str | None = None) -> Tensor:
        """A residual block, which may change the resolution on its way."""
        hidden = resized(F.silu(self.normed(f"{name}.in_layers.0", x)), way)
        hidden = self.convolved(f"{name}.in_layers.2", hidden)
        heard = self.linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None]
        if self.config.get("use_scale_shift_norm", False):
            scale, shift = heard.chunk(2, 1)
            hidden = self.normed(f"{name}.out_layers.0", hidden) * (1 + scale) + shift
        else:
            hidden = self.normed(f"{name}.out_layers.0", hidden + heard)
        x = resized(x, way)
        if f"{name}.skip_connection.weight" in self.weights:
            x = self.convolved(f"{name}.skip_connection", x)
        return x + self.convolved(f"{name}.out_layers.3", F.silu(hidden))

    def resampled(self, name: str, x: Tensor, embedding: Tensor, way: str) -> Tensor:
        """Another resolution by what the options name."""
        if self.config.get("resblock_updown", False):
            return self.residual(name, x, embedding, way)
        if not self.config.get("conv_resample", True):
            return resized(x, way)
        if way == "down":
            return self.convolved(f"{name}.op", x, stride=2)
        return self.convolved(f"{name}.conv", resized(x, "up"))

    def attention(self, name: str, x: Tensor, *, upward: bool = False) -> Tensor:
        """An attention block; the caption's keys and values come first."""
        heads = self.config.get("num_heads", 1)
        if upward and self.config.get("num_heads_upsample", -1) != -1:
            heads = self.config["num_heads_upsample"]
        if self.config.get("num_head_channels", -1) != -1:
            heads = x.shape[1] // self.config["num_head_channels"]
        new = self.config.get("use_new_attention_order", False)
        positions = self.normed(f"{name}.norm", x).flatten(2)
        joined = self.linear(f"{name}.qkv", positions.mT).mT
        query, key, value = split(joined, heads, 3, new=new)
        if self.text is not None:
            heard = self.linear(f"{name}.encoder_kv", self.text.mT).mT
            text_key, text_value = split(heard, heads, 2, new=new)
            key, value = torch.cat([text_key, key], -1), torch.cat([text_value, value], -1)
        out = self.linear(f"{name}.proj_out", attended(query, key, value).mT).mT
        return x + out.reshape(x.shape)

    def normed(self, name: str, x: Tensor) -> Tensor:
        """Group normalization with 32 groups."""
        groups = x.reshape(len(x), 32, -1)
        mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
        shape = (1, -1, *[1] * (x.ndim - 2))
        gain, bias = (self.weights[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias"))
        return ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape) * gain + bias

    def convolved(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """A convolution that keeps the size, but for its stride."""
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """(*, in) → (*, out); a kernel of size 1 is a matrix."""
        return x @ self.weights[f"{name}.weight"].flatten(1).mT + self.weights[f"{name}.bias"]


def split(joined: Tensor, heads: int, parts: int, *, new: bool) -> list[Tensor]:
    """(B, parts · C, N) → `parts` tensors (B, heads, C / heads, N)."""
    rows = joined.chunk(parts if new else heads, 1)
    if new:
        return [torch.stack(row.chunk(heads, 1), 1) for row in rows]
    return [torch.stack([row.chunk(parts, 1)[part] for row in rows], 1) for part in range(parts)]


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, heads, c, N) each → (B, heads · c, N)."""
    weights = (query.mT @ key / math.sqrt(query.shape[2])).softmax(-1)
    return (value @ weights.mT).flatten(1, 2)


def resized(x: Tensor, way: str | None) -> Tensor:
    """Repeats pixels, or takes the mean of 2 × 2 of them."""
    if way == "up":
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return F.avg_pool2d(x, 2) if way == "down" else x
