"""How much work the worker does in a second while it is busy. Pure; has no clock."""

import math

AVERAGE_S = 10.0


class WorkRate:
    """An exponential average over the last `AVERAGE_S` of busy time."""

    def __init__(self) -> None:
        self._work = 0.0
        self._seconds = 0.0
        self._per_second: float | None = None

    @property
    def per_second(self) -> float | None:
        """Work in a second, in the unit of `model.catalog.total_work`; None before any was done."""
        return self._per_second

    def count(self, work: int, seconds: float) -> None:
        """`work` took so long. Both sums fade alike, so that the first steps count in full."""
        kept = math.exp(-seconds / AVERAGE_S)
        self._work = kept * self._work + work
        self._seconds = kept * self._seconds + seconds
        if self._work and self._seconds:
            self._per_second = self._work / self._seconds
