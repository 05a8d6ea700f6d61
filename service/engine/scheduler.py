"""Who shares the next step: a batch key and the items that advance together. Pure Python.

Between batch keys the least recently served goes next; within a key tenants share the step fairly,
as `fair_line` says. But a newcomer, a tenant none of whose items was in a step since it had none
here, goes before all that in every other step. So a newcomer's first step is the second at the
latest, unless others came just before it in another key; and a key with work waits for at most two
steps of each other key. A batch is as large as its key allows.

Knows nothing of networks, jobs or time: an item and a tenant are any hashable things.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from service.engine.fair_line import FairLine, Place

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
    """The items that advance together, in the order in which they got their places."""

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
        self._residents: dict[T, tuple[BatchKey, Place[T]]] = {}
        self._lines: dict[BatchKey, FairLine[T]] = {}
        self._counter = count()
        self._items_of: Counter[Hashable] = Counter()
        self._newcomers: set[Hashable] = set()
        self._favored = False
        self._turn = 0
        self._served: dict[BatchKey, int] = {}
        self._caps: dict[BatchKey, int] = {}

    def __len__(self) -> int:
        return len(self._residents)

    def __iter__(self) -> Iterator[T]:
        return iter(self._residents)

    def admit(self, item: T, key: BatchKey, tenant: Hashable, work: int) -> None:
        """Takes a new item in, behind all others of its tenant; a step of it costs `work`."""
        assert item not in self._residents
        if not self._items_of[tenant]:
            self._newcomers.add(tenant)
        self._items_of[tenant] += 1
        self._enter(key, Place(item, tenant, next(self._counter), work))

    def move(self, item: T, key: BatchKey, work: int) -> None:
        """Gives an item another key, for the next stage; its place among its tenant's stays."""
        place = self._exit(item)
        self._enter(key, Place(item, place.tenant, place.admission, work))

    def remove(self, item: T) -> None:
        """Lets an item go."""
        tenant = self._exit(item).tenant
        self._items_of[tenant] -= 1
        if not self._items_of[tenant]:
            del self._items_of[tenant]
            self._newcomers.discard(tenant)

    def lower_cap(self, key: BatchKey, cap: int) -> None:
        """From now on at most `cap` items of this key share a step: the device has no more room."""
        self._caps[key] = max(1, min(cap, self.cap(key)))

    def cap(self, key: BatchKey) -> int:
        """Most items of this key that share a step."""
        return self._caps.get(key, self.max_batch)

    def next_batch(self) -> Batch[T] | None:
        """The items of the next step, or None when nobody is resident."""
        if not self._residents:
            return None
        self._favored = bool(self._newcomers) and not self._favored
        key = self._newcomers_key() if self._favored else self._key_in_turn()
        at_once = self._newcomers if self._favored else ()
        places = self._lines[key].serve(self.cap(key), at_once)
        self._newcomers.difference_update(place.tenant for place in places)
        return Batch(key, tuple(place.item for place in places))

    def _key_in_turn(self) -> BatchKey:
        """The least recently served; a step for newcomers does not count, or it could cost one."""
        key = min(self._lines, key=lambda line: self._served.get(line, 0))
        self._turn += 1
        self._served[key] = self._turn
        return key

    def _newcomers_key(self) -> BatchKey:
        """Where the newcomer is that was admitted first."""
        return next(
            key for key, place in self._residents.values() if place.tenant in self._newcomers
        )

    def _enter(self, key: BatchKey, place: Place[T]) -> None:
        self._residents[place.item] = key, place
        self._lines.setdefault(key, FairLine()).join(place)

    def _exit(self, item: T) -> Place[T]:
        key, place = self._residents.pop(item)
        line = self._lines[key]
        line.leave(place)
        if not line:
            del self._lines[key]
        return place
