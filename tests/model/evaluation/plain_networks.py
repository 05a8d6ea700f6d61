"""GLIDE's and ADM's networks written down plainly: functions of named weights, in float64.

Nothing of `model` is used here. A weight comes into being when it is asked for, by its name and
shape, so that names and shapes are part of what is tested.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import (
    avg_pool2d,
    conv2d,
    embedding,
    gelu,
    interpolate,
    layer_norm,
    linear,
    relu,
    silu,
)
from torch.nn.functional import group_norm as normalize_groups

Options = Mapping[str, Any]


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def draw_input(name: str, *shape: int) -> Tensor:
    return draw(f"input/{name}", *shape)


class Weights:
    def __init__(self, requires_grad: bool = False) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._requires_grad = requires_grad

    def __call__(self, key: str, *shape: int) -> Tensor:
        if key not in self.tensors:
            value = draw(key, *shape)
            if len(shape) > 1:
                value = value * math.prod(shape[1:]) ** -0.5
            else:
                value = 0.02 * value + (key.split(".")[-1] in ("weight", "g"))
            self.tensors[key] = value.double().requires_grad_(self._requires_grad)
        assert self.tensors[key].shape == shape
        return self.tensors[key]

    @property
    def count(self) -> int:
        return sum(each.numel() for each in self.tensors.values())


def affine(w: Weights, key: str, x: Tensor, out: int) -> Tensor:
    return linear(x, w(f"{key}.weight", out, x.shape[-1]), w(f"{key}.bias", out))


def convolution(
    w: Weights, key: str, x: Tensor, out: int, size: int = 3, stride: int = 1
) -> Tensor:
    weight = w(f"{key}.weight", out, x.shape[1], size, size)
    return conv2d(x, weight, w(f"{key}.bias", out), stride, padding=size // 2)


def along(w: Weights, key: str, x: Tensor, out: int) -> Tensor:
    weight = w(f"{key}.weight", out, x.shape[1], 1)
    return torch.einsum("oc,bcl->bol", weight[:, :, 0], x) + w(f"{key}.bias", out)[:, None]


def groups(w: Weights, key: str, x: Tensor) -> Tensor:
    c = x.shape[1]
    return normalize_groups(x, 32, w(f"{key}.weight", c), w(f"{key}.bias", c), 1e-5)


def norm(w: Weights, key: str, x: Tensor, names: tuple[str, str] = ("weight", "bias")) -> Tensor:
    d = x.shape[-1]
    return layer_norm(x, (d,), w(f"{key}.{names[0]}", d), w(f"{key}.{names[1]}", d), 1e-5)


def sinusoids(t: Tensor, width: int) -> Tensor:
    half = width // 2
    f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = t[:, None].float() * f
    zeros = torch.zeros(len(t), width % 2)
    return torch.cat([torch.cos(angles), torch.sin(angles), zeros], 1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q, k, v: (…, channels, length)."""
    logits = torch.einsum("...ci,...cj->...ij", q, k) / math.sqrt(q.shape[-2])
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    return torch.einsum("...ij,...cj->...ci", logits.softmax(-1), v)


