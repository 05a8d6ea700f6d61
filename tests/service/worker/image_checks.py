"""Checks of finished images, as an operator would write them: worker tests name them by setting."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

seen: list[dict[str, Any]] = []
failures: list[Exception] = []
"""Raised one by one, before anything is checked."""


def refuse_forbidden(pixels: NDArray[np.uint8], facts: Mapping[str, Any]) -> str | None:
    """Refuses what a caption calls forbidden; scribbles over whatever it is shown."""
    seen.append({**facts, "shape": pixels.shape, "dtype": str(pixels.dtype)})
    pixels[:] = 0
    if failures:
        raise failures.pop()
    return "it looks forbidden" if "forbidden" in facts["prompt"] else None


def refuse_second(_pixels: NDArray[np.uint8], facts: Mapping[str, Any]) -> str | None:
    """Refuses image 1 of every job, and lets previews pass."""
    return "not this one" if facts["index"] == 1 and not facts["preview"] else None


def always_fail(_pixels: NDArray[np.uint8], _facts: Mapping[str, Any]) -> str | None:
    """Is broken."""
    raise RuntimeError("the classifier is away")
