"""Weights and inputs that a golden file does not hold: functions of a name and a shape alone.

Knows no network: what it fills is anything with a state dict. Always drawn on the CPU in float32,
so that every device gets the same numbers.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.evaluation.verification.golden import Golden

N = TypeVar("N", bound=nn.Module)

_GAINS = ("weight", "g")
_FIRST_LIMIT, _SUM_SHARE = 1e-6, 1e-5


def draw(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal values of a name."""
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator)


def draw_input(name: str, shape: Sequence[int]) -> Tensor:
    """The input of that name."""
    return draw(f"input/{name}", shape)


def draw_weight(key: str, shape: Sequence[int]) -> Tensor:
    """Fill v1 of a state dict's entry.

    Matrices and kernels are scaled by 1/√fan-in, since much smaller weights would hide mistakes
    inside attention and residual branches; vectors lie near 1 (gains) or 0 (biases).
    """
    values = draw(key, shape)
    if len(shape) >= 2:
        scale: float = math.prod(shape[1:]) ** -0.5
        return values * scale
    gain = key.rsplit(".", 1)[-1] in _GAINS
    return gain + 0.02 * values


def filled(build: Callable[[], N], device: torch.device) -> N:
    """A network with its fill v1, in evaluation mode, without gradients of its weights.

    Args:
        build: makes it; called where tensors have shapes only, so that nothing is drawn twice.
        device: where it goes.
    """
    with torch.device("meta"):
        network = build()
    shapes = network.state_dict()
    weights = {key: draw_weight(key, tensor.shape) for key, tensor in shapes.items()}
    network.load_state_dict(weights, assign=True)
    return network.to(device).eval().requires_grad_(False)


def check_fill(golden: Golden) -> None:
    """`fill_check.json`: what the rules above draw here, against what they drew there."""
    for key, wanted in golden.meta.items():
        shape = wanted["shape"]
        found = draw(key, shape) if key.startswith("input/") else draw_weight(key, shape)
        first, exact = found.flatten()[:4], found.double()
        golden.compare(f"{key}/crc32", wanted["crc32"], zlib.crc32(key.encode()))
        golden.compare(f"{key}/first4", wanted["first4"], first.tolist(), limit=_FIRST_LIMIT)
        for name, total in (("sum", exact.sum()), ("sumsq", exact.square().sum())):
            limit = _SUM_SHARE * abs(wanted[name])
            golden.compare(f"{key}/{name}", wanted[name], float(total), limit=limit)
