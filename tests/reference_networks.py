"""The networks of the golden files: built from their options, weights by the fill rule."""

from typing import Any, TypeVar

from torch import Tensor, nn

from model.checkpoints.architectures import unet_from_glide_options
from model.evaluation.verification.fill import draw_input, draw_weight
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
    for key, tensor in network.state_dict().items():
        tensor.copy_(draw_weight(key, tensor.shape))
    return network


def input_noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """`rnd(name, *shape)` of the golden files."""
    return draw_input(name, shape)