def heads_of(x: Tensor, heads: int, parts: int, new_order: bool = False) -> list[Tensor]:
    b, c, length = x.shape
    if new_order:
        return [each.reshape(b, heads, -1, length) for each in x.chunk(parts, 1)]
    return list(x.reshape(b, heads, c // heads, length).chunk(parts, 2))


class Net:
    """The shape of a UNet or of a classifier's trunk."""

    def __init__(self, **given: Any) -> None:
        self.mc: int = given["mc"]
        self.mults = given["mults"]
        self.blocks: int = given["blocks"]
        self.factors = given["factors"]
        self.heads: int = given.get("num_heads") or 1
        self.head_channels: int = given.get("num_head_channels") or -1
        self.heads_up: int = given.get("num_heads_upsample") or -1
        self.scale_shift: bool = given.get("use_scale_shift_norm", False)
        self.updown: bool = given.get("resblock_updown", False)
        self.conv_resample: bool = given.get("conv_resample", True)
        self.new_order: bool = given.get("use_new_attention_order", False)
        self.classes: int = given.get("num_classes") or 0
        self.out: int = given.get("out_channels", 6)


def glide_net(o: Options) -> Net:
    side = o["image_size"]
    mults = o["channel_mult"] or {64: "1,2,3,4", 128: "1,1,2,3,4", 256: "1,1,2,2,4,4"}[side]
    return Net(
        **{**o, "num_classes": None, "out_channels": 6},
        mc=o["num_channels"],
        mults=[int(m) for m in mults.split(",")],
        blocks=o["num_res_blocks"],
        factors=[side // int(r) for r in o["attention_resolutions"].split(",")],
    )


def adm_net(c: Options) -> Net:
    return Net(
        **c,
        mc=c["model_channels"],
        mults=c["channel_mult"],
        blocks=c["num_res_blocks"],
        factors=c["attention_resolutions"],
    )


def residual(
    w: Weights, key: str, x: Tensor, emb: Tensor, out: int, net: Net, way: str = ""
) -> Tensor:
    h = silu(groups(w, f"{key}.in_layers.0", x))
    if way:
        change: Callable[[Tensor], Tensor] = (
            (lambda y: avg_pool2d(y, 2))
            if way == "down"
            else (lambda y: interpolate(y, scale_factor=2))
        )
        h, x = change(h), change(x)
    h = convolution(w, f"{key}.in_layers.2", h, out)
    e = affine(w, f"{key}.emb_layers.1", silu(emb), out * (1 + net.scale_shift))[..., None, None]
    if net.scale_shift:
        scale, shift = e.chunk(2, 1)
        h = groups(w, f"{key}.out_layers.0", h) * (1 + scale) + shift
    else:
        h = groups(w, f"{key}.out_layers.0", h + e)
    h = convolution(w, f"{key}.out_layers.3", silu(h), out)
    if x.shape[1] != out:
        x = convolution(w, f"{key}.skip_connection", x, out, 1)
    return x + h


def attention(
    w: Weights, key: str, x: Tensor, net: Net, text: Tensor | None, up: bool = False
) -> Tensor:
    b, c, height, width = x.shape
    heads = net.heads_up if up and net.heads_up != -1 else net.heads
    if net.head_channels != -1:
        heads = c // net.head_channels
    h = groups(w, f"{key}.norm", x).reshape(b, c, height * width)
    q, k, v = heads_of(along(w, f"{key}.qkv", h, 3 * c), heads, 3, net.new_order)
    if text is not None:
        ek, ev = heads_of(along(w, f"{key}.encoder_kv", text, 2 * c), heads, 2)
        k, v = torch.cat([ek, k], -1), torch.cat([ev, v], -1)
    h = along(w, f"{key}.proj_out", attend(q, k, v).reshape(b, c, -1), c)
    return x + h.reshape(x.shape)


def time_embedding(w: Weights, t: Tensor, net: Net) -> Tensor:
    h = affine(w, "time_embed.0", sinusoids(t, net.mc).double(), 4 * net.mc)
    return affine(w, "time_embed.2", silu(h), 4 * net.mc)


def trunk(
    w: Weights, net: Net, x: Tensor, emb: Tensor, text: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """What every input block gives, and the middle block."""
    skips = [convolution(w, "input_blocks.0.0", x, int(net.mults[0] * net.mc))]
    h, factor = skips[0], 1
    for level, mult in enumerate(net.mults):
        for _ in range(net.blocks):
            key = f"input_blocks.{len(skips)}"
            h = residual(w, f"{key}.0", h, emb, int(mult * net.mc), net)
            if factor in net.factors:
                h = attention(w, f"{key}.1", h, net, text)
            skips.append(h)
        if level < len(net.mults) - 1:
            key = f"input_blocks.{len(skips)}.0"
            if net.updown:
                h = residual(w, key, h, emb, h.shape[1], net, "down")
            elif net.conv_resample:
                h = convolution(w, f"{key}.op", h, h.shape[1], stride=2)
            else:
                h = avg_pool2d(h, 2)
            skips.append(h)
            factor *= 2
    h = residual(w, "middle_block.0", h, emb, h.shape[1], net)
    h = attention(w, "middle_block.1", h, net, text)
    return skips, residual(w, "middle_block.2", h, emb, h.shape[1], net)


def unet(w: Weights, net: Net, x: Tensor, emb: Tensor, text: Tensor | None = None) -> Tensor:
    skips, h = trunk(w, net, x.double(), emb, text)
    number = 0
    for level, mult in reversed(list(enumerate(net.mults))):
        for index in range(net.blocks + 1):
            key, last = f"output_blocks.{number}", 1
            h = torch.cat([h, skips.pop()], 1)
            h = residual(w, f"{key}.0", h, emb, int(mult * net.mc), net)
            if 2**level in net.factors:
                h = attention(w, f"{key}.1", h, net, text, up=True)
                last = 2
            if level and index == net.blocks:
                if net.updown:
                    h = residual(w, f"{key}.{last}", h, emb, h.shape[1], net, "up")
                else:
                    h = interpolate(h, scale_factor=2)
                    if net.conv_resample:
                        h = convolution(w, f"{key}.{last}.conv", h, h.shape[1])
            number += 1
    return convolution(w, "out.2", silu(groups(w, "out.0", h)), net.out)


def read_caption(
    w: Weights, o: Options, tokens: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """xf_proj and xf_out."""
    context, width, heads = o["text_ctx"], o["xf_width"], o["xf_heads"]
    x = embedding(tokens.long(), w("token_embedding.weight", 50257, width))
    x = x + w("positional_embedding", context, width)
    if o["xf_padding"]:
        assert mask is not None
        x = torch.where(mask[..., None], x, w("padding_embedding", context, width))
    for number in range(o["xf_layers"]):
        key = f"transformer.resblocks.{number}"
        qkv = affine(w, f"{key}.attn.c_qkv", norm(w, f"{key}.ln_1", x), 3 * width)
        q, k, v = heads_of(qkv.transpose(1, 2), heads, 3)
        h = attend(q, k, v).reshape(len(x), width, -1).transpose(1, 2)
        x = x + affine(w, f"{key}.attn.c_proj", h, width)
        h = gelu(affine(w, f"{key}.mlp.c_fc", norm(w, f"{key}.ln_2", x), 4 * width))
        x = x + affine(w, f"{key}.mlp.c_proj", h, width)
    if o["xf_final_ln"]:
        x = norm(w, "final_ln", x)
    return affine(w, "transformer_proj", x[:, -1], 4 * o["num_channels"]), x.transpose(1, 2)


def glide(w: Weights, o: Options, x: Tensor, t: Tensor, **given: Tensor | None) -> Tensor:
    """One call of a GLIDE network; inputs that are not given are not passed."""
    doors, size = [x.double()], x.shape[-2:]
    if o["inpaint"]:
        image, mask = given.get("inpaint_image"), given.get("inpaint_mask")
        image = torch.zeros_like(x) if image is None else image
        mask = torch.zeros_like(x[:, :1]) if mask is None else mask
        doors += [(image * mask).double(), mask.double()]
    if o["super_res"]:
        low_res = given["low_res"]
        assert low_res is not None
        doors.append(interpolate(low_res.double(), size, mode="bilinear", align_corners=False))
    net = glide_net(o)
    emb, text = time_embedding(w, t, net), None
    if o["xf_width"]:
        assert given["tokens"] is not None
        pooled, text = read_caption(w, o, given["tokens"], given.get("mask"))
        emb = emb + pooled
    return unet(w, net, torch.cat(doors, 1), emb, text)


def adm(
    w: Weights,
    c: Options,
    x: Tensor,
    t: Tensor,
    y: Tensor | None = None,
    low_res: Tensor | None = None,
) -> Tensor:
    net, x = adm_net(c), x.double()
    emb = time_embedding(w, t, net)
    if net.classes:
        assert y is not None
        emb = emb + embedding(y, w("label_emb.weight", net.classes, 4 * net.mc))
    if low_res is not None:
        large = interpolate(low_res.double(), x.shape[-2:], mode="bilinear", align_corners=False)
        x = torch.cat([x, large], 1)
    return unet(w, net, x, emb)


def classifier(w: Weights, c: Options, x: Tensor, t: Tensor) -> Tensor:
    net = adm_net(c)
    skips, h = trunk(w, net, x.double(), time_embedding(w, t, net))
    means = torch.cat([each.mean((2, 3)) for each in (*skips, h)], 1)
    match c["pool"]:
        case "adaptive":
            mean = silu(groups(w, "out.0", h)).mean((2, 3), keepdim=True)
            return convolution(w, "out.3", mean, net.out, 1)[:, :, 0, 0]
        case "spatial":
            return affine(w, "out.2", relu(affine(w, "out.0", means, 2048)), net.out)
        case "spatial_v2":
            hidden = silu(groups(w, "out.1", affine(w, "out.0", means, 2048)))
            return affine(w, "out.3", hidden, net.out)
    channels, side = h.shape[1], c["image_size"] // 2 ** (len(net.mults) - 1)
    h = silu(groups(w, "out.0", h)).flatten(2)
    h = torch.cat([h.mean(-1, keepdim=True), h], -1)
    h = h + w("out.2.positional_embedding", channels, side**2 + 1)
    heads = channels // net.head_channels
    q, k, v = heads_of(along(w, "out.2.qkv_proj", h, 3 * channels), heads, 3, new_order=True)
    h = attend(q, k, v).reshape(len(x), channels, -1)
    return along(w, "out.2.c_proj", h, net.out)[:, :, 0]


def clip_blocks(w: Weights, c: Options, x: Tensor, mask: Tensor | None) -> Tensor:
    heads, width = c["n_head"], c["n_head"] * c["n_head_state"]
    for number in range(c["n_xf_blocks"]):
        key = f"blocks.block_{number}"
        h = norm(w, f"{key}.f_attn.ln", x, ("g", "b"))
        q, k, v = (
            clip_affine(w, f"{key}.f_attn.{name}", h, width, bias=name != "f_k")
            .reshape(len(x), -1, heads, c["n_head_state"])
            .permute(0, 2, 3, 1)
            for name in ("f_q", "f_k", "f_v")
        )
        h = attend(q, k, v, mask).permute(0, 3, 1, 2).reshape(x.shape)
        x = x + clip_affine(w, f"{key}.f_attn.f_c", h, width)
        h = norm(w, f"{key}.f_mlp.ln", x, ("g", "b"))
        h = gelu(clip_affine(w, f"{key}.f_mlp.f_1", h, 4 * width))
        x = x + clip_affine(w, f"{key}.f_mlp.f_2", h, width)
    return x


def clip_affine(w: Weights, key: str, x: Tensor, out: int, bias: bool = True) -> Tensor:
    found = linear(x, w(f"{key}.w", out, x.shape[-1]))
    return found + w(f"{key}.b", out) if bias else found


def clip_answer(w: Weights, c: Options, x: Tensor) -> Tensor:
    x = norm(w, "blocks.output.ln", x, ("g", "b"))
    return clip_affine(w, "blocks.output.f", x, c["n_embd"], bias=False)


def clip_text(w: Weights, c: Options, tokens: Tensor, lengths: Tensor) -> Tensor:
    width, length = c["n_head"] * c["n_head_state"], c["max_text_len"]
    x = embedding(tokens.long(), w("blocks.input.w_voc", c["n_bpe_vocab"], width))
    x = x + w("blocks.input.w_pos", length, width)
    x = clip_blocks(w, c, x, torch.ones(length, length).tril().bool())
    return clip_answer(w, c, x[torch.arange(len(x)), lengths.long() - 1])


def clip_image(w: Weights, c: Options, x: Tensor, t: Tensor) -> Tensor:
    width, patch = c["n_head"] * c["n_head_state"], c["patch_size"]
    means = torch.tensor([122.77093945, 116.74601272, 104.09373519])[:, None, None]
    deviations = torch.tensor([68.50053285, 66.63215831, 70.32316309])[:, None, None]
    x = ((x.double() + 1) * 127.5 - means.double()) / deviations.double()
    x = conv2d(x, w("blocks.input.patch_proj", width, 3, patch, patch), stride=patch)
    time = embedding(t.long(), w("blocks.input.w_t", c["n_timestep"], width))[:, None]
    x = torch.cat([time, x.flatten(2).transpose(1, 2)], 1)
    positions = (c["image_size"] // patch) ** 2 + 1
    x = norm(w, "blocks.input.ln", x + w("blocks.input.w_pos", positions, width), ("g", "b"))
    return clip_answer(w, c, clip_blocks(w, c, x, None)[:, 0])


def unit(z: Tensor) -> Tensor:
    found: Tensor = z / (z.norm(dim=-1, keepdim=True) + 1e-12)
    return found
