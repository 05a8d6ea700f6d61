"""What was read of the captions of late, so that a caption is encoded once. Knows no network."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

CAPTIONS_KEPT = 32

T = TypeVar("T")


class RecentCaptions(Generic[T]):
    """The features of the captions used last; the empty caption's are never forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, caption: str, read: Callable[[str], T]) -> T:
        """The features of a caption.

        Args:
            caption: any text.
            read: computes them where they aren't kept.
        """
        if caption not in self._kept:
            self._kept[caption] = read(caption)
        self._kept.move_to_end(caption)
        if len(self._kept) > CAPTIONS_KEPT:
            del self._kept[next(each for each in self._kept if each)]
        return self._kept[caption]
