"""What tests of several folders share: coordinators to talk to."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.buckets import Service, serve_s3
from tests.http.exchange import Api, Clock, World, connect, run_world
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve
from tests.postgres import Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def default_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A coordinator in a process of its own, started as a user starts one."""
    with serve(tmp_path_factory.mktemp("default")) as url:
        yield url


@pytest.fixture(scope="session")
def roomy_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another one, without rate limits, and with a limit on results that a test can reach."""
    with serve(
        tmp_path_factory.mktemp("roomy"),
        PITHEAD_HTTP__MAX_RESULT_BYTES="4000000",
        **UNLIMITED,
    ) as url:
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[Service]:
    """An S3-compatible service."""
    with serve_s3() as service:
        yield service


@pytest.fixture
async def api(default_url: str) -> AsyncIterator[Api]:
    """The first one's API, for callers from an address that no other test has: registrations are limited by address."""
    number = next(_numbers)
    async with connect(default_url, OPERATOR_KEY, f"127.1.{number // 250}.{number % 250 + 1}") as api:
        yield api


@pytest.fixture
async def roomy(roomy_url: str) -> AsyncIterator[Api]:
    """The second one's API."""
    async with connect(roomy_url, OPERATOR_KEY) as api:
        yield api


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    with Server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The setting `database` for a new, empty one: each test that asks for it runs on each kind."""
    if request.param == "sqlite":
        yield ""
        return
    server: Server = request.getfixturevalue("postgres")
    with server.lent() as name:
        yield server.url(name)


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    """A coordinator within the test, on a clock that the test moves, without rate limits."""
    async with run_world(tmp_path / "data", Clock(), database=database) as world:
        yield world


@pytest.fixture(params=["folder", "bucket"])
async def blob_world(request: pytest.FixtureRequest, tmp_path: Path, s3: Service) -> AsyncIterator[World]:
    """Such a coordinator, with each kind of blob store."""
    store: dict[str, Any] = {"folder": {}, "bucket": {"blob_store": s3.bucket(), "s3": s3.settings}}[request.param]
    async with run_world(tmp_path / "data", Clock(), **store) as world:
        yield world


@pytest.fixture
def open_world(tmp_path: Path, database: str) -> Callable[..., AbstractAsyncContextManager[World]]:
    """Opens such coordinators one after the other on one folder and clock, with the settings given."""
    return partial(run_world, tmp_path / "data", Clock(), database=database)
