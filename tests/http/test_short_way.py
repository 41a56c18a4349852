"""The short way and the application give the same answers and leave the same behind; connections know no difference."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http.exchange import COMPLETE, JOB, JSON, OTHER_HASH, Client, Clock, Miner, World, body, run_world
from tests.http.ways import Ways
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from pithead.http.connections import Connection, connections

#: What differs between two coordinators that were asked the same.
_RANDOM = re.compile(
    r"(?<=lease_)[0-9a-f]{32}|(?<=job_)\w{20}|(?<=iner_|ient_)\w{20}|(?<=eipt_)\w{20}|[0-9a-f]{8}-[0-9a-f]+"
    r'|(?<="signature":")[^"]+|(?<="key_id":")\w+'
)


class Pair:
    """A miner and a client at a coordinator that has the short way, and likewise at one that has not."""

    def __init__(self, worlds: list[World], miners: list[Miner], clients: list[Client]) -> None:
        self.worlds, self.miners, self.clients = worlds, miners, clients
        self.jobs: list[list[str]] = [[], []]

    async def ask(self, side: str, method: str, path: Callable[[int], str], **more: Any) -> httpx.Response:
        """The answer to a request at both, which must be the same one."""
        answers = []
        for number, party in enumerate(self.miners if side == "miner" else self.clients):
            answers.append(await party.call(method, path(number), **more))
        first, second = ((a.status_code, _RANDOM.sub("*", a.text), _headers(a)) for a in answers)
        assert first == second
        if side == "client" and answers[0].status_code == 201:
            for jobs, answer in zip(self.jobs, answers, strict=True):
                jobs.append(answer.json()["job_id"])
        return answers[0]

    async def submit(self) -> int:
        """Submit a job at both: its place among all."""
        await self.ask("client", "POST", lambda _: "/v1/jobs", json=JOB)
        return len(self.jobs[0]) - 1

    async def settled(self) -> None:
        """What both have in their books and tell of everything is the same."""
        await self.ask("miner", "GET", lambda _: "")
        await self.ask("miner", "GET", lambda _: "/stats")
        await self.ask("client", "GET", lambda _: "/v1/clients/me")
        await self.ask("client", "GET", lambda _: "/v1/jobs")
        assert await self.worlds[0].ledger() == await self.worlds[1].ledger()


def _headers(answer: httpx.Response) -> list[tuple[str, str]]:
    length = re.compile("content-length|x-request-id")
    return [(name, "" if length.fullmatch(name) else value) for name, value in answer.headers.items()]


@contextlib.asynccontextmanager
async def pair(folder: Path, **more: Any) -> AsyncIterator[tuple[Pair, Ways]]:
    async with (
        run_world(folder / "short", Clock(), **more) as short,
        run_world(folder / "long", Clock(), **more) as long,
    ):
        for world, is_short in ((short, True), (long, False)):
            ways = Ways(world.application.asgi, short=is_short)
            world.http = httpx.AsyncClient(transport=ways, base_url="http://pithead")
            if is_short:
                counted = ways
            world.operator.http = world.http
        worlds = [short, long]
        yield Pair(worlds, [await w.miner() for w in worlds], [await w.client(1) for w in worlds]), counted
        for world in worlds:
            await world.http.aclose()


async def test_what_goes_the_short_way_is_answered_as_by_the_application(tmp_path: Path) -> None:
    async with pair(tmp_path) as (both, ways):
        await both.submit()
        for number in (0, 1):
            await both.miners[number].beat()  # Both know the keys now.
        taken = ways.taken
        await both.submit()
        await both.ask("miner", "POST", lambda _: "/heartbeat")
        await both.ask("miner", "GET", lambda _: "/jobs/available")
        await both.ask("miner", "GET", lambda _: "/jobs/available", params={"limit": 1, "wait": 5})
        await both.ask("miner", "POST", lambda n: f"/jobs/{both.jobs[n][0]}/accept")
        await both.ask("miner", "POST", lambda _: "/heartbeat", json={"telemetry": {"gpus": []}})
        await both.ask("miner", "POST", lambda n: f"/jobs/{both.jobs[n][0]}/progress", json={"fraction": 0.5})
        await both.ask("miner", "POST", lambda n: f"/jobs/{both.jobs[n][0]}/complete", content=COMPLETE, headers=JSON)
        await both.ask("miner", "POST", lambda n: f"/jobs/{both.jobs[n][1]}/accept")
        await both.ask("miner", "POST", lambda n: f"/jobs/{both.jobs[n][1]}/release")
        assert ways.taken == taken + 10
        await both.settled()


async def test_the_first_contact_after_a_start_goes_the_short_way_too(tmp_path: Path) -> None:
    async with run_world(tmp_path, Clock()) as world:
        miner, revoked, client = await world.miner(), await world.miner(), await world.client()
        await client.submit()
        body(await revoked.delete())
    async with run_world(tmp_path, Clock()) as world:
        ways = Ways(world.application.asgi)
        async with httpx.AsyncClient(transport=ways, base_url="http://pithead") as http:
            miner.http = revoked.http = client.http = http
            assert body(await miner.post("/heartbeat"))["miner_status"] == "active"
            assert len(await miner.offered()) == 1
            await client.submit()
            assert ways.taken == 3
            assert (await revoked.post("/heartbeat")).status_code == 401
            revoked.key = "key_of-nobody"
            assert (await revoked.post("/heartbeat")).status_code == 401
            miner.base = revoked.base
            assert (await miner.post("/heartbeat")).status_code == 404
            assert ways.taken == 3


REQUESTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("miner", "POST", "/heartbeat", {}),
    ("miner", "POST", "/heartbeat", {"json": {"jobs": ["job_unknown"]}}),
    ("miner", "POST", "/heartbeat", {"json": {"jobs": 7}}),
    ("miner", "POST", "/heartbeat", {"content": b"{", "headers": JSON}),
    ("miner", "POST", "/heartbeat", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
    ("miner", "POST", "/heartbeat", {"headers": {"X-Request-Id": "mine"}}),
    ("miner", "GET", "/heartbeat", {}),
    ("miner", "GET", "/jobs/available", {}),
    ("miner", "GET", "/jobs/available?limit=1", {}),
    ("miner", "GET", "/jobs/available?limit=many", {}),
    ("miner", "GET", "/jobs/available?limit=1&limit=2", {}),
    ("miner", "GET", "/jobs/available?colour=red", {}),
    ("miner", "POST", "/jobs/{job}/accept", {}),
    ("miner", "POST", "/jobs/{job}/accept", {"headers": {"Lease-Token": "lease_of-somebody"}}),
    ("miner", "POST", "/jobs/{job}/accept", {"headers": {"Idempotency-Key": "once"}}),
    ("miner", "POST", "/jobs/{job}/accept", {"headers": {"Idempotency-Key": ""}}),
    ("miner", "POST", "/jobs/job_unknown/accept", {}),
    ("miner", "POST", "/jobs/%6Aob_unknown/accept", {}),
    ("miner", "POST", "/jobs//accept", {}),
    ("miner", "POST", "/jobs/{job}/accept/", {}),
    ("miner", "POST", "/jobs/{job}/complete", {"content": COMPLETE, "headers": JSON}),
    ("miner", "POST", "/jobs/{job}/complete", {"json": {"result_hash": OTHER_HASH, "metrics": {}}}),
    ("miner", "POST", "/jobs/{job}/complete", {"json": {"result_hash": "", "metrics": {"execution_time_seconds": -1}}}),
    ("miner", "POST", "/jobs/{job}/complete", {}),
    ("miner", "POST", "/jobs/{job}/fail", {"json": {"kind": "error", "reason": "x"}}),
    ("miner", "POST", "/jobs/{job}/release", {}),
    ("miner", "POST", "/jobs/{job}/progress", {"json": {"fraction": 2}}),
    ("client", "POST", "/v1/jobs", {"json": JOB}),
    ("client", "POST", "/v1/jobs", {"json": JOB | {"price": 1000}}),
    ("client", "POST", "/v1/jobs", {"json": JOB | {"model": "", "price": -1}}),
    ("client", "POST", "/v1/miners/{other}/heartbeat", {}),
    ("client", "POST", "/v1/jobs", {"json": JOB, "headers": {"X-Api-Key": "another"}}),
]  # fmt: skip


@pytest.mark.parametrize("limits", [False, True], ids=["without limits", "with limits"])
def test_any_history_is_the_same_by_either_way(limits: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=10, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(REQUESTS), st.integers(0, 3), st.sampled_from([0.0, 0.0, 70.0])), max_size=40
        )
    )
    def history(steps: list[tuple[tuple[str, str, str, dict[str, Any]], int, float]]) -> None:
        async def run() -> None:
            async with pair(tmp_path_factory.mktemp("history"), limits=limits) as (both, _):
                await both.submit()
                for (side, method, path, more), which, pause in steps:
                    if pause:
                        for world in both.worlds:
                            await world.later(pause)

                    def there(number: int, path: str = path, which: int = which) -> str:
                        jobs = both.jobs[number]
                        return path.format(job=jobs[which % len(jobs)], other=both.miners[number].id)

                    await both.ask(side, method, there, **more)
                if not limits:
                    await both.settled()

        asyncio.run(run())

    history()


# -- connections


class Line:
    """A connection to the application of a world, byte by byte."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, world: World, state: ServerState
    ) -> None:
        self._reader, self.writer, self.world, self.state = reader, writer, world, state
        self.miner: Miner
        self.client: Client

    def request(self, method: str, path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
        lines = [
            f"{method} {path} HTTP/{version}",
            "Host: pithead",
            f"Authorization: Bearer {self.miner.key}",
            *headers,
        ]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def beat(self, *headers: str, version: str = "1.1") -> bytes:
        return self.request("POST", self.miner.base + "/heartbeat", b"", *headers, version=version)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))

    async def ended(self) -> bool:
        return await self._reader.read() == b""


