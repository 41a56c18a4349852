"""One model over many inputs: what `map` gives for each, and the order of its steps, without I/O."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from pithead.client.errors import JobFailed, Misused
from pithead.wire.jobs import JobView


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one input."""

    #: Its place among the inputs, from 0 on.
    index: int
    #: The job, finished in whichever way.
    job: JobView
    #: The bytes of the result; `None` where the job was not completed, or by its hash alone.
    data: bytes | None

    @property
    def completed(self) -> bool:
        """Whether the job was completed."""
        return self.job.status == "completed"

    def bytes(self) -> bytes:
        """The result. Raises `JobFailed` where there is none."""
        if self.data is None:
            raise JobFailed(self.job)
        return self.data

    def text(self) -> str:
        """The result as text. Raises `JobFailed`, `UnicodeDecodeError`."""
        return self.bytes().decode()

    def json(self) -> Any:
        """The result as what its JSON says. Raises `JobFailed`, `msgspec.DecodeError`."""
        return msgspec.json.decode(self.bytes())


class Ahead:
    """The jobs that were submitted and whose results were not given yet, the oldest first."""

    def __init__(self, inputs: Iterable[Any], in_flight: int, idempotency_key: str | None) -> None:
        """Raises `Misused`."""
        if in_flight < 1:
            raise Misused(what=f"in_flight is {in_flight}; at least 1 job has to be on its way")
        self._inputs = enumerate(inputs)
        self._in_flight = in_flight
        self._key = idempotency_key
        self._out: deque[tuple[int, str]] = deque()

    def next_input(self) -> tuple[Any, str | None] | None:
        """What to submit now, with its idempotency key; `None` where enough is on its way, or nothing is left."""
        if len(self._out) >= self._in_flight:
            return None
        found = next(self._inputs, None)
        if found is None:
            return None
        self._index, given = found
        return given, None if self._key is None else key_of(self._key, self._index)

    def submitted(self, job_id: str) -> None:
        """The input that was asked for last is this job."""
        self._out.append((self._index, job_id))

    def oldest(self) -> tuple[int, str] | None:
        """The job whose result is the next to be given."""
        return self._out[0] if self._out else None

    def given(self) -> None:
        """The oldest one is done with."""
        self._out.popleft()

    def given_up(self) -> list[str]:
        """The jobs that nobody waits for any more; none where a key can find them again."""
        return [] if self._key is not None else [job_id for _, job_id in self._out]


def key_of(key: str, index: int) -> str:
    """The idempotency key of one input of many: as hard to guess as the one that it is made from."""
    return hashlib.sha256(f"{key}\0{index}".encode()).hexdigest()
