"""Who shares the next step: a batch key and the items that advance together. Pure Python.

Two rules. Between batch keys: the least recently served goes next, so that a key with work waits
for at most one step of every other key. Within a key: first come, first served, by admission to
the engine, which a move to the next stage does not renew; hence nobody can be overtaken for ever.

Knows nothing of networks, jobs or time: an item is any hashable thing.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What the rows of one step must have in common; `height` and `width` in px."""

    pipeline: str
    stage: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """The items that advance together, oldest admission first."""

    key: BatchKey
    items: tuple[T, ...]


class Scheduler(Generic[T]):
    """Picks who advances next among any number of resident items.

    Args:
        max_batch: most items that share one step.
    """

    def __init__(self, max_batch: int) -> None:
        assert max_batch >= 1
        self.max_batch = max_batch
        self._keys: dict[T, BatchKey] = {}
        self._admissions: dict[T, int] = {}
        self._counter = count()
        self._step = 0
        self._served: dict[BatchKey, int] = {}
        self._caps: dict[BatchKey, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[T]:
        return iter(self._keys)

    def admit(self, item: T, key: BatchKey) -> None:
        """Takes a new item in, behind all others."""
        assert item not in self._keys
        self._keys[item] = key
        self._admissions[item] = next(self._counter)

    def move(self, item: T, key: BatchKey) -> None:
        """Gives an item another key, for the next stage; its place in the line stays."""
        assert item in self._keys
        self._keys[item] = key

    def remove(self, item: T) -> None:
        """Lets an item go."""
        del self._keys[item]
        del self._admissions[item]

    def lower_cap(self, key: BatchKey, cap: int) -> None:
        """From now on at most `cap` items of this key share a step: the device has no more room."""
        self._caps[key] = max(1, min(cap, self.cap(key)))

    def cap(self, key: BatchKey) -> int:
        """Most items of this key that share a step."""
        return self._caps.get(key, self.max_batch)

    def next_batch(self) -> Batch[T] | None:
        """The items of the next step, or None when nobody is resident."""
        if not self._keys:
            return None
        key = min(set(self._keys.values()), key=self._urgency)
        self._step += 1
        self._served[key] = self._step
        line = (item for item, own in self._keys.items() if own == key)
        items = nsmallest(self.cap(key), line, key=self._admissions.__getitem__)
        return Batch(key, tuple(items))

    def _urgency(self, key: BatchKey) -> tuple[int, int]:
        """Sorts keys: the least recently served first, then the one with the oldest item."""
        oldest = min(self._admissions[item] for item, own in self._keys.items() if own == key)
        return self._served.get(key, 0), oldest
