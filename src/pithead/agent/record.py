"""What the agent did and does, as it is shown: to the owner's commands, in a file, and to Prometheus.

The file is for its owner alone (0600) and appears whole. What is counted over days – earnings by the hour, data of the
day – is taken up again from it at the next start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from pithead.wire.base import encode

log = logging.getLogger(__name__)

#: Hours of which earnings are kept.
HOURS: Final = 72
_HOUR: Final = 3600


class JobLine(msgspec.Struct, kw_only=True):
    """A job in hand."""

    job_id: str
    model: str
    client_id: str | None = None
    #: `starting`, `running`, `uploading`.
    state: str = "starting"
    #: Seconds since the epoch.
    since: float = 0.0
    fraction: float | None = None
    message: str = ""


class Hour(msgspec.Struct, kw_only=True):
    """What an hour brought; `begins` is its first second since the epoch."""

    begins: int
    jobs: int = 0
    earned: Decimal = Decimal(0)


class State(msgspec.Struct, kw_only=True):
    """Everything that is shown."""

    pid: int = 0
    miner_id: str = ""
    profile: str = ""
    url: str = ""
    started_at: float = 0.0
    #: When this was written.
    at: float = 0.0
    away: bool = False
    miner_status: str | None = None
    draining: bool = False
    may: bool = True
    #: Why no work is taken; empty where it is.
    why: str = ""
    max_concurrent: int | None = None
    #: Queued jobs that fit, by the coordinator's last word.
    queue_length: int | None = None
    #: Why offers were passed by, and how many were, since the start.
    refused: dict[str, int] = {}
    jobs: list[JobLine] = []
    gpus: list[dict[str, Any]] = []
    completed: int = 0
    failed: int = 0
    failures_in_a_row: int = 0
    failed_at: float = 0.0
    earned: Decimal = Decimal(0)
    hours: list[Hour] = []
    #: Since when earnings are counted without a gap in `hours`.
    counted_since: float = 0.0
    day: str = ""
    data_today: int = 0
    alerts: list[str] = []

    def nothing_because(self) -> str:
        """Why no job came, in one line; empty while there are jobs in hand."""
        if self.draining:
            return "it is stopping, and takes nothing new"
        if not self.may:
            return self.why
        if self.away:
            return "the coordinator cannot be reached"
        if self.miner_status not in (None, "active"):
            return f"the coordinator has this miner as {self.miner_status}"
        if self.jobs:
            return ""
        if self.refused and self.queue_length:
            reason, _ = max(self.refused.items(), key=lambda item: item[1])
            return f"what is queued is passed by: {reason}"
        return "nothing queued fits this machine" if not self.queue_length else "others were faster, so far"


class Record:
    """Keeps the state up to date, and writes it where it is to be read. `wall` is in seconds since the epoch."""

    def __init__(self, file: Path | None = None, *, wall: Callable[[], float], **about: Any) -> None:
        """`about`: what stays as it is: `miner_id`, `profile`, `url`."""
        self._file, self._wall = file, wall
        self.state = State(pid=os.getpid(), started_at=wall(), counted_since=wall(), **about)
        self._jobs: dict[int, JobLine] = {}
        if file is not None and (earlier := read(file)) is not None:
            kept = ("hours", "counted_since", "day", "data_today")
            for name in kept:
                setattr(self.state, name, getattr(earlier, name))

    # -- jobs, by the number of the lease's holder

    def taken(self, number: int, line: JobLine) -> None:
        """A job came into our hands."""
        line.since = self._wall()
        self._jobs[number] = line

    def moved(self, number: int, state: str, fraction: float | None = None, message: str = "") -> None:
        """It is so far."""
        if (line := self._jobs.get(number)) is not None:
            line.state, line.fraction, line.message = state, fraction, message

    def gone(self, number: int) -> None:
        """It is out of our hands."""
        self._jobs.pop(number, None)

    def completed(self, earned: Decimal) -> None:
        """A job was delivered and paid."""
        state, hour = self.state, int(self._wall()) // _HOUR * _HOUR
        state.completed += 1
        state.earned += earned
        state.failures_in_a_row = 0
        if not state.hours or state.hours[-1].begins != hour:
            state.hours = [*state.hours, Hour(begins=hour)][-HOURS:]
        state.hours[-1].jobs += 1
        state.hours[-1].earned += earned

    def failed(self) -> None:
        """A job came to nothing here."""
        self.state.failed += 1
        self.state.failures_in_a_row += 1
        self.state.failed_at = self._wall()

    def refused(self, reason: str) -> None:
        """An offer was passed by."""
        self.state.refused[reason] = self.state.refused.get(reason, 0) + 1

    def moved_data(self, size: int) -> None:
        """So many bytes came or went for a job."""
        self.state.day, self.state.data_today = self._today(), self.data_today() + size

    # -- what is asked of it

    @property
    def in_hand(self) -> int:
        """How many jobs are in our hands."""
        return len(self._jobs)

    def data_today(self) -> int:
        """Bytes of inputs and results since midnight (local time)."""
        return self.state.data_today if self.state.day == self._today() else 0

    def earned_in(self, seconds: float) -> Decimal | None:
        """Earned in so many seconds until now, to the hour; `None` while it is not that long that it is counted."""
        now = self._wall()
        if now - self.state.counted_since < seconds:
            return None
        return sum((hour.earned for hour in self.state.hours if hour.begins > now - seconds), Decimal(0))

    def since_failure(self) -> float:
        """Seconds since a job last failed."""
        return self._wall() - self.state.failed_at

    def _today(self) -> str:
        return datetime.fromtimestamp(self._wall()).astimezone().date().isoformat()

    # -- the file

    @property
    def is_kept(self) -> bool:
        """Whether there is a file for it."""
        return self._file is not None

    def write(self) -> None:
        """Put the state where it is read, if there is a file for it. What cannot be written is only not shown."""
        self.state.at = self._wall()
        self.state.jobs = list(self._jobs.values())
        if self._file is None:
            return
        temporary = self._file.with_name(self._file.name + ".part")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                out.write(encode(self.state))
            temporary.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error)

    def close(self) -> None:
        """The agent has ended."""
        self.state.pid = 0
        self.write()


def read(file: Path) -> State | None:
    """The state that an agent wrote there; `None` where there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError):
        return None
