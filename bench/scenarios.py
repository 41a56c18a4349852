"""What a closed loop cannot show: how many miners one core carries, wake-ups, memory for those who wait, restarts."""

import asyncio
import json
import os
import random
import resource
import signal
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench import fleet, open_loop
from bench.fleet import Fleet, Miner
from bench.load import Connection, Recorder, Script
from bench.measures import job_body, request, work_of
from bench.open_loop import Plan
from bench.servers import Server, coordinator, cpu_seconds

#: Seconds between two heartbeats of a miner, and between two jobs of one.
BEAT_EVERY: Final = 15.0
JOB_EVERY: Final = 300.0
#: p99 up to which a core is said to carry the miners, in seconds.
CARRIED_WITHIN: Final = 0.1


class Carried(msgspec.Struct, frozen=True):
    """One step of the mixed load."""

    miners: int
    requests_per_second: float
    p50: float
    p99: float
    p999: float
    worst: float
    server_cpu: float
    load_cpu: float
    jobs: int
    #: Seconds until all of them had been heard once, and nothing of that was late any more.
    warmed_up_in: float


def quantile(ordered: list[float], share: float) -> float:
    """The value that so large a share is at most."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _beats(miner: Miner) -> Plan:
    content = request("POST", f"/v1/miners/{miner.id}/heartbeat", miner.key)
    return lambda answer: (0.0 if answer is None else BEAT_EVERY, content)


class _Jobs:
    """A client submits a job that fits the miner, which then looks, takes one of what it is offered, and completes it."""

    def __init__(self, miner: Miner, client_key: str, number: int) -> None:
        self._submit = request("POST", "/v1/jobs", client_key, job_body(fleet.kind_for(miner, number)))
        self._look = request("GET", f"/v1/miners/{miner.id}/jobs/available", miner.key)
        self._accept, self._complete = work_of(miner)
        self._step = "rest"
        self._job = b""
        self.completed = 0

    def __call__(self, answer: bytes | None) -> tuple[float, bytes]:
        match self._step:
            case "rest":
                self._step = "submit"
                return 0.0, self._submit
            case "submit":
                self._step = "look"
                return 0.0, self._look
            case "look":
                offers = json.loads(answer or b"{}").get("jobs")
                if not offers:
                    return 0.0, self._look
                # Any of the first twenty: a thousand miners that all reach for one would measure refusals.
                self._job = random.choice(offers)["job_id"].encode()
                self._step = "accept"
                return 0.0, self._accept.replace(b"@", self._job, 1)
            case "accept" if answer:
                self._step = "complete"
                return 0.0, self._complete.replace(b"@", self._job, 1)
            case "accept":  # Somebody was faster.
                self._step = "look"
                return 0.0, self._look
            case _:
                self.completed += 1
                self._step = "submit"
                return JOB_EVERY, self._submit


def carried(server: Server, everybody: Fleet, count: int, seconds: float) -> Carried:
    """The mixed load of `count` miners, spread evenly over their periods."""
    plans: list[tuple[float, Plan]] = []
    working: list[_Jobs] = []
    spread = random.Random(7)
    for number, miner in enumerate(everybody.miners[:count]):
        plans.append((spread.uniform(0, BEAT_EVERY), _beats(miner)))
        working.append(_Jobs(miner, everybody.client_key, number))
        plans.append((spread.uniform(0, JOB_EVERY), working[-1]))
    before = (time.perf_counter(), cpu_seconds(server.pid), cpu_seconds())
    # The first round reads each miner into memory; it is part of the warm-up.
    tally = uvloop.run(open_loop.run(server.port, plans, seconds=seconds, warm_up=BEAT_EVERY + 1, lines=256))
    took, of_server, of_load = (
        after - was
        for after, was in zip((time.perf_counter(), cpu_seconds(server.pid), cpu_seconds()), before, strict=True)
    )
    ordered = sorted(tally.latencies)
    return Carried(
        miners=count,
        requests_per_second=len(ordered) / seconds,
        p50=quantile(ordered, 0.5),
        p99=quantile(ordered, 0.99),
        p999=quantile(ordered, 0.999),
        worst=ordered[-1],
        server_cpu=of_server / took,
        load_cpu=of_load / took,
        jobs=sum(one.completed for one in working),
        warmed_up_in=tally.warmed_up_in,
    )


class Waking(msgspec.Struct, frozen=True):
    """Seconds from a job's submit to the offer in a waiting miner's hands."""

    p50: float
    p99: float
    times: int


def wake_up(submit_to: Server, waits_at: Server, everybody: Fleet, times: int) -> Waking:
    """A miner waits (`available?wait=30`) while a client submits a job of a model that only it has."""
    return uvloop.run(_wake_up(submit_to.port, waits_at.port, everybody, times))


async def _wake_up(submit_to: int, waits_at: int, everybody: Fleet, times: int) -> Waking:
    miner = everybody.idle[0]
    took: list[float] = []
    loop = asyncio.get_running_loop()
    look = request("GET", f"/v1/miners/{miner.id}/jobs/available?wait=30", miner.key)
    accept, complete = work_of(miner)
    kind = fleet.Kind("any", fleet.OWN_MODEL, fleet.PRICES[-1])
    submit = request("POST", "/v1/jobs", everybody.client_key, job_body(kind))
    pool_a, pool_b = open_loop.Pool(submit_to, 1), open_loop.Pool(waits_at, 1)

    async def ask(pool: open_loop.Pool, content: bytes) -> bytes:
        answered: asyncio.Future[bytes] = loop.create_future()
        pool.ask(content, lambda status, body: answered.set_result(body))
        return await answered

    for _ in range(times):
        waiting = asyncio.ensure_future(ask(pool_b, look))
        await asyncio.sleep(0.01)  # It has to be there before the job is.
        began = time.perf_counter()
        submitted = asyncio.ensure_future(ask(pool_a, submit))
        offer = json.loads(await waiting)["jobs"]
        took.append(time.perf_counter() - began)
        await submitted
        job = offer[0]["job_id"].encode()
        await ask(pool_b, accept.replace(b"@", job, 1))
        await ask(pool_b, complete.replace(b"@", job, 1))
    pool_a.close()
    pool_b.close()
    ordered = sorted(took)
    return Waking(quantile(ordered, 0.5), quantile(ordered, 0.99), times)


def waiting_memory(server: Server, everybody: Fleet, count: int) -> float:
    """Bytes of the server's memory for each miner that waits for a job, over `count` of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_waiting_memory(server, everybody, count))


