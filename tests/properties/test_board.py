"""The board against the rules: what it offers and counts is what a scan of the whole queue with `matching` would.

The board knows the rules only by how it is built; this test is what holds the two together.
"""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.core.examples import job, miner

from pithead.core.board import LEAST, MOST_READ, WINDOW, Board, Kind, key_of, kind_of, window_of
from pithead.core.jobs import Job
from pithead.core.matching import ANY, avoids, misfit, resting
from pithead.core.miners import Miner

#: Few values of each, so that kinds are shared, emptied and made anew.
jobs = st.fixed_dictionaries({
    "gpu_type": st.sampled_from(["v100", "a100", ANY]),
    "model": st.sampled_from(["gpt2", "llama", "whisper"]),
    "gpu_count": st.sampled_from([1, 2, 8]),
    "price": st.sampled_from([0, 10_000, 50_000]),
    "priority": st.sampled_from([-1, 0, 0, 5]),
})  # fmt: skip
models = st.none() | st.frozensets(st.sampled_from(["gpt2", "llama", "whisper", "another", "fifth"]))
miners = st.builds(
    miner,
    seq=st.integers(200, 202),
    gpu_type=st.sampled_from(["v100", "a100", "cpu"]),
    gpu_count=st.sampled_from([1, 2, 4, 8]),
    price_per_hour=st.sampled_from([0, 60_000, 300_000, 300_001]),
    models=models,
)


