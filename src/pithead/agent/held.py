"""The jobs in the agent's hands."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from pithead.agent.line import Line
from pithead.agent.record import Record
from pithead.agent.telling import Telling
from pithead.client import ApiError, AsyncMinerClient, Unauthorized
from pithead.wire.miners import Stop

log = logging.getLogger(__name__)


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


class Hands:
    """All of them, and those that are being asked for; and what is said of one."""

    def __init__(self, client: AsyncMinerClient, line: Line, record: Record) -> None:
        self._client, self._line, self._record = client, line, record
        #: Of one job there may be two: what an earlier life left of it, twice taken, waits under both leases.
        self.held: set[Held] = set()
        #: Jobs that were asked for, while the answer is not here.
        self.accepting: set[str] = set()
        #: Set whenever a job is done or out of the agent's hands, the owner decided otherwise, or an interruption came.
        self.changed = asyncio.Event()

    def names(self) -> set[str]:
        """The ids of those that are held."""
        return {held.job_id for held in self.held}

    def hold(self, held: Held) -> Held:
        """It came into our hands."""
        self.held.add(held)
        return held

    def let_go(self, held: Held) -> None:
        """It is out of our hands."""
        self.held.discard(held)
        self._record.gone(id(held))
        self.changed.set()

    async def until_changed(self) -> None:
        """Wait for what may make a difference."""
        self.changed.clear()
        await self.changed.wait()

    async def say(self, call: Callable[[], Awaitable[object]], held: Held) -> None:
        """Say something of a job until it is heard; that it is somebody else's by now is an answer too."""
        try:
            await self._line.deliver(call)
        except Unauthorized:
            raise
        except ApiError as error:
            log.info("%s: %s", held.job_id, error)

    async def hand_back(self, held: Held) -> None:
        """Give it back undone."""
        await self.say(lambda: self._client.release(held.job_id, held.token or None), held)


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
