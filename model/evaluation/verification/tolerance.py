"""How far a result may be from a golden array: the rules of the golden files' README.

Knows no computation. A file's own entry in `tolerances.json` comes first, then what the
computation asks for, then the rule for the array's type.
"""

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import GoldenFileError
from model.evaluation.verification.report import Comparison, Measure

Array = NDArray[Any]
Tolerances = Mapping[str, Mapping[str, Any]]

_TABLE_FILES = ("schedules", "respacing")
_SINUSOID_FILES = ("timestep_embedding",)
_TABLE_SHARE, _SINUSOID_LIMIT, _FLOAT_SHARE = 1e-12, 3e-4, 3e-5


class Half(Enum):
    """Largest relative L2 distance in half precision: (float16, bfloat16)."""

    OUTPUT = (8e-3, 6e-2)
    TEXT = (4e-3, 2.4e-2)
    GUIDED_OUTPUT = (1.4e-2, 1.1e-1)
    RUN = (0.2, 0.45)


def read_tolerances(folder: Path) -> Tolerances:
    """The entries of a folder's `tolerances.json`, by file; none where it has no such file.

    Raises:
        GoldenFileError: the file is damaged.
    """
    path = folder / "tolerances.json"
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise GoldenFileError(f"{path} is not a list of tolerances: {error!r}") from error
    if not isinstance(entries, dict):
        raise GoldenFileError(f"{path} is not a list of tolerances")
    return entries


def listed_limit(entries: Mapping[str, Any], array: str) -> float | None:
    """The absolute limit that a file's entries name for an array.

    Raises:
        GoldenFileError: the entry has no usable `suggest_atol`.
    """
    if array not in entries:
        return None
    try:
        limit = float(entries[array]["suggest_atol"])
    except (KeyError, TypeError, ValueError) as error:
        raise GoldenFileError(f"tolerances.json has no suggest_atol for {array}") from error
    if not 0 <= limit < float("inf"):
        raise GoldenFileError(f"tolerances.json has a suggest_atol of {limit} for {array}")
    return limit


def default_limit(file: str, wanted: Array) -> float:
    """The absolute limit of an array of floats without an entry."""
    if file.startswith(_SINUSOID_FILES):
        return _SINUSOID_LIMIT
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    exact = wanted.dtype == np.float64 and file.startswith(_TABLE_FILES)
    return (_TABLE_SHARE if exact else _FLOAT_SHARE) * scale


def compare_equal(array: str, wanted: Array, found: Array) -> Comparison:
    """Integers, booleans and strings: equal or not."""
    if reason := _unequal_shapes(wanted, found):
        return Comparison(array, Measure.EQUAL, None, 0.0, reason)
    unequal = int(np.count_nonzero(wanted != found))
    reason = f"{unequal} of {wanted.size} entries differ" if unequal else ""
    return Comparison(array, Measure.EQUAL, float(unequal), 0.0, reason)


def compare_absolute(array: str, wanted: Array, found: Array, limit: float | Array) -> Comparison:
    """The absolute difference that is closest to its limit; NaN is a miss, equal infinities not.

    Args:
        array: its name.
        wanted: the golden values.
        found: the result.
        limit: of all values, or of each.
    """
    loosest = float(np.max(limit))
    if reason := _unequal_shapes(wanted, found) or _not_a_number(wanted, found):
        return Comparison(array, Measure.ABSOLUTE, None, loosest, reason)
    if not wanted.size:
        return Comparison(array, Measure.ABSOLUTE, 0.0, loosest)
    limits = np.broadcast_to(np.asarray(limit, np.float64), wanted.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(wanted == found, 0.0, np.abs(_double(found) - _double(wanted)))
        worst = np.argmax(np.where(apart == 0, 0.0, apart / limits))
    difference, allowed = float(apart.flat[worst]), float(limits.flat[worst])
    reason = "" if difference <= allowed else f"off by {difference:.3g}, more than {allowed:.3g}"
    return Comparison(array, Measure.ABSOLUTE, difference, allowed, reason)


def compare_relative(array: str, wanted: Array, found: Array, limit: float) -> Comparison:
    """‖found - wanted‖ / ‖wanted‖ over the whole array; NaN is a miss."""
    if reason := _unequal_shapes(wanted, found) or _not_a_number(wanted, found):
        return Comparison(array, Measure.RELATIVE_L2, None, limit, reason)
    apart, size = np.linalg.norm(_double(found) - _double(wanted)), np.linalg.norm(_double(wanted))
    difference = float(apart / size) if size else float(apart)
    reason = "" if difference <= limit else f"off by {difference:.3g} of it, more than {limit:.3g}"
    return Comparison(array, Measure.RELATIVE_L2, difference, limit, reason)


def _double(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


def _unequal_shapes(wanted: Array, found: Array) -> str:
    return "" if wanted.shape == found.shape else f"shape {found.shape}, not {wanted.shape}"


def _not_a_number(wanted: Array, found: Array) -> str:
    if np.isnan(wanted).any():
        return "the file holds NaN"
    return "NaN" if np.isnan(found).any() else ""
