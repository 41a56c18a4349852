"""How to wait for a job, without I/O: how long the next poll may be held, what to tell, when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pithead.client import calls
from pithead.client.core import Call
from pithead.client.errors import WaitTimeout
from pithead.wire.jobs import JobView

TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})

#: Seconds that a poll is held: the coordinator answers it early only when the job is finished, so that somebody who
#: wants to hear of every change has to ask more often.
HOLD: Final = 30.0
HOLD_FOR_UPDATES: Final = 2.0
#: Seconds between polls that the coordinator did not hold.
_PAUSE: Final = 1.0


class Watch:
    """One wait, over as many polls as it takes. Times are seconds on the caller's monotonic clock."""

    def __init__(
        self, job_id: str, timeout: float | None, on_update: Callable[[JobView], object] | None, now: float
    ) -> None:
        self._job_id = job_id
        self._began = self._polled = now
        self._timeout = timeout
        self._on_update = on_update
        self._told: object = None

    def poll(self, now: float) -> Call[JobView]:
        """The next poll."""
        self._polled = now
        hold = HOLD if self._on_update is None else HOLD_FOR_UPDATES
        if self._timeout is None:
            return calls.job(self._job_id, hold)
        left = max(0.0, self._timeout - (now - self._began))
        return calls.within(calls.job(self._job_id, min(hold, left)), left)

    def saw(self, job: JobView, now: float) -> float | None:
        """Seconds to the next poll, `None` once the job is finished. Raises `WaitTimeout`."""
        state = (job.status, job.attempts, job.progress, job.progress_message, job.output)
        if self._on_update is not None and state != self._told:
            self._told = state
            self._on_update(job)
        if job.status in TERMINAL:
            return None
        waited = now - self._began
        if self._timeout is not None and waited >= self._timeout:
            raise WaitTimeout(job_id=job.job_id, status=job.status, waited=waited, job=job)
        # A coordinator that stops, or a proxy, may answer at once: that must not become a busy loop.
        pause = max(0.0, _PAUSE - (now - self._polled))
        return pause if self._timeout is None else min(pause, self._timeout - waited)
