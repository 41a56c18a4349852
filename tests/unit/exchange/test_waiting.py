"""Who is woken for a job: few, those that it fits, and nobody twice."""

from functools import partial

import pytest
from tests.unit.core.examples import NOW, job, miner

from pithead.core.miners import Miner
from pithead.exchange.waiting import AT_ONCE, Waiting


class Room:
    """Miners that wait, and those that were woken, by number."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.woken: list[int] = []

    def enter(self, one: Miner) -> None:
        self.waiting.add(one, partial(self.woken.append, one.seq))


@pytest.fixture
def room() -> Room:
    return Room()


def test_few_are_woken_the_longest_waiting_first(room: Room) -> None:
    for number in range(10):
        room.enter(miner(seq=number))
    room.waiting.wake_for(job(), NOW)
    assert room.woken == list(range(AT_ONCE))
    room.waiting.wake_for(job(seq=8), NOW)
    assert room.woken == list(range(2 * AT_ONCE))
    assert len(room.waiting) == 10 - 2 * AT_ONCE


def test_only_those_that_the_job_fits(room: Room) -> None:
    room.enter(miner(seq=1, gpu_type="a100"))
    room.enter(miner(seq=2, price_per_hour=10**9))
    room.enter(miner(seq=3, models=frozenset({"llama"})))
    room.enter(miner(seq=4, models=frozenset({"gpt2"})))
    room.waiting.wake_for(job(gpu_count=2), NOW)
    assert room.woken == []
    room.waiting.wake_for(job(), NOW)
    assert room.woken == [4]
    room.waiting.wake_for(job(gpu_type="any"), NOW)
    assert room.woken == [4, 1]


def test_not_the_one_where_it_failed(room: Room) -> None:
    room.enter(miner(seq=1))
    room.enter(miner(seq=2))
    room.waiting.wake_for(job(avoid_miner=1, avoid_until=NOW + 10), NOW)
    assert room.woken == [2]
    room.waiting.wake_for(job(avoid_miner=1, avoid_until=NOW), NOW)
    assert room.woken == [2, 1]


def test_classes_take_turns(room: Room) -> None:
    for number in range(12):
        room.enter(miner(seq=number, price_per_hour=50_000 + number % 2))
    room.waiting.wake_for(job(), NOW)
    room.waiting.wake_for(job(seq=8), NOW)
    assert sorted(number % 2 for number in room.woken) == [0] * AT_ONCE + [1] * AT_ONCE


def test_who_left_is_not_woken(room: Room) -> None:
    ticket = room.waiting.add(miner(seq=1), partial(room.woken.append, 1))
    room.waiting.remove(ticket)
    room.waiting.remove(ticket)
    room.waiting.wake_for(job(), NOW)
    assert (room.woken, len(room.waiting)) == ([], 0)


def test_others_are_woken_for_what_nobody_took(room: Room) -> None:
    for number in range(5):
        room.enter(miner(seq=number))
    room.enter(miner(seq=9, gpu_type="a100"))
    room.waiting.wake_for(job(), NOW)
    room.waiting.recheck(lambda one: one.gpu_type == "v100")
    assert room.woken == [0, 1, 2, 3, 4]
    room.waiting.wake_all()
    assert room.woken == [0, 1, 2, 3, 4, 9]


def test_one_that_can_take_nothing_is_passed_by(room: Room) -> None:
    room.waiting = Waiting(ready=lambda one: one.seq % 2 == 1)
    for number in range(10):
        room.enter(miner(seq=number))
    room.waiting.wake_for(job(), NOW)
    assert room.woken == [1, 3, 5]
    room.waiting.recheck(lambda one: True)
    assert room.woken == [1, 3, 5, 7, 9]
