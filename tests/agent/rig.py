"""An agent under test: its coordinator, the line between the two, its runner, and the one clock that all of them go by.

The event loop's time is the test's too: what sleeps or times out does so when the test lets time pass, at once.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.http.exchange import REGISTRATION, Client, Clock, Miner, Party, World
from tests.http.ways import Ways

from pithead.agent.loop import Agent
from pithead.agent.runners.base import Report, RunFailed, RunResult
from pithead.agent.spool import Spool
from pithead.client import AsyncMinerClient
from pithead.wire.miners import Assignment, FailureKind, Metrics

#: What the coordinator's clock says when the test begins.
_EPOCH = 1_800_000_000.0
#: Rounds of the event loop after which nothing more happens by itself.
_ROUNDS = 60


class Time(Clock):
    """The clock of coordinator, agent and event loop."""

    def __init__(self) -> None:
        #: Seconds since the test began.
        self.passed = 0.0

    @property
    def now(self) -> float:
        return _EPOCH + self.passed

    @now.setter
    def now(self, value: float) -> None:
        self.passed = value - _EPOCH

    def monotonic(self) -> float:
        return self.passed


@dataclass
class Said:
    """One call of the agent."""

    name: str
    job: str
    body: Any
    token: str | None
    at: float
    #: The part of the answer that was asked for.
    range: str | None = None
    #: The status that the agent was answered; `None` where it got no answer.
    status: int | None = None


Forward = Callable[[], Awaitable[httpx.Response]]
Fault = Callable[[Forward], Awaitable[httpx.Response]]


async def lost_answer(forward: Forward) -> httpx.Response:
    """The coordinator does it, and its answer is lost."""
    await forward()
    raise httpx.ReadError("the connection broke")


async def lost_request(forward: Forward) -> httpx.Response:
    """It never gets there."""
    raise httpx.ConnectError("refused")


def answered(status: int, retry_after: int | None = None, kind: str = "about:blank") -> Fault:
    """Somebody answers in the coordinator's place."""

    async def fault(forward: Forward) -> httpx.Response:
        headers = {"Content-Type": "application/problem+json"}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        body = {"type": kind, "title": "T", "status": status, "detail": "so it is"}
        return httpx.Response(status, headers=headers, content=json.dumps(body))

    return fault


class Gate:
    """Holds a call until it is opened."""

    def __init__(self, line: "Line", name: str, *, answer: bool) -> None:
        self._line, self._name, self._answer = line, name, answer
        self._open = asyncio.Event()
        #: Whether a call waits at it.
        self.reached = False

    async def __call__(self, forward: Forward) -> httpx.Response:
        if self._answer:
            response = await forward()
            await self._wait()
            return response
        await self._wait()
        return await forward()

    async def _wait(self) -> None:
        self._line.count(self._name, -1)
        self.reached = True
        try:
            await self._open.wait()
        finally:
            self._line.count(self._name, +1)

    def open(self) -> None:
        self._open.set()


