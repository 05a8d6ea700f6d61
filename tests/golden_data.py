"""Reads the golden files of the original GLIDE and ADM code, for what they were made of.

That our numbers are theirs is tested in one place: tests/model/evaluation/test_verifier.py.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


class Golden:
    """The inputs and the metadata of one golden file."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as stored:
            self._arrays = {key: stored[key] for key in stored.files}
        self.meta: dict[str, Any] = json.loads(str(self._arrays.pop("meta_json")))

    def tensor(self, name: str) -> Tensor:
        """An array of the file."""
        return torch.from_numpy(self._arrays[name])
