"""Two coordinators over one PostgreSQL database, in one test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from tests.http.exchange import Clock, Party, World, run_world
from tests.postgres import Server

from pithead.store.shared import Shared

P = TypeVar("P", bound=Party)


class Pair(NamedTuple):
    """Two coordinators."""

    a: World
    b: World

    async def later(self, seconds: float) -> None:
        """Let time pass with both of them up, and what is due by then happen, wherever."""
        self.a.clock.now += seconds
        await self.a.application.coordinator.run(lambda tx, now: tx.set_alive(now))
        await asyncio.gather(self.a.application.coordinator.sweep(), self.b.application.coordinator.sweep())


def at(world: World, party: P) -> P:
    """The same party, who talks to this coordinator."""
    return type(party)(world.http, party.key, party.base, party.id)


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Ask again until it is so: what one coordinator committed reaches the other a moment later."""
    end = asyncio.get_running_loop().time() + seconds
    while not await true():
        assert asyncio.get_running_loop().time() < end, "it does not come to be so"
        # An answer from memory is there before anything can be heard.
        await asyncio.sleep(0)


@pytest.fixture
def url(postgres: Server) -> Any:
    """The setting for a new database."""
    with postgres.lent() as name:
        yield postgres.url(name)


@pytest.fixture
def coordinator(tmp_path: Path, url: str) -> Callable[..., contextlib.AbstractAsyncContextManager[World]]:
    """Opens a coordinator with a folder of its own, by its name, on the database and the clock that all of them share."""
    clock = Clock()

    def open_one(name: str, **settings: Any) -> contextlib.AbstractAsyncContextManager[World]:
        return run_world(tmp_path / name, clock, database=url, **settings)

    return open_one


@pytest.fixture
async def pair(coordinator: Callable[..., contextlib.AbstractAsyncContextManager[World]]) -> AsyncIterator[Pair]:
    """Two coordinators."""
    async with coordinator("a") as a, coordinator("b") as b:
        # One takes the database for near, the other for far: what they send is not in the same order.
        for world, far in ((a, False), (b, True)):
            database = world.application.database
            assert isinstance(database, Shared)
            database.lanes.far = far
        yield Pair(a, b)
