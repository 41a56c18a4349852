"""Heartbeats: that the miner is there and what it holds; and what the coordinator says to that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pithead.agent.duty import Telemetry
from pithead.agent.held import Hands, Held, cancelled, stop
from pithead.agent.line import Line
from pithead.agent.record import Record
from pithead.agent.rhythm import Lease, Rhythm
from pithead.client import AsyncMinerClient
from pithead.wire.miners import HeartbeatAnswer, Orders

log = logging.getLogger(__name__)

#: Begins a task under this name, among the agent's.
Begin = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


class Heart:
    """Beats as often as the leases of what is held ask for."""

    def __init__(
        self,
        client: AsyncMinerClient,
        line: Line,
        hands: Hands,
        record: Record,
        *,
        rhythm: Rhythm,
        telemetry: Telemetry | None,
        clock: Callable[[], float],
        begin: Begin,
    ) -> None:
        self._client, self._line, self._hands, self._record = client, line, hands, record
        self._rhythm, self._telemetry, self._clock, self._begin = rhythm, telemetry, clock, begin
        #: Hand-backs of jobs that are not known here.
        self._strays: dict[str, asyncio.Task[None]] = {}
        self._status: str | None = None

    async def go_on(self) -> None:
        """A heartbeat whenever one is due, without end."""
        while True:
            await self._rhythm.due()
            await self.beat()

    async def beat(self) -> None:
        """One heartbeat, until it is answered. What is held without being known here is handed back."""
        hands = self._hands
        telemetry = await self._telemetry() if self._telemetry else None
        known: set[str] = set()
        asked_at = self._clock()

        async def call() -> HeartbeatAnswer:
            nonlocal asked_at
            # Anew for each try: what is held changes meanwhile.
            asked_at = self._clock()
            known.update(hands.names(), hands.accepting)
            return await self._client.heartbeat(sorted(hands.names()) or None, telemetry)

        answer = await self._line.insist(call)
        stop(hands.held, answer.stop, asked_at)
        known.update(hands.names(), hands.accepting)
        for lease in answer.leases:
            if lease.job_id not in known and lease.job_id not in self._strays:
                log.warning("%s is held without being known here: handed back", lease.job_id)
                self._strays[lease.job_id] = self._begin(self._hand_back(lease.job_id), f"not {lease.job_id}")
        now, ends = self._clock(), {held.job_id: held.ends for held in hands.held}
        mine = (lease for lease in answer.leases if lease.job_id in ends)
        self._rhythm.answered(Lease(lease.expires_in, ends[lease.job_id] - now) for lease in mine)
        self._is(answer.miner_status)
        self._record.state.queue_length = answer.queue_length

    def heed(self, orders: Orders, asked_at: float) -> None:
        """What the coordinator said to who listens."""
        self._is(orders.miner_status)
        if not stop(self._hands.held, orders.stop, asked_at):
            # It may be about a job that was taken anew since: a heartbeat tells.
            self._rhythm.hurry()

    async def settle(self, within: float) -> None:
        """Wait so many seconds for what is being handed back, and no longer."""
        if self._strays:
            await asyncio.wait(self._strays.values(), timeout=within)
        await cancelled(*self._strays.values())

    def _is(self, status: str) -> None:
        if status != self._status:
            log.info("the coordinator has this miner as %s", status)
            self._status = status
        self._record.state.miner_status = status

    async def _hand_back(self, job_id: str) -> None:
        # Nothing is accepted meanwhile (see `Line.accept`), so that it cannot be taken anew before it is handed back.
        try:
            await self._hands.hand_back(Held(job_id, ""))
        finally:
            del self._strays[job_id]
