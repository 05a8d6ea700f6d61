"""Reads the golden files of the original GLIDE and ADM code, and judges against them.

The rules are those of `tests/golden/README.md`. A test ends with `Golden.finish`, which fails on
every array of the file that was neither read, compared nor excused by name.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
_TOLERANCES: dict[str, Any] = json.loads((FOLDER / "tolerances.json").read_text())["files"]


class Golden:
    """One golden file."""

    def __init__(self, name: str) -> None:
        self._name = name
        with np.load(FOLDER / f"{name}.npz") as stored:
            self._arrays: dict[str, NDArray[Any]] = {key: stored[key] for key in stored.files}
        self.meta: dict[str, Any] = json.loads(str(self._arrays.pop("meta_json")))
        self._touched: set[str] = set()

    def array(self, name: str) -> NDArray[Any]:
        """An input of the computation."""
        self._touched.add(name)
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        """An input of the computation, as a tensor."""
        return torch.from_numpy(self.array(name))

    def check(self, name: str, got: Tensor | NDArray[Any]) -> None:
        """Asserts that a result equals the stored one within its tolerance."""
        self._touched.add(name)
        wanted = self._arrays[name]
        found = got.detach().cpu().numpy() if isinstance(got, Tensor) else got
        assert found.shape == wanted.shape, f"{name}: shape {found.shape}, not {wanted.shape}"
        tolerance = self._tolerance(name)
        difference = np.max(np.abs(found.astype(np.float64) - wanted.astype(np.float64)))
        assert difference <= tolerance, f"{name}: off by {difference:.3g}, not {tolerance:.3g}"

    def has(self, name: str) -> bool:
        """Whether the file holds this array."""
        return name in self._arrays

    def traces(self) -> set[str]:
        """The arrays kept for debugging, which the rules exempt from comparison."""
        return {name for name in self._arrays if name.startswith("trace_")}

    def finish(self, excused: Iterable[str] = ()) -> None:
        """Asserts that no array was forgotten, and that every excuse names a forgotten one."""
        excuses = set(excused)
        left = {name for name in self._arrays if name not in self._touched}
        assert left == excuses, f"{self._name}: {sorted(left ^ excuses)}"

    def _tolerance(self, name: str) -> float:
        wanted = self._arrays[name]
        listed = _TOLERANCES.get(f"{self._name}.npz", {}).get(name)
        if listed is not None:
            return float(listed["suggest_atol"])
        if wanted.dtype.kind != "f":
            return 0.0
        scale = max(1.0, float(np.max(np.abs(wanted))))
        if self._name.startswith("timestep_embedding"):
            return 3e-4
        return (1e-12 if wanted.dtype == np.float64 else 3e-5) * scale
