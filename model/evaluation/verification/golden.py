"""One golden file: its inputs, its metadata, and the comparisons made with it.

Knows the format, and no computation. An array that no computation reads or compares is a miss, so
what a file holds can't be passed over in silence.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.errors import GoldenFileError
from model.evaluation.verification.report import Comparison
from model.evaluation.verification.tolerance import (
    Array,
    Half,
    compare_absolute,
    compare_equal,
    compare_relative,
    default_limit,
    listed_limit,
)

_META, _TRACE = "meta_json", "trace_"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how precisely a verification computes.

    Attributes:
        device: of networks and steps.
        dtype: of the denoisers' bodies; all else is float32 or float64.
        vocabulary: the folder with the tokenizers' files.
    """

    device: torch.device
    dtype: torch.dtype
    vocabulary: Path | None


class NotRun(Exception):
    """A file can't be computed here, for want of something that is no part of it."""


class Meta(dict[str, Any]):
    """A JSON object whose missing keys are named in a sentence."""

    def __missing__(self, key: str) -> Any:
        raise GoldenFileError(f"{_META} has no {key!r}")


class Golden:
    """A file's arrays and metadata.

    Args:
        file: its name.
        arrays: all but the metadata.
        meta: the metadata.
        tolerances: the file's entries of `tolerances.json`.
        setting: where and how precisely to compute.
    """

    def __init__(
        self,
        file: str,
        arrays: Mapping[str, Array],
        meta: Meta,
        tolerances: Mapping[str, Any],
        setting: Setting,
    ) -> None:
        self.file = file
        self.meta = meta
        self.setting = setting
        self.comparisons: list[Comparison] = []
        self.problems: list[str] = []
        self._arrays = arrays
        self._tolerances = tolerances
        self._touched: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays of the file."""
        return tuple(self._arrays)

    def has(self, name: str) -> bool:
        """Whether the file holds this array."""
        return name in self._arrays

    def array(self, name: str) -> Array:
        """An input.

        Raises:
            GoldenFileError: the file doesn't hold it.
        """
        if name not in self._arrays:
            raise GoldenFileError(f"the file has no array {name!r}")
        self._touched.add(name)
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        """An input, on the device."""
        return torch.from_numpy(np.ascontiguousarray(self.array(name))).to(self.setting.device)

    def optional(self, name: str) -> Tensor | None:
        """An input, or None where the file doesn't hold it."""
        return self.tensor(name) if self.has(name) else None

    def accept(self, names: Iterable[str]) -> None:
        """Says that these arrays, where the file has them, are inputs, whether read or not."""
        self._touched.update(names)

    def check(
        self,
        name: str,
        found: Tensor | Array | Callable[[], Tensor | Array],
        *,
        limit: float | Array | None = None,
        half: Half | None = None,
    ) -> None:
        """Compares a result with the array of that name, if the file holds it.

        Args:
            name: of the array.
            found: the result, or what computes it where it is wanted.
            limit: absolute, of all values or of each, where the file has no entry for the array;
                None: the rule for its type.
            half: the limit in half precision; None for what is computed in full precision always.
        """
        if name not in self._arrays:
            return
        self._touched.add(name)
        wanted = self._arrays[name]
        got = _as_array(found() if callable(found) else found)
        self.comparisons.append(self._compare(name, wanted, got, limit, half))

    def check_half(self, name: str, found: Tensor, limit: float) -> None:
        """Compares a result of half precision, whatever precision was asked for."""
        if name in self._arrays:
            self._touched.add(name)
            got = _as_array(found)
            self.comparisons.append(compare_relative(name, self._arrays[name], got, limit))

    def check_meta(self, key: str, found: int) -> None:
        """Compares a number with the metadata's, if it names one."""
        if key in self.meta:
            self.compare(key, self.meta[key], found)

    def compare(self, name: str, wanted: Any, found: Any, *, limit: float = 0.0) -> None:
        """Compares a result with a value of the metadata: within `limit`, or exactly.

        Args:
            name: what the comparison is called.
            wanted: a number, a string, or a list of them.
            found: the same.
            limit: absolute; 0 is equality.
        """
        if limit:
            numbers = np.asarray(wanted, float), np.asarray(found, float)
            self.comparisons.append(compare_absolute(name, *numbers, limit))
        else:  # as objects, since numpy's own strings end before their last NUL
            values = np.asarray(wanted, object), np.asarray(found, object)
            self.comparisons.append(compare_equal(name, *values))

    def miss(self, sentence: str) -> None:
        """Says what else is wrong with the file."""
        self.problems.append(sentence)

    def untouched(self) -> tuple[str, ...]:
        """The arrays that were neither read nor compared, but for those kept for debugging."""
        return tuple(
            name
            for name in self._arrays
            if name not in self._touched and not name.startswith(_TRACE)
        )

    def _compare(
        self,
        name: str,
        wanted: Array,
        got: Array,
        limit: float | Array | None,
        half: Half | None,
    ) -> Comparison:
        if wanted.dtype.kind != "f":
            return compare_equal(name, wanted, got)
        if half is not None and self.setting.dtype != torch.float32:
            share = half.value[self.setting.dtype == torch.bfloat16]
            return compare_relative(name, wanted, got, share)
        allowed: float | Array | None = listed_limit(self._tolerances, name)
        if allowed is None:
            allowed = default_limit(self.file, wanted) if limit is None else limit
        return compare_absolute(name, wanted, got, allowed)


def read_golden(path: Path, tolerances: Mapping[str, Any], setting: Setting) -> Golden:
    """Reads an `.npz` file; never unpickles.

    Args:
        path: of the file.
        tolerances: its entries of `tolerances.json`.
        setting: where and how precisely to compute.

    Raises:
        GoldenFileError: the file is damaged or has no metadata.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise GoldenFileError(f"the file can't be read: {error}") from error
    if _META not in arrays:
        raise GoldenFileError(f"the file has no {_META}")
    return Golden(path.name, arrays, _parse(str(arrays.pop(_META))), tolerances, setting)


def read_records(path: Path, tolerances: Mapping[str, Any], setting: Setting) -> Golden:
    """Reads a `.json` file, which has metadata alone; arguments as in `read_golden`.

    Raises:
        GoldenFileError: the file is damaged.
    """
    return Golden(path.name, {}, _parse(path.read_text(encoding="utf-8")), tolerances, setting)


def _parse(text: str) -> Meta:
    try:
        meta = json.loads(text, object_hook=Meta)
    except ValueError as error:
        raise GoldenFileError(f"{_META} is not JSON: {error}") from error
    if not isinstance(meta, Meta):
        raise GoldenFileError(f"{_META} is not an object")
    return meta


def _as_array(found: Tensor | Array) -> Array:
    if not isinstance(found, Tensor):
        return found
    found = found.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()
