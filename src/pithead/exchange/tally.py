"""What this process counted since its start, for whoever watches it: whole numbers in memory, added to and never locked.

Counting costs the calls that are counted next to nothing: an addition, and for a time a search among a dozen bounds. How it
is shown is somebody else's business (`http.metrics`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

from pithead.core.jobs import FINISHED, HELD, Job, State
from pithead.exchange.events import Event, JobChanged, LeaseLapsed

#: Seconds: of a call, and of a commit.
CALLS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMITS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
#: Seconds: from a job's submission to its first lease, and from a lease to the completion.
WAITS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
#: Operations in one commit.
BATCHES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
#: Models that are counted one by one. Clients name models, so all further ones are counted together.
MODELS: Final = 100
OTHER: Final = "(other)"


class Histogram:
    """How many values lie at or below each bound, and their sum. One thread adds; any may look."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        #: By bound, each without those below it; the last one is what lies above all.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Load(msgspec.Struct, frozen=True):
    """How a database takes what this process asks of it."""

    #: Operations in a commit, and the seconds that it took.
    batches: Histogram
    commits: Histogram
    #: Operations that wait for their turn.
    waiting: int
    #: Connections for reading: how many are `used` and `idle`, and how many reads wait for one. None of an embedded one.
    connections: dict[str, int]
    #: Bytes of the embedded database's files.
    size: int | None = None


class Tally:
    """What happened by this process's commits. Lives on the event loop's thread."""

    def __init__(self) -> None:
        #: By the names of the calls, as `wire.endpoints` has them: those that were answered, and not with a problem.
        self.calls: dict[str, Histogram] = {}
        #: Answers that were problems, by call (empty: none was reached), status and kind of problem.
        self.problems: dict[tuple[str, int, str], int] = {}
        self.submitted = 0
        #: Jobs by the state that they ended in.
        self.finished: dict[State, int] = dict.fromkeys(sorted(FINISHED), 0)
        self.leases = 0
        self.failures = 0
        self.lapses = 0
        self.released = 0
        #: Attempts that ended because their job was cancelled or expired.
        self.withdrawn: dict[State, int] = {State.CANCELLED: 0, State.EXPIRED: 0}
        self.waits = Histogram(WAITS)
        self.attempts = Histogram(WAITS)
        #: Of each model the jobs completed, and the millionths that their clients paid.
        self.models: dict[str, list[int]] = {}

    def call(self, name: str) -> Histogram:
        """Where the times of a call are counted."""
        return self.calls.setdefault(name, Histogram(CALLS))

    def problem(self, call: str, status: int, slug: str) -> None:
        """A call was answered with a problem."""
        named = (call, status, slug)
        self.problems[named] = self.problems.get(named, 0) + 1

    def count(self, events: Sequence[Event]) -> None:
        """Count what has become durable."""
        for event in events:
            if isinstance(event, JobChanged):
                self._job_changed(event.before, event.after)
            elif isinstance(event, LeaseLapsed):
                # It was counted as a failure with the job's change just before.
                self.lapses += 1
                self.failures -= 1

    def _job_changed(self, before: Job | None, after: Job) -> None:
        state = after.state
        if before is None:
            self.submitted += 1
        elif state is State.ASSIGNED:
            self.leases += 1
            if after.attempts == 1 and after.accepted_at is not None:
                self.waits.add(after.accepted_at - after.created_at)
        elif state is State.COMPLETED:
            self.finished[state] += 1
            if after.finished_at is not None and after.accepted_at is not None:
                self.attempts.add(after.finished_at - after.accepted_at)
            counted = self.models.get(after.model) or self._model(after.model)
            counted[0] += 1
            counted[1] += after.price
        elif state is State.QUEUED:
            if after.failures > before.failures:
                self.failures += 1
            else:
                self.released += 1
        elif state in self.finished:
            self.finished[state] += 1
            if state is State.FAILED:
                self.failures += 1
            elif before.state in HELD:
                self.withdrawn[state] += 1

    def _model(self, name: str) -> list[int]:
        return self.models.setdefault(name if len(self.models) < MODELS else OTHER, [0, 0])
