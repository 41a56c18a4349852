"""Old news of a job and new: whatever order they come in, the count of the queue is right."""

import itertools

import msgspec
import pytest
from tests.unit.core import examples

from pithead.core.jobs import Job, State
from pithead.exchange.newest import Newest, version

QUEUED = examples.job(seq=7)
#: A job's whole life: queued, held, queued again, held again, completed; and whether each step leaves the queue.
LIFE: list[tuple[Job, bool]] = [
    (QUEUED, False),
    (msgspec.structs.replace(QUEUED, state=State.ASSIGNED, attempts=1), True),
    (msgspec.structs.replace(QUEUED, attempts=1), False),
    (msgspec.structs.replace(QUEUED, state=State.RUNNING, attempts=2), True),
    (msgspec.structs.replace(QUEUED, state=State.COMPLETED, attempts=2), False),
]


def heard(newest: Newest, news: list[tuple[Job, bool]]) -> int:
    """What is counted of the job after these."""
    count = 0
    for job, left in news:
        found = newest.hear(job, 0.0, left)
        count += found.joined - found.left
        assert count in (0, 1)
    return count


def test_every_step_is_newer_than_the_one_before() -> None:
    numbers = [version(job) for job, _ in LIFE]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("length", range(1, len(LIFE) + 1))
def test_in_whatever_order_it_is_heard_the_newest_counts(length: int) -> None:
    for order in itertools.permutations(LIFE[:length]):
        assert heard(Newest(), list(order)) == (LIFE[length - 1][0].state is State.QUEUED)


def test_what_is_heard_twice_is_counted_once() -> None:
    assert heard(Newest(), [*LIFE[:1], *LIFE[:1]]) == 1
    assert heard(Newest(), [LIFE[0], LIFE[1], LIFE[0], LIFE[1]]) == 0


def test_one_that_was_counted_is_counted_out() -> None:
    newest = Newest()
    newest.counted(7)
    assert newest.hear(*LIFE[1][:1], 0.0, True).left
    assert heard(newest, [LIFE[2]]) == 1


def test_one_that_a_miner_held_when_the_queue_was_counted_is_not() -> None:
    newest = Newest()
    newest.counted(7)
    assert newest.hear(LIFE[4][0], 0.0, False) == (False, False)


def test_one_that_came_after_the_count_and_was_taken_before_it_was_heard_of_is_not() -> None:
    newest = Newest()
    newest.counted(6)
    assert newest.hear(LIFE[1][0], 0.0, True) == (False, False)


def test_a_count_keeps_in_mind_what_left_lately() -> None:
    newest = Newest()
    assert heard(newest, LIFE[:2]) == 0
    newest.counted(7)
    # The news that it was queued comes late, and it was not among those that were counted.
    assert newest.hear(LIFE[0][0], 1.0, False) == (False, False)


def test_what_left_long_ago_is_forgotten() -> None:
    newest = Newest()
    for seq in range(1000):
        job = msgspec.structs.replace(LIFE[1][0], seq=seq)
        newest.hear(job, float(seq), True)
    assert len(newest._known) == len(newest._left) == 61
