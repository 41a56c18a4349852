"""Following live events: what is asked, what comes of it, and where it goes on after a break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from pithead.client import AdminClient, AsyncClient, BadAnswer, Client, MinerClient, NotFound, StreamEvent, Unreachable
from pithead.client.drivers import SyncDriver
from pithead.wire.base import encode
from pithead.wire.events import MinerEvent, OutputPiece, Sync
from pithead.wire.jobs import JobView

URL = "http://coordinator"
STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def piece(text: str, offset: int = 0, attempt: int = 1) -> str:
    data = encode({"job_id": "job_1", "attempt": attempt, "offset": offset, "text": text}).decode()
    return f"id: {attempt}-{offset + len(text)}-7\nevent: output\ndata: {data}\n\n"


@pytest.fixture
def state(sample_of: Callable[[Any], Any]) -> Callable[[str], str]:
    def made(status: str) -> str:
        data = encode({**sample_of(JobView), "job_id": "job_1", "status": status}).decode()
        return f"id: 1-9-{status}\nevent: job\ndata: {data}\n\n"

    return made


class Script:
    """Answers in turn: with the text of a stream, an error, or a ready response."""

    def __init__(self, *answers: Any) -> None:
        self._answers: Iterator[Any] = iter(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> Any:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return httpx.Response(200, headers=STREAM, content=answer.encode())
        return httpx.Response(answer) if isinstance(answer, int) else answer

    @property
    def after(self) -> list[str | None]:
        return [request.headers.get("Last-Event-ID") for request in self.requests]


def client(script: Script, clock: Any, kind: Any = Client, **more: Any) -> Any:
    given = {"transport": httpx.MockTransport(script), "clock": clock, "sleep": clock.sleep}
    return kind(URL, "key_1", **given | more)


def test_a_job_is_followed_over_breaks_and_nothing_is_told_twice(clock: Any, state: Callable[[str], str]) -> None:
    script = Script(
        ": still here\n\n" + state("running") + piece("Once "),
        httpx.ReadTimeout("silence"),
        httpx.Response(503, headers={"Retry-After": "2"}),
        "id: 9\nevent: later\ndata: {}\n\n" + piece("upon", 5) + state("completed"),
    )
    with client(script, clock) as c:
        events = list(c.events("job_1"))
    assert [event.kind for event in events] == ["job", "output", "output", "job"]
    assert "".join(event.data.text for event in events if isinstance(event.data, OutputPiece)) == "Once upon"
    assert script.after == [None, "1-5-7", "1-5-7", "1-5-7"]
    assert clock.now > 2
    assert {request.url.path for request in script.requests} == {"/v1/jobs/job_1/events"}


async def test_likewise_awaited(clock: Any, state: Callable[[str], str]) -> None:
    script = Script(piece("a"), httpx.ConnectError("refused"), piece("b", 1), state("failed"))
    transport = httpx.MockTransport(script)
    async with AsyncClient(URL, "key_1", transport=transport, clock=clock, sleep=clock.asleep) as c:
        assert [one.text async for one in c.output("job_1")] == ["a", "b"]
    assert script.after == [None, "1-1-7", "1-1-7", "1-2-7"]


def test_output_alone_and_from_a_place(clock: Any, state: Callable[[str], str]) -> None:
    with client(Script(piece("x") + piece("y", attempt=2) + state("completed")), clock) as c:
        assert [(one.attempt, one.text) for one in c.output("job_1")] == [(1, "x"), (2, "y")]
    script = Script(httpx.Response(204))
    with client(script, clock) as c:
        assert list(c.events("job_1", after="1-1-1")) == []
    assert script.after == ["1-1-1"]


def test_what_does_not_come_back_is_given_up_after_its_time(clock: Any) -> None:
    def never() -> Iterator[Exception]:
        while True:
            yield httpx.ConnectError("refused")

    script = Script()
    script._answers = never()
    with client(script, clock, retry_for=20) as c, pytest.raises(Unreachable):
        list(c.events("job_1"))
    assert 15 < clock.now <= 20
    # A stream that ends again and again without a word is no better.
    script._answers = iter(lambda: "", None)
    with client(script, clock, retry_for=20) as c, pytest.raises(Unreachable, match="ended"):
        list(c.events("job_1"))


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (404, NotFound),
        (302, BadAnswer),
        (200, BadAnswer),
        ("id: 1\nevent: output\ndata: {}\n\n", BadAnswer),
        ("id: 1\nevent: output\ndata: <\n\n", BadAnswer),
    ],
)
async def test_what_cannot_be_a_stream(clock: Any, answer: Any, raised: type[Exception]) -> None:
    with client(Script(answer), clock) as c, pytest.raises(raised):
        list(c.events("job_1"))
    transport = httpx.MockTransport(Script(answer))
    async with AsyncClient(URL, "key_1", transport=transport, clock=clock, sleep=clock.asleep) as awaited:
        with pytest.raises(raised):
            async for _ in awaited.events("job_1"):
                pass


def test_an_account_is_followed_by_whoever_has_one(clock: Any, sample_of: Callable[[Any], Any]) -> None:
    told = {**sample_of(MinerEvent), "miner_id": "m"}
    text = f'id: 1\nevent: sync\ndata: {{"resumed":false}}\n\nid: 2\nevent: miner\ndata: {encode(told).decode()}\n\n'
    faces: list[SyncDriver] = [client(Script(text), clock, kind) for kind in (Client, AdminClient)]
    given = {"transport": httpx.MockTransport(Script(text)), "clock": clock, "sleep": clock.sleep}
    faces.append(MinerClient(URL, "m", "key_1", **given))
    for face in faces:
        events = face.account_events()  # type: ignore[attr-defined]
        assert next(events) == StreamEvent("1", "sync", Sync(resumed=False))
        assert next(events).data == msgspec.convert(told, MinerEvent)
        events.close()
        face.close()
