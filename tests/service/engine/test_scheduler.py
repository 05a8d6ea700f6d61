from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.scheduler import Batch, BatchKey, Scheduler

KEYS = [
    BatchKey("a", "base", 8, 8),
    BatchKey("a", "upsample", 16, 16),
    BatchKey("b", "base", 8, 8),
    BatchKey("b", "upsample", 16, 16),
]
MAX_WORK = 3

Legs = list[tuple[BatchKey, int]]


@dataclass(eq=False)
class Item:
    """One simulated trajectory: steps to do in each key that it passes."""

    tenant: str
    legs: Legs
    work: int = 1
    served: int = 0

    @property
    def remaining(self) -> int:
        return sum(steps for _, steps in self.legs)


@dataclass
class Simulation:
    """A scheduler whose device takes one tick for a step."""

    scheduler: Scheduler[Item]
    tick: int = 0
    finished: list[Item] = field(default_factory=list)

    def admit(self, item: Item) -> Item:
        self.scheduler.admit(item, item.legs[0][0], item.tenant, item.work)
        return item

    def step(self) -> Batch[Item] | None:
        """One step; checks that it is as full as its key allows, and of that key alone."""
        there = Counter(item.legs[0][0] for item in self.scheduler)
        batch = self.scheduler.next_batch()
        self.tick += 1
        if batch is None:
            assert not there
            return None
        assert len(set(batch.items)) == len(batch.items)
        assert all(item.legs[0][0] == batch.key for item in batch.items)
        assert len(batch.items) == min(self.scheduler.cap(batch.key), there[batch.key])
        for item in batch.items:
            self._advance(item)
        return batch

    def _advance(self, item: Item) -> None:
        item.served += 1
        key, steps = item.legs[0]
        item.legs = item.legs[1:] if steps == 1 else [(key, steps - 1), *item.legs[1:]]
        if not item.legs:
            self.scheduler.remove(item)
            self.finished.append(item)
        elif steps == 1:
            self.scheduler.move(item, item.legs[0][0], item.work)


def simulation(max_batch: int) -> Simulation:
    return Simulation(Scheduler(max_batch))


legs = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 6)), min_size=1, max_size=3)
items = st.builds(Item, st.sampled_from("abcd"), legs, st.integers(1, MAX_WORK))
crowds = st.lists(st.tuples(st.integers(0, 30), items), min_size=1, max_size=20)
batches = st.integers(1, 5)


@given(crowds, batches)
def test_everyone_finishes_though_newcomers_never_cease(
    crowd: list[tuple[int, Item]], max_batch: int
) -> None:
    """A tenant's turn comes at the latest after each other tenant's, in a key that is not favored.

    Every tick brings another tenant with an item of one step. So of a key's own steps, at least
    one in 2 * len(KEYS) ticks, a tenant has one place for each other tenant's MAX_WORK places, and
    its own items share that place in turn.
    """
    run = simulation(max_batch)
    crowd = sorted(crowd, key=lambda member: member[0])
    ends = sum(item.remaining for _, item in crowd) * 2 * len(KEYS) * MAX_WORK * (len(crowd) + 2)
    while sum(item.tenant in "abcd" for item in run.finished) < len(crowd):
        assert run.tick <= 30 + ends
        for arrival, item in crowd:
            if arrival == run.tick:
                run.admit(item)
        if len(run.scheduler) < 2 * max_batch + len(crowd):
            run.admit(Item(f"passing {run.tick}", [(KEYS[run.tick % len(KEYS)], 1)]))
        run.step()


@given(crowds, batches)
def test_a_tenant_alone_is_served_first_come_first_served(
    crowd: list[tuple[int, Item]], max_batch: int
) -> None:
    run = simulation(max_batch)
    bound = {}
    crowd = sorted(crowd, key=lambda member: member[0])
    while run.tick <= 30 or len(run.scheduler):
        for arrival, item in crowd:
            if arrival == run.tick:
                ahead = sum(other.remaining for other in run.scheduler)
                bound[item] = run.tick + 2 * len(KEYS) * (ahead + item.remaining)
                item.tenant = "alone"
                run.admit(item)
        run.step()
        assert all(run.tick <= bound[item] for item in run.scheduler)


@given(crowds, batches)
def test_a_key_with_work_waits_for_at_most_two_steps_of_each_other(
    crowd: list[tuple[int, Item]], max_batch: int
) -> None:
    run = simulation(max_batch)
    for _, item in crowd:
        run.admit(item)
    waits = dict.fromkeys(KEYS, 0)
    while len(run.scheduler):
        run.admit(Item(f"passing {run.tick}", [(KEYS[0], 1)]))  # always a newcomer in this key
        waiting = {item.legs[0][0] for item in run.scheduler}
        batch = run.step()
        assert batch is not None
        for key in KEYS:
            waits[key] = waits[key] + 1 if key in waiting and key != batch.key else 0
            assert waits[key] < 2 * len(KEYS)
        if run.tick > 60:
            break


