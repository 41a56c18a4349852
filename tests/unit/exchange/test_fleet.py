"""The count of the miners: when it is made anew, and that a submit seldom has to make it."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from tests.unit.core.examples import job, miner

from pithead.core.why import Census, Group
from pithead.exchange.events import MinerChanged
from pithead.exchange.fleet import FRESH_FOR, GOOD_FOR, PACE, Fleet

T = TypeVar("T")


class Store:
    """Counts how often the miners were counted."""

    def __init__(self, *groups: Group) -> None:
        self.groups = groups
        self.counts = 0

    def census(self) -> list[Group]:
        self.counts += 1
        return list(self.groups)

    async def read(self, read: Callable[[Any], T]) -> T:
        return read(self)


V100 = Group(miner(), False, 1, 4, 4)


@pytest.fixture
def store() -> Store:
    return Store(V100)


def unserved(fleet: Fleet, store: Store, now: float, **wanted: Any) -> str | None:
    return fleet.unserved(store, now, job(**wanted))  # type: ignore[arg-type]


def test_a_job_that_is_served_costs_one_count_in_ten_minutes(store: Store) -> None:
    fleet = Fleet()
    assert [unserved(fleet, store, 100.0 + second) for second in range(int(GOOD_FOR))] == [None] * int(GOOD_FOR)
    assert store.counts == 1
    assert unserved(fleet, store, 101.0 + GOOD_FOR) is None
    assert store.counts == 2


def test_that_nobody_fits_is_said_only_of_a_fresh_count(store: Store) -> None:
    fleet = Fleet()
    assert unserved(fleet, store, 100.0, gpu_type="a100") is not None
    store.groups = (V100, Group(miner(gpu_type="a100"), True, 1, 4, 0))
    assert unserved(fleet, store, 100.0 + FRESH_FOR, gpu_type="a100") is not None, "fresh enough"
    assert unserved(fleet, store, 100.5 + FRESH_FOR, gpu_type="a100") is None
    store.groups = (V100, Group(miner(gpu_type="h100"), True, 1, 4, 0))
    fleet.note([MinerChanged(200)])
    assert unserved(fleet, store, 103.0, gpu_type="h100") is not None, "a heartbeat changes nothing of it"
    fleet.note([MinerChanged(200, profile=True)])
    assert unserved(fleet, store, 103.0, gpu_type="h100") is None, "heard of at once"


async def test_the_count_is_kept_beside_the_writer_while_submits_ask(store: Store) -> None:
    fleet = Fleet()
    await fleet.keep(100.0, store.read)
    assert store.counts == 0, "nobody asks"
    unserved(fleet, store, 100.0)
    for second in range(100, 1000):
        unserved(fleet, store, float(second))
        counted = store.counts
        await fleet.keep(second + 0.5, store.read)
        assert unserved(fleet, store, second + 0.6) is None
        assert store.counts - counted <= 1
    assert 2 <= store.counts <= 4, "every five minutes, and never by a submit"
    before = store.counts
    for second in range(1000, 1100):
        await fleet.keep(float(second), store.read)
    assert store.counts <= before + 1, "nobody asks any more"


async def test_a_large_fleet_is_not_counted_for_each_change(store: Store) -> None:
    fleet, many = Fleet(), 100_000
    store.groups = (Group(miner(), False, many, 4 * many, 4 * many),)
    assert unserved(fleet, store, 100.0, gpu_type="a100") is not None
    for second in range(101, 110):
        fleet.note([MinerChanged(200, profile=True)])
        assert unserved(fleet, store, float(second), gpu_type="a100") is not None
        await fleet.keep(float(second), store.read)
    assert store.counts == 1
    store.groups = (*store.groups, Group(miner(gpu_type="a100"), True, 1, 4, 0))
    assert unserved(fleet, store, 100.0 + many / PACE, gpu_type="a100") is None
    assert store.counts == 2


async def test_who_asks_why_gets_a_fresh_count(store: Store) -> None:
    fleet = Fleet()
    first = await fleet.census(100.0, store.read)
    assert await fleet.census(100.0 + FRESH_FOR, store.read) is first
    assert await fleet.census(100.5 + FRESH_FOR, store.read) is not first
    assert isinstance(first, Census)