@contextlib.asynccontextmanager
async def line(folder: Path, plain: bool = False, **more: Any) -> AsyncIterator[Line]:
    async with run_world(folder, Clock(), **more) as world:
        door = world.application.asgi
        config = uvicorn.Config(
            door, log_config=None, lifespan="off", server_header=False, date_header=False, access_log=False
        )
        config.load()
        state, kind = ServerState(), HttpToolsProtocol if plain else connections(door)
        server = await asyncio.get_running_loop().create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        one = Line(reader, writer, world, state)
        one.miner, one.client = await world.miner(), await world.client()
        yield one
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*state.tasks)


@pytest.mark.parametrize("plain", [False, True], ids=["ours", "uvicorn's"])
async def test_a_connection_answers_request_after_request(plain: bool, tmp_path: Path) -> None:
    async with line(tmp_path, plain) as one:
        job = await one.client.submit()
        accept = one.request("POST", f"{one.miner.base}/jobs/{job}/accept")
        complete = one.request("POST", f"{one.miner.base}/jobs/{job}/complete", COMPLETE)
        for request, status in ((one.beat(), 200), (accept, 200), (one.beat(), 200), (complete, 200), (accept, 409)):
            one.writer.write(request)
            found, headers, content = await one.answer()
            assert (found, "x-request-id" in headers) == (status, True)
            assert headers["content-type"] == ("application/json" if status == 200 else "application/problem+json")
            assert content.startswith(b"{")
        assert one.state.total_requests == 5


