"""What a load balancer is told: that the process is up, and whether it can be sent requests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from tests.http.exchange import World, problem

from pithead.http import health
from pithead.http.health import Door
from pithead.store.errors import StoreError


def asking(door: Door) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://pithead")


async def nothing() -> None:
    """A database that answers."""


@pytest.fixture
def door() -> Door:
    return Door()


async def test_a_coordinator_that_works_is_up_and_ready_for_anybody(world: World) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await world.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["cache-control"] == "no-store"
        assert (await world.http.head(path)).status_code == 200


async def test_while_it_starts_it_is_up_and_not_ready(door: Door) -> None:
    async with asking(door) as http:
        assert (await http.get("/healthz")).status_code == 200
        for call in (http.get("/readyz"), http.post("/v1/miners", json={})):
            answer = await call
            assert problem(answer, 503)["detail"] == "the coordinator is starting"
            assert answer.headers["retry-after"] == "1"


async def test_while_it_stops_it_is_not_ready_and_serves_all_the_same(door: Door) -> None:
    door.open(PlainTextResponse("served"), nothing)
    async with asking(door) as http:
        assert "connection" not in (await http.get("/")).headers
        door.drain()
        assert problem(await http.get("/readyz"), 503)["detail"] == "the coordinator is stopping"
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/")
        assert (answer.text, answer.headers["connection"]) == ("served", "close")


async def test_after_its_end_a_coordinator_is_not_ready(world: World, open_world: Callable[..., Any]) -> None:
    async with open_world(data=str(world.application.settings.folder / "other")) as other:
        assert (await other.http.get("/readyz")).status_code == 200
    async with asking(other.application.asgi) as http:
        assert problem(await http.get("/readyz"), 503)["detail"] == "the coordinator is stopping"


async def fails() -> None:
    raise StoreError("the database does not answer: it is at host.internal")


async def hangs() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("probe", "reason"),
    [(fails, "the database does not answer"), (hangs, "the database does not answer within 0.01 s")],
    ids=["fails", "hangs"],
)
async def test_without_its_database_it_is_not_ready(
    door: Door, probe: Callable[[], Awaitable[None]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROMPT", 0.01)
    door.open(PlainTextResponse("served"), probe)
    async with asking(door) as http:
        # The reason names no place: anybody may ask.
        assert problem(await http.get("/readyz"), 503)["detail"] == reason
        assert (await http.get("/healthz")).status_code == 200


async def test_a_database_that_hangs_is_asked_once_however_many_want_to_know(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROMPT", 0.01)
    asked, back = [0], asyncio.Event()

    async def probe() -> None:
        asked[0] += 1
        await back.wait()

    door.open(PlainTextResponse("served"), probe)
    async with asking(door) as http:
        answers = await asyncio.gather(*(http.get("/readyz") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert asked == [1]
        back.set()
        assert (await http.get("/readyz")).status_code == 200


async def test_it_is_asked_with_get(door: Door) -> None:
    door.open(PlainTextResponse("served"), nothing)
    async with asking(door) as http:
        problem(await http.post("/readyz"), 405)
