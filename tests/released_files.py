"""Files with the keys and shapes of released networks, and almost no bytes: one number a tensor."""

from pathlib import Path

import torch

from model.checkpoints.architectures import ARCHITECTURES


def write_released(path: Path, architecture: str, **changes: tuple[int, ...]) -> None:
    """Writes a file that is told apart as the released one; `changes` gives keys other shapes."""
    with torch.device("meta"):
        shapes = ARCHITECTURES[architecture].build().state_dict()
    weights = {
        key: torch.zeros(()).expand(changes.get(key, tensor.shape))
        for key, tensor in shapes.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