async def test_a_request_may_come_in_any_pieces(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        job = await one.client.submit()
        await one.miner.take(job)
        request = one.request("POST", f"{one.miner.base}/jobs/{job}/complete", COMPLETE)
        for at in range(0, len(request), 3):
            one.writer.write(request[at : at + 3])
            await asyncio.sleep(0)
            await one.writer.drain()
        status, _, content = await one.answer()
        assert (status, b'"completed"' in content) == (200, True)


async def test_requests_that_are_sent_at_once_are_answered_in_their_order(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        jobs = [await one.client.submit() for _ in range(3)]
        accepts = [one.request("POST", f"{one.miner.base}/jobs/{job}/accept") for job in jobs]
        profile = one.request("GET", one.miner.base)
        one.writer.write(accepts[0] + one.beat() + profile + accepts[1] + accepts[2] + one.beat())
        answers = [await one.answer() for _ in range(6)]
        assert [status for status, _, _ in answers] == [200] * 6
        assert [
            jobs[0].encode() in answers[0][2],
            jobs[1].encode() in answers[3][2],
            jobs[2].encode() in answers[4][2],
        ] == [True] * 3
        assert b'"jobs_assigned":1' in answers[1][2]
        assert b'"name":"my-miner"' in answers[2][2]
        assert b'"jobs_assigned":3' in answers[5][2]


async def test_a_long_body_and_one_in_chunks_go_the_other_way(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        long = b'{"telemetry":{"note":"' + b"x" * 100_000 + b'"}}'
        one.writer.write(one.request("POST", one.miner.base + "/heartbeat", long))
        assert (await one.answer())[0] == 200
        chunked = one.beat("Transfer-Encoding: chunked", "Content-Type: application/json")
        one.writer.write(chunked + b"2\r\n{}\r\n0\r\n\r\n")
        assert (await one.answer())[0] == 200
        expecting = one.request("POST", one.miner.base + "/heartbeat", b"{}", "Expect: 100-continue")
        one.writer.write(expecting)
        assert (await one._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await one.answer())[0] == 200


@pytest.mark.parametrize(("version", "headers"), [("1.1", ["Connection: close"]), ("1.0", [])])
async def test_who_wants_the_connection_to_end_has_it_ended(version: str, headers: list[str], tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        one.writer.write(one.beat(*headers, version=version))
        status, found, _ = await one.answer()
        assert (status, found["connection"]) == (200, "close")
        assert await one.ended()


async def test_a_server_that_ends_gives_the_answer_first(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        job = await one.client.submit()
        (connection,) = one.state.connections
        connection.data_received(one.request("POST", f"{one.miner.base}/jobs/{job}/accept"))
        connection.shutdown()
        status, headers, _ = await one.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await one.ended()


async def test_a_server_that_ends_lets_an_idle_connection_go(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        one.writer.write(one.beat())
        await one.answer()
        (connection,) = one.state.connections
        connection.shutdown()
        assert await one.ended()


async def test_a_caller_who_goes_has_its_request_done_all_the_same(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        job = await one.client.submit()
        (connection,) = one.state.connections
        connection.data_received(one.request("POST", f"{one.miner.base}/jobs/{job}/accept"))
        connection.transport.abort()
        assert await one.ended()
        assert (await one.client.job(job))["status"] == "assigned"


async def test_a_miner_that_waits_is_answered_when_a_job_comes(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        one.writer.write(one.request("GET", f"{one.miner.base}/jobs/available?wait=30"))
        for _ in range(1000):
            if len(one.world.application.coordinator.waiting):
                break
            await asyncio.sleep(0)
        assert one.state.tasks
        job = await one.client.submit()
        status, _, content = await one.answer()
        assert (status, job.encode() in content) == (200, True)


async def test_a_connection_is_kept_for_a_while_after_its_last_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    async with line(tmp_path) as one:
        (connection,) = one.state.connections
        assert isinstance(connection, Connection)
        one.writer.write(one.beat())
        await one.answer()
        began, timer = loop.time(), connection._idle_timer
        assert timer is not None
        one.writer.write(one.beat())
        await one.answer()
        assert connection._idle_timer is timer, "it is set once"
        # It looks too early, while a request comes, and when it is time.
        monkeypatch.setattr(connection, "loop", Moved(loop, began + connection.timeout_keep_alive - 1))
        connection.timeout_keep_alive_handler()
        assert not connection.transport.is_closing()
        one.writer.write(one.beat()[:20])
        await one.writer.drain()
        for _ in range(100):
            await asyncio.sleep(0)
        connection.loop.now = began + 10 * connection.timeout_keep_alive  # type: ignore[attr-defined]
        connection.timeout_keep_alive_handler()
        assert not connection.transport.is_closing()
        one.writer.write(one.beat()[20:])
        assert (await one.answer())[0] == 200
        connection.loop.now += connection.timeout_keep_alive + 1  # type: ignore[attr-defined]
        connection.timeout_keep_alive_handler()
        assert await one.ended()


class Moved:
    """The event loop, at another time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._loop, self.now = loop, now

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_what_is_not_http_is_refused(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        one.writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await one.answer())[0] == 400
        assert await one.ended()


async def test_a_fault_of_ours_is_said_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with line(tmp_path) as one:
        job = await one.client.submit()
        one.world.application._signer.sign = lambda receipt: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        await one.miner.take(job)
        one.writer.write(one.request("POST", f"{one.miner.base}/jobs/{job}/complete", COMPLETE))
        status, headers, content = await one.answer()
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert b"ZeroDivisionError" not in content
        assert headers["x-request-id"].encode() in content
        assert "ZeroDivisionError" in caplog.text
        assert headers["x-request-id"] in caplog.text


async def test_where_requests_are_logged_or_traced_there_is_no_short_way(tmp_path: Path) -> None:
    async with run_world(tmp_path / "logged", Clock(), log_requests=True) as world:
        assert world.application.asgi.short is None
    async with run_world(tmp_path / "neither", Clock()) as world:
        assert world.application.asgi.short is not None
    assert world.application.asgi.short is None
