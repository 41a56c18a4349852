"""Offers as JSON, made once for each job: what a job is offered with never changes, and it is offered many times."""

from collections.abc import Mapping, Sequence
from typing import Final

from pithead.core.jobs import Job
from pithead.http import shapes
from pithead.wire.base import encode

#: Beyond so many, all are forgotten: most of them are of jobs that are long taken.
_MOST: Final = 50_000


class Offers:
    """The answers of `available`, as `wire.miners.Available` says."""

    def __init__(self) -> None:
        self._made: dict[int, bytes] = {}

    def encode(self, jobs: Sequence[Job], client_ids: Mapping[int, str]) -> bytes:
        """The whole answer; `client_ids` are those of the jobs' clients, by their numbers."""
        made = self._made
        if len(made) > _MOST:
            made.clear()
        parts = []
        for job in jobs:
            part = made.get(job.seq)
            if part is None:
                part = made[job.seq] = encode(shapes.offer(job, client_ids.get(job.client, "")))
            parts.append(part)
        return b'{"jobs":[%s]}' % b",".join(parts)
