"""Two coordinators behind a balancer are restarted one after the other, again and again: no request fails, nothing is lost."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from pathlib import Path

import httpx
import psycopg
from tests.e2e.balancer import Balancer
from tests.e2e.processes import Running
from tests.http.exchange import Api, Client, Miner, body, connect, hash_of, problem
from tests.http.server import OPERATOR_KEY, UNLIMITED
from tests.postgres import Server

from pithead.store.postgres import LOCKS, MIGRATING

ROUNDS = 2
PRICE = 0.05


class Load:
    """Clients and miners that expect every request to succeed."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.jobs: list[str] = []
        self.paid: dict[str, int] = {}
        self._progress = asyncio.Condition()

    async def goes_on(self, more: int) -> None:
        """Wait until so many more jobs are done."""
        enough = len(self.paid) + more
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.paid) >= enough)

    async def submit(self, client: Client) -> None:
        """Submit a job, wait for its end, fetch its result; and again."""
        while not self.stop.is_set():
            job = await client.submit(require_result=True, price=PRICE)
            self.jobs.append(job)
            view = body(await client.get(f"/v1/jobs/{job}", params={"wait": 20}))
            while view["status"] != "completed":
                assert view["status"] in ("queued", "assigned", "uploading"), view
                view = body(await client.get(f"/v1/jobs/{job}", params={"wait": 20}))
            result = await client.get(f"/v1/jobs/{job}/result")
            assert hash_of(result.content) == view["result_hash"]

    async def mine(self, miner: Miner) -> None:
        """Ask for work, do it, deliver it; and again."""
        while not (self.stop.is_set() and len(self.paid) == len(self.jobs)):
            await miner.beat()
            for job in await miner.offered(wait=2):
                taken = await miner.accept(job)
                if taken.status_code == 409:
                    continue  # Another miner was first.
                content = os.urandom(500)
                body(taken)
                body(await miner.upload(job, content))
                body(await miner.complete(job, hash_of(content)))
                async with self._progress:
                    self.paid[job] = self.paid.get(job, 0) + 1
                    self._progress.notify_all()


def free_port() -> int:
    """A port that nobody has, and that the system gives to no outgoing connection while its owner is down."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.randbelow(20_000) + 10_000))
            return int(probe.getsockname()[1])


async def check(api: Api, load: Load) -> None:
    """Every job that was submitted is done and paid once."""
    found = body(await api.operator.get("/ledger/check"))
    assert found["sound"], found
    assert load.paid == dict.fromkeys(load.jobs, 1)
    assert found["jobs"] == len(load.jobs)
    ledger = await api.ledger()
    assert float(ledger["escrow"]) == 0
    assert abs(float(ledger["miner"]) - PRICE * len(load.jobs)) < 1e-6


async def test_no_request_fails_while_two_coordinators_are_restarted_in_turn(tmp_path: Path, postgres: Server) -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with postgres.lent() as name, contextlib.ExitStack() as stack:
        settings = UNLIMITED | {
            "PITHEAD_OPERATOR_KEY": OPERATOR_KEY,
            "PITHEAD_DATABASE": postgres.url(name),
            "PITHEAD_BLOB_STORE": str(tmp_path / "results"),
            "PITHEAD_HTTP__DRAIN": "1",
        }

        def start(number: int) -> Running:
            data = str(tmp_path / f"coordinator-{number}")
            return stack.enter_context(Running("serve", "--port", str(ports[number]), "--data", data, **settings))

        running = [start(0), start(1)]
        balancer, load = Balancer(urls), Load()
        async with balancer.serving() as url, asyncio.timeout(120):
            await balancer.sees(*urls)
            async with connect(url, OPERATOR_KEY) as api:
                clients = [await api.client(1000) for _ in range(2)]
                miners = [await api.miner(max_concurrent=10) for _ in range(2)]
                async with asyncio.TaskGroup() as work:
                    for client in clients:
                        work.create_task(load.submit(client))
                    for miner in miners:
                        work.create_task(load.mine(miner))
                    for number in (0, 1) * ROUNDS:
                        await load.goes_on(3)
                        running[number].signal(signal.SIGTERM)
                        assert await asyncio.to_thread(running[number].ended) == 0, running[number].log
                        await balancer.sees(urls[1 - number])
                        await load.goes_on(3)
                        running[number] = start(number)
                        await balancer.sees(*urls)
                    load.stop.set()
                await check(api, load)
        assert balancer.failures == []
        assert all(balancer.passed.values())
        for one in running:
            one.signal(signal.SIGINT)
            assert await asyncio.to_thread(one.ended) == 0
        assert not [line for one in running for line in one.log if "ERROR" in line]


async def test_what_is_asked_while_it_drains_is_answered(tmp_path: Path) -> None:
    settings = UNLIMITED | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY, "PITHEAD_HTTP__DRAIN": "30"}
    with Running("serve", "--port", "0", "--data", str(tmp_path), **settings) as running:
        url = (await asyncio.to_thread(running.says, r"serves on (http://\S+)$"))[1]
        async with connect(url, OPERATOR_KEY) as api:
            miner = await api.miner()
            waiting = asyncio.create_task(miner.get("/jobs/available", params={"wait": 60}))
            running.signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                while (answer := await api.http.get("/readyz")).status_code == 200:
                    pass
            assert answer.json()["detail"] == "the coordinator is stopping"
            assert (await api.http.get("/healthz")).status_code == 200
            answer = await miner.get()
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert not waiting.done()
            # A second signal ends the drain; who waits is answered, and told to come on another connection.
            running.signal(signal.SIGTERM)
            answer = await waiting
            assert body(answer)["jobs"] == []
            assert answer.headers["connection"] == "close"
        assert await asyncio.to_thread(running.ended) == 0


async def test_while_it_waits_for_another_s_migration_it_says_so_and_can_be_stopped(
    tmp_path: Path, postgres: Server
) -> None:
    port = free_port()
    where = {"PITHEAD_DATABASE": postgres.url(postgres.create())}
    with contextlib.ExitStack() as stack:
        migrating = stack.enter_context(psycopg.connect(where["PITHEAD_DATABASE"], autocommit=True))
        migrating.execute("SELECT pg_advisory_lock(%s, %s)", (LOCKS, MIGRATING))
        running = stack.enter_context(Running("serve", "--port", str(port), "--data", str(tmp_path), **where))
        async with connect(f"http://127.0.0.1:{port}", OPERATOR_KEY) as api, asyncio.timeout(30):
            while (answer := await asked(api)) is None:
                pass
            assert problem(answer, 503)["detail"] == "the coordinator is starting"
            assert (await api.http.get("/healthz")).status_code == 200
            assert problem(await api.http.get("/v1/jobs"), 503)["detail"] == "the coordinator is starting"
        running.signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.ended) == 0


async def asked(api: Api) -> httpx.Response | None:
    try:
        return await api.http.get("/readyz")
    except httpx.ConnectError:
        return None
