"""The jobs in the agent's hands."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pithead.agent.telling import Telling
from pithead.wire.miners import Stop


@dataclass(eq=False)
class Held:
    """A job in the agent's hands."""

    job_id: str
    token: str
    #: When the attempt must end, by the agent's clock; and since when it is held.
    ends: float = math.inf
    since: float = -math.inf
    #: Whether the work is done, and only its delivery is left.
    done: bool = False
    #: Whether its result is safe on the disk.
    on_disk: bool = False
    #: Why the coordinator had it stopped, if it did.
    stopped: str | None = None
    task: asyncio.Task[None] | None = None
    telling: Telling | None = None


def stop(held: Iterable[Held], stops: Sequence[Stop], asked_at: float) -> bool:
    """Stop what is to be stopped; whether all of it was held already when that was asked for.

    One that was taken later may have been lost before, and is its miner's own now.
    """
    certain, reasons = True, {one.job_id: one.reason for one in stops}
    for job in held:
        # What is done is delivered all the same: only the coordinator can tell whether it comes too late.
        if job.job_id not in reasons or job.task is None or job.done:
            continue
        if job.since > asked_at:
            certain = False
            continue
        job.stopped = reasons[job.job_id]
        job.task.cancel()
    return certain
