from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from service.engine.scheduler import BatchKey, Scheduler

KEYS = [BatchKey("a", "base", 8, 8), BatchKey("a", "upsample", 16, 16), BatchKey("b", "base", 8, 8)]


@dataclass
class Item:
    """One simulated trajectory: steps to do in each key that it passes."""

    number: int
    arrival: int
    legs: list[tuple[BatchKey, int]]
    waited: int = 0
    finished_at: int | None = field(default=None)

    def __hash__(self) -> int:
        return self.number

    @property
    def remaining(self) -> int:
        return sum(steps for _, steps in self.legs)


legs = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 6)), min_size=1, max_size=3)
crowds = st.lists(st.tuples(st.integers(0, 30), legs), min_size=1, max_size=20)


def _items(crowd: list[tuple[int, list[tuple[BatchKey, int]]]]) -> list[Item]:
    ordered = sorted(crowd, key=lambda member: member[0])
    return [Item(number, arrival, list(own)) for number, (arrival, own) in enumerate(ordered)]


def _advance(scheduler: Scheduler[Item], item: Item) -> None:
    key, steps = item.legs[0]
    item.legs = item.legs[1:] if steps == 1 else [(key, steps - 1), *item.legs[1:]]
    if not item.legs:
        scheduler.remove(item)
    elif steps == 1:
        scheduler.move(item, item.legs[0][0])


@given(crowds, st.integers(1, 5))
def test_everyone_finishes_within_a_bound_set_by_those_ahead(
    crowd: list[tuple[int, list[tuple[BatchKey, int]]]], max_batch: int
) -> None:
    items = _items(crowd)
    scheduler: Scheduler[Item] = Scheduler(max_batch)
    bound = {}
    for tick in range(2_000):
        for item in items:
            if item.arrival == tick:
                ahead = sum(other.remaining for other in scheduler)
                bound[item.number] = tick + len(KEYS) * (ahead + item.remaining)
                scheduler.admit(item, item.legs[0][0])
        batch = scheduler.next_batch()
        if batch is None:
            continue
        assert 1 <= len(batch.items) <= max_batch
        assert all(item.legs[0][0] == batch.key for item in batch.items)
        for item in batch.items:
            _advance(scheduler, item)
            if not item.legs:
                item.finished_at = tick
    assert len(scheduler) == 0
    assert all(
        item.finished_at is not None and item.finished_at < bound[item.number] for item in items
    )


@given(crowds, st.integers(1, 5))
def test_a_key_with_work_waits_for_at_most_one_step_of_each_other(
    crowd: list[tuple[int, list[tuple[BatchKey, int]]]], max_batch: int
) -> None:
    scheduler: Scheduler[Item] = Scheduler(max_batch)
    for item in _items(crowd):
        scheduler.admit(item, item.legs[0][0])
    waits = dict.fromkeys(KEYS, 0)
    while batch := scheduler.next_batch():
        waiting = {item.legs[0][0] for item in scheduler}
        for key in KEYS:
            waits[key] = waits[key] + 1 if key in waiting and key != batch.key else 0
            assert waits[key] < len(KEYS)
        for item in batch.items:
            _advance(scheduler, item)


def test_within_a_key_the_first_admitted_go_first() -> None:
    scheduler: Scheduler[str] = Scheduler(2)
    for name in ("first", "second", "third"):
        scheduler.admit(name, KEYS[0])
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("first", "second")
    scheduler.remove("first")
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("second", "third")


def test_a_move_to_the_next_stage_keeps_the_place_in_the_line() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    scheduler.admit("old", KEYS[0])
    scheduler.admit("young", KEYS[1])
    scheduler.move("old", KEYS[1])
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("old",)


def test_a_lowered_cap_holds_for_its_key_alone() -> None:
    scheduler: Scheduler[str] = Scheduler(4)
    for number in range(4):
        scheduler.admit(f"a{number}", KEYS[0])
        scheduler.admit(f"b{number}", KEYS[1])
    scheduler.lower_cap(KEYS[0], 2)
    scheduler.lower_cap(KEYS[0], 3)
    sizes = {batch.key: len(batch.items) for batch in (scheduler.next_batch(),) if batch}
    batch = scheduler.next_batch()
    assert batch is not None
    sizes[batch.key] = len(batch.items)
    assert sizes == {KEYS[0]: 2, KEYS[1]: 4}


def test_nobody_resident_means_no_batch() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    assert scheduler.next_batch() is None
