"""One batch key's line: tenants share its steps fairly, each one's items in order. Pure Python.

Start-time fair queueing (Goyal, Vin and Cheng 1996): the tenant with the least virtual start is
next, and is moved back by the work of what it was given. A tenant that comes, or that was given all
it has, starts at the furthest end handed out so far, the clock of Golestani's self-clocked queueing
(1994). So nobody saves up a claim, and no stream of new tenants passes one that waits again and
again.

Knows nothing of keys, steps or time: an item and a tenant are any hashable things.
"""

from collections import deque
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Place(Generic[T]):
    """An item in line.

    Attributes:
        item: any hashable thing.
        tenant: whose it is.
        admission: its age among its tenant's, lowest first; no two are equal.
        work: what one step of it costs.
    """

    item: T
    tenant: Hashable
    admission: int
    work: int


@dataclass(slots=True)
class _Account(Generic[T]):
    """What a tenant has in the line, and where its next item starts in virtual time."""

    start: int
    places: dict[T, Place[T]] = field(default_factory=dict)


class _Turn(Generic[T]):
    """A tenant while a step is put together; the least of all turns is next."""

    def __init__(self, account: _Account[T], *, at_once: bool) -> None:
        self.account = account
        self.waiting = deque(sorted(account.places.values(), key=lambda place: place.admission))
        self._at_once = at_once

    def __lt__(self, other: "_Turn[T]") -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[bool, int, int]:
        return not self._at_once, self.account.start, self.waiting[0].admission

    def take(self) -> Place[T]:
        place = self.waiting.popleft()
        self.account.start += place.work
        self._at_once = False
        return place


class FairLine(Generic[T]):
    """The items that could share a step, and what each of their tenants was given."""

    def __init__(self) -> None:
        self._accounts: dict[Hashable, _Account[T]] = {}
        self._clock = 0

    def __bool__(self) -> bool:
        return bool(self._accounts)

    def join(self, place: Place[T]) -> None:
        """Puts an item in line."""
        account = self._accounts.setdefault(place.tenant, _Account(self._clock))
        account.places[place.item] = place

    def leave(self, place: Place[T]) -> None:
        """Takes an item out of the line."""
        account = self._accounts[place.tenant]
        del account.places[place.item]
        if not account.places:
            del self._accounts[place.tenant]

    def serve(self, count: int, at_once: Collection[Hashable] = ()) -> list[Place[T]]:
        """The items of the next step, charged to their tenants; they stay in line.

        Args:
            count: most items; fewer come only when there are no more.
            at_once: tenants that get an item each before all others.
        """
        turns = [
            _Turn(account, at_once=tenant in at_once) for tenant, account in self._accounts.items()
        ]
        heapify(turns)
        given: list[Place[T]] = []
        satisfied: list[_Account[T]] = []
        while turns and len(given) < count:
            turn = turns[0]
            given.append(turn.take())
            self._clock = max(self._clock, turn.account.start)
            if turn.waiting:
                heapreplace(turns, turn)
            else:
                satisfied.append(heappop(turns).account)
        for account in satisfied:
            account.start = self._clock
        return given
