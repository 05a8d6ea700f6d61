"""What a verification found: array by array, file by file. Knows nothing of how it was found."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a file fared; only `passed` is a pass."""

    PASSED = "passed"
    MISSED = "missed"
    NOT_RUN = "not run"


class Measure(StrEnum):
    """How two arrays were compared."""

    ABSOLUTE = "max abs"
    RELATIVE_L2 = "rel L2"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One array against its golden values.

    Attributes:
        array: its name in the file.
        measure: what `difference` is.
        difference: between the two; None where it can't be measured, as with unequal shapes.
        limit: the largest difference that passes.
        reason: why it is a miss; empty for a pass.
    """

    array: str
    measure: Measure
    difference: float | None
    limit: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the array is equal within its limit."""
        return not self.reason

    @property
    def used(self) -> float:
        """The share of its limit that the difference takes; 0 where both are 0."""
        if self.difference is None:
            return float("inf")
        if self.difference == 0:
            return 0.0
        return self.difference / self.limit if self.limit else float("inf")


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file.

    Attributes:
        file: its name.
        computation: the pattern that says what is computed; empty for an unknown file.
        status: how it fared.
        comparisons: of the arrays, in the order they were made.
        problems: sentences, one for each thing besides a comparison that is a miss, or the reason
            why the file was not run.
        seconds: wall time.
    """

    file: str
    computation: str
    status: Status
    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]
    seconds: float

    @property
    def misses(self) -> tuple[str, ...]:
        """One sentence for each miss."""
        arrays = (f"{each.array}: {each.reason}" for each in self.comparisons if not each.passed)
        return (*arrays, *self.problems)

    @property
    def worst(self) -> Comparison | None:
        """The comparison that is closest to its limit, or furthest beyond."""
        return max(self.comparisons, key=lambda each: each.used, default=None)


@dataclass(frozen=True, slots=True)
class Report:
    """A folder.

    Attributes:
        files: every file of the folder that is golden, or not known at all.
    """

    files: tuple[FileReport, ...]

    @property
    def passed(self) -> bool:
        """Whether there were files, and every one of them passed."""
        return bool(self.files) and all(each.status is Status.PASSED for each in self.files)
