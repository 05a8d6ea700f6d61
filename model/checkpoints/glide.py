"""OpenAI's GLIDE checkpoints: the shapes of the four released networks, and their files.

The project's networks have the originals' keys and shapes, so nothing is renamed: a file is read,
compared with the network and taken over. Source: arXiv:2112.10741, §4 and the released model card.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoints.native import check_weights
from model.errors import CheckpointError
from model.networks.text_unet import TextUNet
from model.networks.unet import UNetConfig
from model.text.encoder import TextConfig

TEXT = TextConfig(vocabulary=50257, context=128, width=512, layers=16, heads=8)
BASE = UNetConfig(
    out_channels=6,
    model_channels=192,
    channel_mult=(1, 2, 3, 4),
    residual_blocks=3,
    attention_factors=(2, 4, 8),
    dropout=0.1,
    text=TEXT,
)
UPSAMPLE = replace(
    BASE,
    channel_mult=(1, 1, 2, 2, 4, 4),
    residual_blocks=2,
    attention_factors=(8, 16, 32),
    low_res=True,
)
CONFIGS = {
    "base": BASE,
    "upsample": UPSAMPLE,
    "base_inpaint": replace(BASE, inpainting=True),
    "upsample_inpaint": replace(UPSAMPLE, inpainting=True),
}


def load_glide(path: Path, config: UNetConfig) -> TextUNet:
    """A network with the weights of one of OpenAI's files, in evaluation mode, float32.

    Args:
        path: a `.pt` file, a plain state dict; float16 files are widened.
        config: the network the file belongs to, one of `CONFIGS`.

    Raises:
        CheckpointError: the file is missing, truncated, or of another network; the message names
            the first keys that differ.
    """
    try:
        weights: dict[str, Tensor] = torch.load(path, "cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
    with torch.device("meta"):
        network = TextUNet(config)
    check_weights(weights, network.state_dict(), path.name)
    full = {key: tensor.to(torch.float32) for key, tensor in weights.items()}
    network.load_state_dict(full, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)
