"""Telling old news of a job from new."""

from collections import deque
from typing import Final, NamedTuple

from pithead.core.jobs import Job, State, is_finished

#: Seconds for which a job that left the queue is remembered: news are never so late.
_REMEMBERED: Final = 60.0
_FINISHED: Final = 2**62


class News(NamedTuple):
    """What a job's news mean for the queue: it left, it joined, it left and joined again, or nothing."""

    left: bool = False
    joined: bool = False


def version(job: Job) -> int:
    """A number that grows with every step of a job: queued, held, queued again, … finished. It is odd while queued."""
    if is_finished(job):
        return _FINISHED
    return 2 * job.attempts + (1 if job.state is State.QUEUED else 0)


class Newest:
    """The newest that is known of each job that joined or left the queue since it was counted.

    What several connections committed, and what other coordinators did, does not arrive in the order in which it
    happened. A job that a miner has must not appear on the board again because somebody hears late that it was queued.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._left: deque[tuple[float, int, int]] = deque()
        #: Jobs up to this number were counted, if they were queued.
        self._counted = 0

    def counted(self, newest: int) -> None:
        """The queue was counted; the newest job of all was this one. What left it lately is still remembered."""
        self._known = {seq: number for seq, number in self._known.items() if not number % 2}
        self._counted = newest

    def hear(self, job: Job, now: float, left: bool) -> News:
        """What it means that a job is, or was, like this; `left`: it came so by leaving the queue."""
        number, before = version(job), self._known.get(job.seq)
        if before is not None and number <= before:
            return News()
        self._known[job.seq] = number
        was_queued = left and job.seq <= self._counted if before is None else bool(before % 2)
        if job.state is State.QUEUED:
            # One that was counted and whose first lease is over was heard of when it was taken, or joins now.
            return News(left=before is not None and was_queued, joined=True)
        self._left.append((now, job.seq, number))
        while self._left[0][0] < now - _REMEMBERED:
            _, seq, then = self._left.popleft()
            if self._known.get(seq) == then:
                del self._known[seq]
        return News(left=was_queued)
