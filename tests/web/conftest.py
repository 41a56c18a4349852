"""The town of `town.py` in a coordinator within the test, and those who look at it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.http.exchange import Clock, World, run_world
from tests.web.town import Town, build
from tests.web.visitor import Visitor


class Place(msgspec.Struct, frozen=True):
    """The coordinator, what is in it, and a visitor of each kind who is signed in."""

    world: World
    town: Town
    operator: Visitor
    client: Visitor
    miner: Visitor


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Built once; each test has a copy."""
    return asyncio.run(build(tmp_path_factory.mktemp("town"), jobs=20))


@pytest.fixture
async def place(tmp_path: Path, town: Town) -> AsyncIterator[Place]:
    shutil.copytree(town.folder, tmp_path / "town")
    clock = Clock()
    clock.now = town.now
    async with run_world(tmp_path / "town", clock) as world:
        visitors = []
        for key in ("key_operator-of-these-tests", town.client_key, town.miner_key):
            visitors.append(Visitor(world.http))
            assert (await visitors[-1].sign_in(key)).status_code == 303
        yield Place(world, town, *visitors)
