"""Half precision: which of a network's parameters it concerns. Knows no files.

The rule is the originals' (`convert_to_fp16`), so that a half network makes their numbers: the
convolutions of the blocks and the caption transformer's matrices become narrow; the timestep's
path, all normalizations, the caption's positions and the output layer stay float32.
"""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)

_BLOCKS = ("input_blocks", "middle_block", "output_blocks")
_CAPTION = ("transformer", "transformer_proj", "token_embedding")


def lower_precision(network: N, dtype: torch.dtype) -> N:
    """Casts, in place, the parameters of a UNet or a noised classifier that may be narrow.

    A noised CLIP has none: the original always runs it in float32.

    Args:
        network: in float32.
        dtype: float16 or bfloat16; float32 changes nothing.
    """
    for part in (*_BLOCKS, *_CAPTION):
        kinds = (nn.Conv1d, nn.Conv2d) if part in _BLOCKS else (nn.Linear, nn.Embedding)
        for module in getattr(network, part, nn.Module()).modules():
            if isinstance(module, kinds):
                module.to(dtype)
    return network