async def _waiting_memory(server: Server, everybody: Fleet, count: int) -> float:
    before = server.memory
    recorder, loop = Recorder(1), asyncio.get_running_loop()

    def waits(miner: Miner) -> Script:
        yield 0, request("GET", f"/v1/miners/{miner.id}/jobs/available?wait=60", miner.key)

    connections = []
    for miner in everybody.idle[1 : count + 1]:
        script = waits(miner)
        _, connection = await loop.create_connection(partial(Connection, script, recorder), "127.0.0.1", server.port)
        connection.start()
        connections.append(connection)
    await asyncio.sleep(2)
    used = server.memory - before
    for connection in connections:
        connection.abort()
    return used / count


def served_again(folder: Path, core: int, everybody: Fleet) -> float:
    """Seconds from a SIGKILL until the coordinator that is started at once serves a client again; the median of three."""
    took = []
    for _ in range(3):
        with coordinator("killed", folder, core, killed=True) as server:
            _ask(server, everybody)
            began = time.perf_counter()
            os.kill(server.pid, signal.SIGKILL)
        with coordinator("again", folder, core) as server:
            _ask(server, everybody)
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _ask(server: Server, everybody: Fleet) -> None:
    async def once() -> None:
        pool = open_loop.Pool(server.port, 1)
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        content = request("POST", "/v1/jobs", everybody.client_key, job_body(next(fleet.kinds())))
        pool.ask(content, lambda status, body: answered.set_result(status))
        assert await answered == 201
        pool.close()

    uvloop.run(once())