class Boards(RuleBasedStateMachine):
    """The queue as a plain list beside the board."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.numbers = 0
        self.queue: dict[int, Job] = {}
        self.gone: list[Job] = []
        # A narrow window, so that most jobs are in the tail.
        self.board = Board(window=3)
        self.reading: list[tuple[Kind, list[Job], bool]] = []

    def _some(self, which: int) -> Job:
        return list(self.queue.values())[which % len(self.queue)]

    @rule(given=jobs, rests=st.sampled_from([0.0, 0.0, 5.0, 30.0]), left=st.sampled_from([10.0, 1000.0]))
    def submit(self, given: dict[str, Any], rests: float, left: float) -> None:
        self.numbers += 1
        new = job(**given, seq=self.numbers, not_before=self.now + rests, deadline=self.now + left)
        self.queue[new.seq] = new
        self.board.add(new, self.now)

    @rule(data=st.lists(jobs, max_size=20))
    def fill_it_anew(self, data: list[dict[str, Any]]) -> None:
        """As at a start, from the database: in any order, with some that rest."""
        for like in data:
            self.numbers += 1
            rests = 5.0 if self.numbers % 3 == 0 else 0.0
            new = job(**like, seq=self.numbers, not_before=self.now + rests, deadline=self.now + 500)
            self.queue[new.seq] = new
        self.board = Board(window=3)
        self.reading = []
        ready = [one for one in self.queue.values() if one.not_before <= self.now]
        for kind, count in Counter(map(kind_of, ready)).items():
            self.board.expect(kind, count)
        for one in self.queue.values():
            if one.not_before > self.now:
                self.board.add(one, self.now)

    @rule(limit=st.sampled_from([3, 5]), at_once=st.booleans())
    def feed(self, limit: int, at_once: bool) -> None:
        """What is hungry is read from the database; the board may hear of other things before it gets it."""
        for kind in self.board.hungry():
            after = self.board.begin_fill(kind)
            behind = sorted(
                (
                    one
                    for one in self.queue.values()
                    if kind_of(one) == kind and one.not_before <= self.now and (after is None or key_of(one) > after)
                ),
                key=key_of,
            )
            self.reading.append((kind, behind[:limit], len(behind) < limit))
            if at_once:
                self.arrive()

    @precondition(lambda self: self.reading)
    @rule()
    def arrive(self) -> None:
        kind, found, last = self.reading.pop()
        self.board.fill(kind, found, last=last)

    def full(self, miner: Miner, limit: int) -> None:
        """Fill what the miner is to be shown."""
        while self.reading:
            self.arrive()
        rounds = 0
        while kinds := self.board.short(miner, self.now, limit):
            rounds += 1
            assert rounds < 100, "filling it does not still its hunger"
            for kind in kinds:
                after = self.board.begin_fill(kind)
                behind = [
                    one
                    for one in self.queue.values()
                    if kind_of(one) == kind and one.not_before <= self.now and (after is None or key_of(one) > after)
                ]
                self.board.fill(kind, sorted(behind, key=key_of)[:limit], last=len(behind) < limit)

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 50))
    def take(self, which: int) -> None:
        taken = self._some(which)
        del self.queue[taken.seq]
        self.gone.append(taken)
        self.board.remove(taken)

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 50), who=st.integers(200, 202), rests=st.sampled_from([0.0, 5.0, 30.0]))
    def fail(self, which: int, who: int, rests: float) -> None:
        """Taken and queued again: with back-off, and not for the one where it failed."""
        before = self._some(which)
        self.board.remove(before)
        after = msgspec.structs.replace(
            before,
            not_before=self.now + rests,
            avoid_miner=who,
            avoid_until=self.now + 20,
            failures=before.failures + 1,
        )
        self.queue[after.seq] = after
        self.board.add(after, self.now)

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 50))
    def tell_it_again(self, which: int) -> None:
        """What it has already changes nothing."""
        one = self._some(which)
        if one in self.board:
            self.board.add(one, self.now)

    @precondition(lambda self: self.gone)
    @rule(which=st.integers(0, 50))
    def remove_again(self, which: int) -> None:
        """What it does not know is no error."""
        one = self.gone[which % len(self.gone)]
        if self.board.has_all_of(kind_of(one)):
            self.board.remove(one)

    @rule(seconds=st.sampled_from([1.0, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        rested = {seq for seq, one in self.queue.items() if one.not_before > self.now}
        self.now += seconds
        woken = self.board.wake(self.now)
        assert {one.seq for one in woken} == {seq for seq in rested if self.queue[seq].not_before <= self.now}
        assert len(woken) == len({one.seq for one in woken})
        assert all(self.queue[one.seq] == one for one in woken)

    @rule(miner=miners, limit=st.sampled_from([1, 2, 100]))
    def offer(self, miner: Miner, limit: int) -> None:
        self.full(miner, limit)
        fitting = [one for one in self.queue.values() if one.not_before <= self.now and misfit(miner, one) is None]
        offered = [one for one in fitting if resting(one, self.now) is None and not avoids(one, miner.seq, self.now)]
        offered.sort(key=lambda one: (-one.priority, one.seq))
        assert self.board.best(miner, self.now, limit) == offered[:limit]
        assert self.board.count(miner) == len(fitting)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.board) == len(self.queue)


Boards.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBoard = Boards.TestCase


def test_what_a_miner_avoids_does_not_hide_what_is_behind_it() -> None:
    """The one job that is here is not for this miner, and the next one is only counted."""
    first, second = (job(seq=seq, deadline=2000.0) for seq in (1, 2))
    avoided = msgspec.structs.replace(first, avoid_miner=200, avoid_until=2000.0)
    board = Board(window=1)
    board.expect(kind_of(first), 2)
    board.begin_fill(kind_of(first))
    board.fill(kind_of(first), [avoided], last=False)
    assert board.best(miner(seq=200), 1000.0, 1) == []
    assert board.short(miner(seq=200), 1000.0, 1) == [kind_of(first)]
    assert board.short(miner(seq=201), 1000.0, 1) == []
    board.begin_fill(kind_of(first))
    board.fill(kind_of(first), [second], last=False)
    assert board.best(miner(seq=200), 1000.0, 1) == [second]


@given(st.integers(0, 10_000_000))
def test_a_board_reads_no_more_than_a_bound_however_many_kinds_there_are(kinds: int) -> None:
    window = window_of(kinds)
    assert LEAST <= window <= WINDOW
    assert window == LEAST or window * kinds <= MOST_READ
    assert window == WINDOW or (window + 1) * kinds > MOST_READ
