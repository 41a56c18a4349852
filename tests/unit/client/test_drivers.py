"""Retries, waits and results through both drivers, on a clock that jumps."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pithead.client import (
    AdminClient,
    AsyncClient,
    AsyncMinerClient,
    Client,
    Conflict,
    Corrupted,
    MinerClient,
    Unreachable,
    WaitTimeout,
)
from pithead.wire.base import encode
from pithead.wire.jobs import JobView, Submitted

URL = "http://coordinator"
OK = {"job_id": "job_1", "status": "queued"}
Ask = Callable[[Any], Any]


class Script:
    """Answers in turn; the last one over and over. An exception is raised."""

    def __init__(self, *steps: Any) -> None:
        self.steps, self.requests = list(steps), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            # A new one each time: a response is read once.
            return httpx.Response(step.status_code, headers=step.headers, content=step.content)
        return httpx.Response(200, content=encode(step))


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, clock: Any) -> Callable[..., Any]:
    """`ask(script, lambda c: c.me())` does it with the client of either driver."""

    def plain(script: Script, do: Ask, **more: Any) -> Any:
        with Client(URL, "key_1", transport=httpx.MockTransport(script), sleep=clock.sleep, clock=clock, **more) as c:
            return do(c)

    def awaited(script: Script, do: Ask, **more: Any) -> Any:
        async def run() -> Any:
            transport = httpx.MockTransport(script)
            async with AsyncClient(URL, "key_1", transport=transport, sleep=clock.asleep, clock=clock, **more) as c:
                answer: Awaitable[Any] = do(c)
                return await answer

        return asyncio.run(run())

    return plain if request.param == "sync" else awaited


def submit(client: Any) -> Any:
    return client.submit("gpt2", {}, price=1)


def test_a_submit_is_tried_again_under_the_same_key(ask: Callable[..., Any]) -> None:
    script = Script(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(503), OK)
    assert ask(script, submit) == Submitted(job_id="job_1", status="queued")
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert (len(script.requests), len(keys)) == (4, 1)
    again = Script(OK)
    ask(again, submit)
    assert again.requests[0].headers["Idempotency-Key"] not in keys, "another call, another key"


def test_retries_end_when_their_time_is_up(ask: Callable[..., Any], clock: Any) -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        ask(script, submit, retry_for=20)
    assert clock.now == pytest.approx(20)
    assert len(script.requests) == len(clock.slept) + 1


def test_no_retries_where_none_are_wanted(ask: Callable[..., Any], clock: Any) -> None:
    script = Script(httpx.ConnectError("refused"), OK)
    with pytest.raises(Unreachable):
        ask(script, submit, retry_for=0)
    assert (len(script.requests), clock.slept) == (1, [])


def test_a_rate_limit_is_waited_out(ask: Callable[..., Any], clock: Any) -> None:
    ask(Script(httpx.Response(429, headers={"Retry-After": "17"}), OK), submit)
    assert 17 <= clock.now < 18


def test_what_makes_something_is_repeated_under_one_key(clock: Any) -> None:
    made: dict[str, Any] = {"client_id": "client_1", "api_key": "key_2", "balance": 0}
    script = Script(httpx.RemoteProtocolError("dropped"), httpx.Response(503), made)
    transport = httpx.MockTransport(script)
    with AdminClient(URL, "key_1", transport=transport, sleep=clock.sleep, clock=clock) as operator:
        assert operator.create_client("alice").client_id == "client_1"
        assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 1
        operator.create_client("alice")
        assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 2


# ---- Waiting


@pytest.fixture
def job(sample_of: Callable[[Any], Any]) -> Callable[..., dict[str, Any]]:
    return lambda status, **more: {**sample_of(JobView), "job_id": "job_1", "status": status, **more}


def test_wait_returns_at_any_end(ask: Callable[..., Any], job: Callable[..., Any]) -> None:
    for status in ("completed", "failed", "cancelled", "expired"):
        script = Script(job("queued"), job("running"), job(status))
        assert ask(script, lambda client: client.wait("job_1")).status == status
        assert [request.url.params["wait"] for request in script.requests] == ["30.0"] * 3


def test_a_held_poll_has_the_longer_time_out(ask: Callable[..., Any], job: Callable[..., Any]) -> None:
    script = Script(job("completed"))
    ask(script, lambda client: client.wait("job_1"), timeout=7)
    assert script.requests[0].extensions["timeout"] == {"connect": 7, "read": 37, "write": 7, "pool": 7}


def test_each_change_is_told_once(ask: Callable[..., Any], job: Callable[..., Any]) -> None:
    seen: list[tuple[str, Any]] = []
    half = job("running", progress=0.5)
    script = Script(job("queued"), job("queued"), job("running"), half, half, job("completed", progress=0.5))
    ask(script, lambda client: client.wait("job_1", on_update=lambda view: seen.append((view.status, view.progress))))
    assert seen == [("queued", None), ("running", None), ("running", 0.5), ("completed", 0.5)]
    assert {request.url.params["wait"] for request in script.requests} == {"2.0"}, "asks often enough to see changes"


def test_a_wait_has_an_end(ask: Callable[..., Any], job: Callable[..., Any], clock: Any) -> None:
    with pytest.raises(WaitTimeout, match="job_1 is still queued after 5 s") as caught:
        ask(Script(job("queued")), lambda client: client.wait("job_1", timeout=5))
    assert caught.value.job.status == "queued"
    assert clock.now == 5, "a coordinator that does not hold the call is asked once a second"
    assert len(clock.slept) == 5


def test_a_wait_of_nothing_looks_once(ask: Callable[..., Any], job: Callable[..., Any]) -> None:
    assert ask(Script(job("completed")), lambda client: client.wait("job_1", timeout=0)).status == "completed"
    with pytest.raises(WaitTimeout):
        ask(Script(job("queued")), lambda client: client.wait("job_1", timeout=0))


def test_a_wait_outlasts_a_restart_but_not_its_end(
    ask: Callable[..., Any], job: Callable[..., Any], clock: Any
) -> None:
    script = Script(job("queued"), httpx.ConnectError("down"), httpx.ConnectError("down"), job("completed"))
    assert ask(script, lambda client: client.wait("job_1")).status == "completed"
    began = clock.now
    with pytest.raises(Unreachable):
        ask(Script(httpx.ConnectError("down")), lambda client: client.wait("job_1", timeout=5))
    assert clock.now - began == pytest.approx(5)


# ---- Results


def bytes_of(data: bytes, digest: str | None = None) -> httpx.Response:
    digest = digest or base64.b64encode(hashlib.sha256(data).digest()).decode()
    return httpx.Response(200, content=data, headers={"Repr-Digest": f"sha-512=:AA==:, sha-256=:{digest}:"})


def test_a_result_is_checked(ask: Callable[..., Any]) -> None:
    script = Script(bytes_of(b"\x00result"))
    assert ask(script, lambda client: client.result("job_1")) == b"\x00result"
    assert script.requests[0].headers["Accept-Encoding"] == "identity"


WRONG = {
    "of other bytes": bytes_of(b"result", base64.b64encode(hashlib.sha256(b"other").digest()).decode()),
    "no base64": bytes_of(b"result", "A"),
    "no digest": httpx.Response(200, content=b"result"),
}


@pytest.mark.parametrize("answer", list(WRONG.values()), ids=list(WRONG))
def test_a_result_that_is_damaged_or_unchecked_is_not_handed_on(
    ask: Callable[..., Any], answer: httpx.Response, tmp_path: Path
) -> None:
    with pytest.raises(Corrupted, match="job_1 arrived damaged"):
        ask(Script(answer), lambda client: client.result("job_1"))
    with pytest.raises(Corrupted):
        ask(Script(answer), lambda client: client.download("job_1", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_download_appears_whole_or_not_at_all(ask: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before")
    with pytest.raises(Conflict):
        ask(Script(httpx.Response(409)), lambda client: client.download("job_1", target))
    assert (target.read_bytes(), list(tmp_path.iterdir())) == (b"before", [target])
    data = b"result" * 500_000
    assert ask(Script(bytes_of(data)), lambda client: client.download("job_1", target)) == target
    assert (target.read_bytes(), list(tmp_path.iterdir())) == (data, [target])


# ---- Over a real socket


class Broken(BaseHTTPRequestHandler):
    """Breaks off the first answer to each kind of call half way; gives the second whole."""

    server: BrokenServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"result" * 100_000)

    def do_PUT(self) -> None:
        self.server.uploads.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(encode({"job_id": "job_1", "result_hash": "sha256:x", "size": 1}))

    def answer(self, body: bytes) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Repr-Digest", f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:")
        self.end_headers()
        half = self.server.asked % 2 == 1
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class BrokenServer(HTTPServer):
    asked = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Broken)
        self.uploads: list[bytes] = []


@pytest.fixture
def broken() -> Iterator[BrokenServer]:
    with BrokenServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


def test_transfers_that_break_off_begin_anew(broken: BrokenServer, tmp_path: Path, clock: Any) -> None:
    url = f"http://127.0.0.1:{broken.server_port}"
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"upload" * 100_000)
    with MinerClient(url, "miner_1", "key_1", sleep=clock.sleep, clock=clock) as miner:
        assert miner.upload("job_1", source).job_id == "job_1"
    with Client(url, "key_1", sleep=clock.sleep, clock=clock) as client:
        assert client.download("job_1", target).read_bytes() == b"result" * 100_000
    assert (broken.asked, broken.uploads) == (4, [source.read_bytes()] * 2)


async def test_transfers_that_break_off_begin_anew_awaited(broken: BrokenServer, tmp_path: Path, clock: Any) -> None:
    url = f"http://127.0.0.1:{broken.server_port}"
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"upload" * 100_000)
    async with AsyncMinerClient(url, "miner_1", "key_1", sleep=clock.asleep, clock=clock) as miner:
        assert (await miner.upload("job_1", source)).job_id == "job_1"
    async with AsyncClient(url, "key_1", sleep=clock.asleep, clock=clock) as client:
        path = await client.download("job_1", target)
    assert path.read_bytes() == b"result" * 100_000
    assert (broken.asked, broken.uploads) == (4, [source.read_bytes()] * 2)
