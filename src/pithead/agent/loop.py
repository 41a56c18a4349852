"""The agent: heartbeats, takes the jobs that fit, has them run, and brings the results in.

Guarantees, each with a test:

- Running jobs never holds up a heartbeat. Nothing stops a job but the coordinator's word – in a heartbeat's answer or, at
  once, to who listens –, the end of the time that the attempt may take, or the owner.
- A finished result is on the disk before it is delivered, and is delivered until the coordinator has said yes or no: over
  lost answers, an absent coordinator, and a restart of the agent.
- What the coordinator takes for held but the agent does not have (an answer was lost, an earlier life was cut short) is
  handed back at once, not left to lapse.
- The first interruption finishes what runs, within its time, and takes nothing new; the second one hands it back.
- What the owner decides takes effect without a restart: nothing new is taken from then on, and what runs goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pithead import tracing
from pithead.agent.cache import Cache
from pithead.agent.delivery import NotTaken, deliver
from pithead.agent.duty import Duty, Telemetry
from pithead.agent.gpus import Inventory
from pithead.agent.heart import Heart
from pithead.agent.held import Hands, Held, cancelled
from pithead.agent.line import Line, Pace
from pithead.agent.listening import listen
from pithead.agent.owner.governor import Governor
from pithead.agent.record import JobLine, Record
from pithead.agent.rhythm import Lease, Rhythm
from pithead.agent.runners.base import About, RunFailed, Runner, RunResult
from pithead.agent.running import Runs
from pithead.agent.service import notify
from pithead.agent.spool import Finished, Spool
from pithead.agent.telling import Telling, Turns
from pithead.client import ApiError, AsyncMinerClient, PitheadError, Unauthorized
from pithead.wire.miners import Assignment

log = logging.getLogger(__name__)

#: Jobs asked for beyond those that can be taken: others may be faster.
_SPARE_OFFERS: Final = 4
#: What a failure's reason may be, in characters. Longer ones are cut: refused for its reason, a failure would not be one.
_LONGEST_REASON: Final = 2000


class Agent:
    """Works for one miner until it is interrupted. For one event loop; `run` it once."""

    def __init__(
        self,
        client: AsyncMinerClient,
        runner: Runner,
        spool: Spool,
        *,
        models: list[str] | None = None,
        about: Mapping[str, About] | None = None,
        machine: Inventory | None = None,
        pace: Pace | None = None,
        telemetry: Telemetry | None = None,
        governor: Governor | None = None,
        record: Record | None = None,
        speeds: Mapping[str, float] | None = None,
        registered: Mapping[str, Any] | None = None,
        cache: Cache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`models`: those to offer; `None` is all that the runner has. `about`: what each of them is. `machine`: what was
        found here, to be compared with what was registered. `governor`: the owner's word, and `record`, which it goes by;
        without them the owner has said nothing. `speeds`: tokens a second by model, as they were measured. `registered`:
        what holds again where the owner takes a setting back. `cache`: for input files; without it jobs that have some are
        refused. `client` should not retry: the agent does.
        """
        pace = pace or Pace()
        self._client, self._runner, self._spool, self._pace = client, runner, spool, pace
        self._clock = clock
        self._line = Line(pace, clock)
        self._record = record or Record(wall=time.time)
        self._hands = Hands(client, self._line, self._record)
        self._duty = Duty(
            client,
            self._line,
            runner,
            governor or Governor(None, self._record, clock=clock),
            self._record,
            models=runner.models() if models is None else models,
            about=about or {},
            machine=machine,
            telemetry=telemetry,
            pace=pace,
            speeds=speeds or {},
            registered=registered or {},
            changed=self._hands.changed.set,
            cache=cache,
        )
        self._rhythm = Rhythm(pace.heartbeat, clock)
        self._turns = Turns(pace, clock)
        self._runs = Runs(runner, cache, client, self._line)
        self._heart = Heart(
            client,
            self._line,
            self._hands,
            self._record,
            rhythm=self._rhythm,
            telemetry=telemetry,
            clock=clock,
            begin=lambda work, name: self._group.create_task(work, name=name),
        )
        self._draining = asyncio.Event()
        self._stopping = False
        #: Interrupts again once the time for finishing is over.
        self._limit: asyncio.TimerHandle | None = None
        self._group: asyncio.TaskGroup

    def interrupt(self, within: float | None = None) -> None:
        """The first time: take nothing new, and end once all is done, or after so many seconds. The second time: hand it
        back and end.
        """
        if self._draining.is_set():
            self._stopping = True
            log.info("stopping: what runs is handed back")
        else:
            limit = "" if within is None else f" within {within:g} s"
            log.info(
                "finishing %d jobs%s, taking no more; interrupt again to hand them back", len(self._hands.held), limit
            )
            if within is not None:
                self._limit = asyncio.get_running_loop().call_later(within, self.interrupt)
        notify("STOPPING=1")
        self._record.state.draining = True
        self._draining.set()
        self._hands.changed.set()

    async def run(self) -> bool:
        """Work until interrupted; whether everything was finished and delivered. Raises `ApiError` where the coordinator
        does not take this miner for one of its own.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                # Before anything is asked of the coordinator, which may be away: they are in hand from the first moment.
                for finished in await asyncio.to_thread(self._spool.pending):
                    held = self._hands.hold(Held(finished.job_id, finished.lease_token, done=True, on_disk=True))
                    held.task = self._group.create_task(self._deliver_later(held, finished), name=held.job_id)
                taking = self._group.create_task(self._take(), name="take")
                beating = self._group.create_task(self._heart.go_on(), name="heartbeat")
                listening = self._group.create_task(
                    listen(self._client, self._pace, self._clock, self._heart.heed), name="listen"
                )
                watching = self._group.create_task(self._duty.watch(), name="watch")
                telling = self._group.create_task(self._duty.keep_told(), name="tell")
                await self._draining.wait()
                await cancelled(taking, telling)
                leaving = self._group.create_task(self._say_draining(), name="drain")
                whole = await self._finish()
                await leaving
                await cancelled(beating, watching, listening)
                await self._heart.settle(self._pace.farewell)
        except BaseExceptionGroup as several:
            # They are one story: whatever came first ended the others.
            raise several.exceptions[0] from None
        finally:
            if self._limit is not None:
                self._limit.cancel()
            await self._runner.close()
            self._record.close()
        return whole

    # -- taking jobs

    async def _take(self) -> None:
        await self._duty.begin()
        # The first heartbeat makes a new miner active, and tells what an earlier life left behind.
        await self._heart.beat()
        while True:
            free = self._duty.room(len(self._hands.held))
            if free <= 0:
                await self._hands.until_changed()
                continue
            began = self._clock()
            taken = await self._take_offers(free)
            # Where everything went to others, or nothing was held open for us: not at once again.
            if not taken and self._clock() - began < self._pace.hold:
                await asyncio.sleep(self._pace.idle)

    async def _take_offers(self, free: int) -> int:
        """Ask what there is, and take as much as is free; how many that were."""
        taken = 0
        try:
            found = await self._line.insist(
                lambda: self._client.available(limit=self._duty.asks_for(free + _SPARE_OFFERS), wait=self._pace.hold)
            )
        except Unauthorized:
            raise
        except ApiError as error:
            log.warning("no jobs: %s", error)
            return 0
        for offer in found.jobs:
            # Looked at anew for each: the owner may have decided otherwise meanwhile.
            if self._duty.room(len(self._hands.held)) <= 0:
                break
            # One that is being delivered late is offered too, to us as to everybody.
            if offer.job_id not in self._hands.names() and not self._duty.refuses(offer):
                taken += await self._accept(offer.job_id)
        return taken

    async def _accept(self, job_id: str) -> bool:
        self._hands.accepting.add(job_id)
        try:
            assignment = await self._line.accept(lambda: self._client.accept(job_id))
        except Unauthorized:
            raise
        except ApiError as error:
            log.info("%s went to another: %s", job_id, error.detail)
            return False
        finally:
            self._hands.accepting.discard(job_id)
        log.info("%s: attempt %d, %s", job_id, assignment.attempt, assignment.model)
        ends = self._clock() + assignment.attempt_expires_in
        held = self._hands.hold(Held(job_id, assignment.lease_token, ends, since=self._clock()))
        held.telling = Telling(self._client, self._turns, self._pace, job_id, assignment.lease_token)
        self._record.moved_data(len(assignment.input))
        line = JobLine(job_id=job_id, model=assignment.model, client_id=assignment.client_id)
        self._record.taken(id(held), line)
        self._rhythm.taken(Lease(assignment.lease_expires_in, assignment.attempt_expires_in))
        work = self._work(held, assignment)
        if assignment.traceparent is not None:
            about = {"job_id": job_id, "model": assignment.model, "attempt": assignment.attempt}
            work = tracing.within(work, "job", assignment.traceparent, about)
        held.task = self._group.create_task(work, name=job_id)
        return True

    # -- one job

    async def _work(self, held: Held, assignment: Assignment) -> None:
        try:
            try:
                result = await self._run(held, assignment)
            except RunFailed as failure:
                await self._report(held, failure)
                return
            held.done = True
            self._record.moved(id(held), "uploading", 1.0)
            self._record.moved_data(len(result.data))
            finished = await asyncio.to_thread(self._spool.add, held.job_id, held.token, result.data, result.metrics)
            held.on_disk = finished.data is None
            self._hands.changed.set()
            if held.telling is not None:
                await held.telling.end()
            await self._deliver(held, finished)
        except asyncio.CancelledError:
            if held.stopped is None:
                raise
            log.info("%s stopped: it is %s", held.job_id, held.stopped)
        finally:
            # Being stopped by `_finish` is no end yet: it hands the job back first.
            if not self._stopping or held.done or held.stopped:
                self._hands.let_go(held)

    async def _run(self, held: Held, assignment: Assignment) -> RunResult:
        """Have it run, and tell how it gets on. Raises as `Runs.run` does."""
        assert held.telling is not None
        tell = held.telling.report

        def report(fraction: float | None, message: str, output: str = "", /) -> None:
            tell(fraction, message, output)
            self._record.moved(id(held), "running", fraction, message)

        telling = self._group.create_task(held.telling.go_on(), name=f"progress of {held.job_id}")
        try:
            return await self._runs.run(assignment, report)
        finally:
            telling.cancel()

    async def _report(self, held: Held, failure: RunFailed) -> None:
        kind, reason = failure.kind, failure.reason[:_LONGEST_REASON]
        log.warning("%s failed: %s: %s", held.job_id, kind, reason)
        self._record.failed()
        await self._hands.say(lambda: self._client.fail(held.job_id, reason, kind, held.token), held)

    async def _deliver_later(self, held: Held, finished: Finished) -> None:
        try:
            log.info("%s: delivering what an earlier run left", held.job_id)
            await self._deliver(held, finished)
        finally:
            self._hands.let_go(held)

    async def _deliver(self, held: Held, finished: Finished) -> None:
        try:
            outcome = await deliver(self._client, self._line, self._spool, finished)
        except NotTaken as refused:
            if refused.still_held:
                # Handed back, it would be given out and done again, here or elsewhere, without an end.
                await self._report(held, RunFailed("error", f"the result was not taken: {refused}"))
            else:
                log.warning("%s was not taken: %s", held.job_id, refused)
        else:
            log.info("%s completed: earned %s", held.job_id, outcome.earned)
            self._record.completed(outcome.earned)
        await asyncio.to_thread(self._spool.remove, finished)

    # -- the end

    async def _say_draining(self) -> None:
        """Have no more jobs offered. It is a courtesy: nothing depends on its being heard."""
        with contextlib.suppress(PitheadError, TimeoutError):
            async with asyncio.timeout(self._pace.farewell):
                await self._client.update(draining=True)
                # An accept that was cut short may have been heard: the answer tells, and the job goes back.
                await self._heart.beat()

    async def _finish(self) -> bool:
        """Wait for what is held, or hand it back once asked to; whether all of it was finished and delivered."""
        while self._hands.held and not self._stopping:
            # What is on the disk can wait for the next run.
            only_deliveries = all(held.on_disk for held in self._hands.held)
            try:
                async with asyncio.timeout(self._pace.farewell if only_deliveries else None):
                    await self._hands.until_changed()
            except TimeoutError:
                if self._line.away:
                    break
        back = [held for held in self._hands.held if not held.done]
        await cancelled(*(held.task for held in back if held.task is not None))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.farewell if self._hands.held else None):
                await asyncio.gather(*(self._hands.hand_back(held) for held in back))
                while any(held.done for held in self._hands.held):
                    await self._hands.until_changed()
        late = [held for held in self._hands.held if held.done]
        for held in late:
            where = "it is on the disk, and the next run delivers it" if held.on_disk else "its result is lost"
            log.warning("%s is done but not delivered: %s", held.job_id, where)
        await cancelled(*(held.task for held in late if held.task is not None))
        return not (back or late)
