"""The networks of the golden files: built from GLIDE's options, weights by the files' fill rule."""

import math
import zlib
from typing import Any

import torch
from torch import nn

from model.networks.text_unet import TextUNet
from model.networks.unet import UNetConfig
from model.text.encoder import TextConfig

_MULTIPLIERS = {256: "1,1,2,2,4,4", 64: "1,2,3,4"}


def network_from_options(options: dict[str, Any]) -> TextUNet:
    """The network that GLIDE's options describe, filled, in evaluation mode."""
    side = options["image_size"]
    multipliers = options["channel_mult"] or _MULTIPLIERS[side]
    config = UNetConfig(
        out_channels=6,
        model_channels=options["num_channels"],
        channel_mult=tuple(int(each) for each in multipliers.split(",")),
        residual_blocks=options["num_res_blocks"],
        attention_factors=tuple(
            side // int(pixels) for pixels in options["attention_resolutions"].split(",")
        ),
        head_channels=options["num_head_channels"],
        low_res=options["super_res"],
        inpainting=options["inpaint"],
        text=TextConfig(
            vocabulary=50257,
            context=options["text_ctx"],
            width=options["xf_width"],
            layers=options["xf_layers"],
            heads=options["xf_heads"],
        ),
    )
    network = TextUNet(config).eval().requires_grad_(False)
    fill(network)
    return network


def fill(network: nn.Module) -> None:
    """Weight fill v1: a function of each key and shape alone, see tests/golden/README.md."""
    for key, tensor in network.state_dict().items():
        generator = torch.Generator("cpu").manual_seed(zlib.crc32(key.encode()))
        drawn = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim >= 2:
            tensor.copy_(drawn * math.prod(tensor.shape[1:]) ** -0.5)
        else:
            gain = key.rsplit(".", 1)[-1] in ("weight", "g")
            tensor.copy_(gain + 0.02 * drawn)


def input_noise(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """`rnd(name, *shape)` of the golden files."""
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"input/{name}".encode()))
    return torch.randn(shape, generator=generator)