@pytest.mark.parametrize("keys", [1, 2, 4])
@given(data=st.data(), max_batch=batches, before=st.integers(6, 40))
def test_a_newcomers_first_step_is_the_second_at_the_latest(
    keys: int, data: st.DataObject, max_batch: int, before: int
) -> None:
    """Whatever others there are, once six steps have made sure that they are newcomers no more."""
    run = simulation(max_batch)
    own = st.lists(st.tuples(st.sampled_from(KEYS[:keys]), st.integers(1, 6)), min_size=1)
    endless = st.builds(Item, st.sampled_from("abc"), own, st.integers(1, MAX_WORK))
    for item in data.draw(st.lists(endless, min_size=1, max_size=3 * max_batch)):
        item.legs = [*item.legs, (KEYS[0], 100)]
        run.admit(item)
    for _ in range(before):
        run.step()
    for _ in range(data.draw(st.integers(1, 3))):  # and it may come again
        newcomer = run.admit(Item("new", [(data.draw(st.sampled_from(KEYS[:keys])), 1)]))
        run.step()
        if not newcomer.served:
            run.step()
        assert newcomer.served


@given(crowds, st.integers(1, 5))
def test_tenants_that_always_have_more_get_the_same_work(
    crowd: list[tuple[int, Item]], max_batch: int
) -> None:
    """However they come and whatever a step of theirs costs, from the moment when all are there."""
    run = simulation(max_batch)
    for number, tenant in enumerate("abcd"):
        for _ in range(max_batch + 1):  # one always waits
            work = 1 + (number + len(crowd)) % MAX_WORK
            run.admit(Item(tenant, [(KEYS[0], 10_000)], work))
        for _ in range(len(crowd)):
            run.step()
    before = Counter[str]()
    for item in run.scheduler:
        before[item.tenant] += item.served * item.work
    for _ in range(50):
        run.step()
        given_work = Counter[str]()
        for item in run.scheduler:
            given_work[item.tenant] += item.served * item.work
        gained = [given_work[tenant] - before[tenant] for tenant in "abcd"]
        assert max(gained) - min(gained) <= 2 * MAX_WORK


def test_what_one_tenant_cannot_use_the_others_get() -> None:
    run = simulation(8)
    one = run.admit(Item("small", [(KEYS[0], 100)]))
    many = [run.admit(Item("large", [(KEYS[0], 100)])) for _ in range(16)]
    for _ in range(10):
        run.step()
    assert one.served == 10
    assert sum(item.served for item in many) == 70


def test_a_tenant_that_was_idle_has_saved_nothing_up() -> None:
    run = simulation(2)
    for _ in range(4):
        run.admit(Item("busy", [(KEYS[0], 100)]))
    for _ in range(20):
        run.step()
    late = [run.admit(Item("late", [(KEYS[0], 100)])) for _ in range(4)]
    for _ in range(10):
        run.step()
    assert sum(item.served for item in late) == 10


def test_within_a_tenant_the_first_admitted_go_first() -> None:
    scheduler: Scheduler[str] = Scheduler(2)
    for name in ("first", "second", "third"):
        scheduler.admit(name, KEYS[0], "tenant", 1)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("first", "second")
    scheduler.remove("first")
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("second", "third")


def test_a_move_to_the_next_stage_keeps_the_place_in_the_line() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    scheduler.admit("old", KEYS[0], "tenant", 1)
    scheduler.admit("young", KEYS[1], "tenant", 1)
    scheduler.move("old", KEYS[1], 1)
    batch = scheduler.next_batch()
    assert batch is not None
    assert batch.items == ("old",)


def test_a_lowered_cap_holds_for_its_key_alone() -> None:
    scheduler: Scheduler[str] = Scheduler(4)
    for number in range(4):
        scheduler.admit(f"a{number}", KEYS[0], "tenant", 1)
        scheduler.admit(f"b{number}", KEYS[1], "tenant", 1)
    scheduler.lower_cap(KEYS[0], 2)
    scheduler.lower_cap(KEYS[0], 3)
    batches = [scheduler.next_batch() for _ in range(4)]
    sizes = {(batch.key, len(batch.items)) for batch in batches if batch}
    assert sizes == {(KEYS[0], 2), (KEYS[1], 4)}


def test_nobody_resident_means_no_batch() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    assert scheduler.next_batch() is None