class Line(httpx.AsyncBaseTransport):
    """The line from the agent to the coordinator, which the test looks at, breaks and holds."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        #: The coordinator's transport; `None` while there is none.
        self.far_end: httpx.AsyncBaseTransport | None = None
        self._cut_off: httpx.AsyncBaseTransport | None = None
        #: Calls that will be answered without time passing.
        self.busy = 0
        #: Something began, ended or was held.
        self.stirred = asyncio.Event()
        self._faults: dict[str, deque[Fault]] = {}
        self._cut = asyncio.Event()

    def next(self, name: str, *faults: Fault) -> None:
        """What becomes of the next calls of that name."""
        self._faults.setdefault(name, deque()).extend(faults)

    def gate(self, name: str, *, answer: bool = False) -> Gate:
        """Hold the next call of that name, or the answer to it."""
        gate = Gate(self, name, answer=answer)
        self.next(name, gate)
        return gate

    def cut(self) -> None:
        """The coordinator is gone, and with it whatever waited for its answer."""
        self._cut_off, self.far_end = self.far_end, None
        self._cut.set()
        self._cut = asyncio.Event()

    def mend(self) -> None:
        """The same coordinator can be reached again."""
        self.far_end = self._cut_off

    def calls(self, name: str, status: int | None = 200) -> list[Said]:
        """The calls of that name that were answered so."""
        return [said for said in self.said if said.name == name and said.status == status]

    def count(self, name: str, change: int) -> None:
        # The questions for jobs and for orders may be held by the coordinator: they are answered when there are some.
        self.busy += change if name not in ("available", "orders") else 0
        self.stirred.set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.split("/")
        name = "update" if request.method == "PUT" and len(path) == 4 else path[-1]
        job = path[5] if len(path) > 6 else ""
        content = await request.aread()
        body = json.loads(content) if content and name != "result" else content
        said = Said(
            name,
            job,
            body,
            request.headers.get("Lease-Token"),
            asyncio.get_running_loop().time(),
            request.headers.get("Range"),
        )
        self.said.append(said)
        self.count(name, +1)
        faults = self._faults.get(name)
        fault = faults.popleft() if faults else None
        try:
            response = await self._uncut(request, fault)
            said.status = response.status_code
            return response
        finally:
            self.count(name, -1)

    async def _uncut(self, request: httpx.Request, fault: Fault | None) -> httpx.Response:
        async def forward() -> httpx.Response:
            if self.far_end is None:
                raise httpx.ConnectError("nobody listens")
            return await self.far_end.handle_async_request(request)

        cut = asyncio.ensure_future(self._cut.wait())
        going = asyncio.ensure_future(fault(forward) if fault else forward())
        try:
            await asyncio.wait({going, cut}, return_when=asyncio.FIRST_COMPLETED)
            if not going.done():
                raise httpx.ReadError("the connection broke")
            return going.result()
        finally:
            for task in (going, cut):
                task.cancel()
            await asyncio.gather(going, cut, return_exceptions=True)


@dataclass
class Work:
    """A run in the hands of the test."""

    assignment: Assignment
    report: Report
    _end: "asyncio.Future[RunResult]"
    _stopped: bool = False

    def stopped(self) -> bool:
        """Whether the agent has ended it."""
        return self._stopped

    @property
    def job(self) -> str:
        return self.assignment.job_id

    def done(self, data: bytes = b"the answer", **metrics: float) -> None:
        self._end.set_result(RunResult(data, Metrics(**metrics)))  # type: ignore[arg-type]

    def failed(self, kind: FailureKind, reason: str = "no luck") -> None:
        self._end.set_exception(RunFailed(kind, reason))

    def broken(self, error: Exception) -> None:
        self._end.set_exception(error)


class Hands:
    """A runner whose runs end when the test says so."""

    def __init__(self, *models: str) -> None:
        self._models = list(models)
        self.works: list[Work] = []
        self.at_once = 0
        self.closed = False

    @property
    def running(self) -> list[Work]:
        return [work for work in self.works if not work._end.done()]

    def models(self) -> list[str]:
        return self._models

    def prepare(self, at_once: int) -> None:
        self.at_once = at_once

    async def run(self, assignment: Assignment, report: Report) -> RunResult:
        work = Work(assignment, report, asyncio.get_running_loop().create_future())
        self.works.append(work)
        try:
            return await work._end
        except asyncio.CancelledError:
            work._stopped = True
            raise

    async def close(self) -> None:
        self.closed = True


@dataclass
class Rig:
    """All of it; `life` begins a life of the agent."""

    time: Time
    open_world: Callable[..., AbstractAsyncContextManager[World]]
    spool: Path
    line: Line
    world: World = field(init=False)
    client: Client = field(init=False)
    #: The agent's own miner, as somebody else with its key.
    miner: Miner = field(init=False)
    parties: list[Party] = field(default_factory=list)
    #: Work of executors that is under way.
    threads: int = 0
    #: It took too long, by any clock.
    overdue: bool = False

    def give_up(self) -> None:
        self.overdue = True
        self.line.stirred.set()

    @contextlib.asynccontextmanager
    async def coordinator(self, **settings: Any) -> AsyncIterator[None]:
        """A coordinator is there, on the same folder each time, until the end of the block."""
        async with self.open_world(**settings) as world:
            self.world = world
            self.line.far_end = Ways(world.application.asgi)
            # Who has a key already talks to the new one.
            for party in self.parties:
                party.http = world.http
            try:
                yield
            finally:
                self.line.cut()
                await self.settled()

    @contextlib.asynccontextmanager
    async def peopled(self, **settings: Any) -> AsyncIterator[None]:
        """A new coordinator with these settings, a client, and the agent's miner."""
        async with self.coordinator(**settings):
            await self.someone()
            yield

    async def someone(self, **registration: Any) -> None:
        """A client with credit, and the agent's miner, registered as `pithead miner register` does it."""
        self.client = await self.world.client()
        self.miner = await self.world.register(**REGISTRATION | {"models": ["gpt2"]} | registration)
        self.parties = [self.client, self.miner]

    @contextlib.asynccontextmanager
    async def life(self, hands: Hands | None = None, **options: Any) -> AsyncIterator["Life"]:
        """A life of the agent, cut short at the end of the block where it has not ended by then."""
        hands = hands or Hands("gpt2")
        async with AsyncMinerClient(
            "http://pithead", self.miner.id, self.miner.key, retry_for=0, transport=self.line
        ) as client:
            given: dict[str, Any] = {"clock": self.time.monotonic} | options
            agent = Agent(client, hands, Spool(self.spool), **given)
            task = asyncio.create_task(agent.run(), name="agent")
            life = Life(self, agent, hands, task)
            try:
                await self.settled()
                yield life
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    # Looked at: a failure that no test asked for is not to be logged as one that nobody saw.
                    task.exception()

    async def settled(self) -> None:
        """Let everything that is under way get as far as it gets without time passing."""
        rounds = 0
        while rounds < _ROUNDS:
            self.line.stirred.clear()
            if self.threads or self.line.busy:
                await self.line.stirred.wait()
                assert not self.overdue, self.line.said
                rounds = 0
            await asyncio.sleep(0)
            rounds += 1

    async def passes(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, and all that is due meanwhile happen."""
        await self.settled()
        until = self.time.passed + seconds
        while self.time.passed < until:
            self.time.passed = min(until, self.time.passed + step)
            if self.line.far_end is not None:
                # The coordinator is up all the while.
                await self.world.application.coordinator.run(lambda tx, now: tx.set_alive(now))
                await self.world.application.coordinator.sweep()
            await self.settled()

    def spooled(self) -> list[bytes]:
        """The results on the agent's disk."""
        return [file.read_bytes() for file in sorted(self.spool.glob("*.result"))]


@dataclass
class Life:
    """One run of an agent."""

    rig: Rig
    agent: Agent
    hands: Hands
    task: "asyncio.Task[bool]"

    async def given(self, **job: Any) -> Work:
        """Submit a job, which the agent must take: its run."""
        known = len(self.hands.works)
        job_id = await self.rig.client.submit(**job)
        await self.rig.settled()
        [work] = self.hands.works[known:]
        assert work.job == job_id
        return work

    async def ended(self) -> bool:
        """What the run came to, which must have ended by now."""
        await self.rig.settled()
        assert self.task.done(), "the agent is still at work"
        return self.task.result()
