"""The networks of the golden files: built from their options, weights by the fill rule."""

import math
import zlib
from typing import Any, TypeVar

import torch
from torch import nn

from model.checkpoints.architectures import unet_from_glide_options
from model.networks.text_unet import TextUNet

N = TypeVar("N", bound=nn.Module)


def network_from_options(options: dict[str, Any]) -> TextUNet:
    """The network that GLIDE's options describe, filled, in evaluation mode."""
    network = filled(unet_from_glide_options(options))
    assert isinstance(network, TextUNet)
    return network


def filled(network: N) -> N:
    """A network with the files' weights, in evaluation mode."""
    network.eval().requires_grad_(False)
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
