"""The same random histories over PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from tests.postgres import Server
from tests.properties.test_dispatch_model import Histories

_servers: list[Server] = []


@pytest.fixture(autouse=True, scope="module")
def _server(postgres: Server) -> None:
    _servers.append(postgres)


class SharedHistories(Histories):
    """Each on a database that is as new."""

    @staticmethod
    @contextmanager
    def lend() -> Iterator[str]:
        with _servers[-1].lent() as name:
            yield _servers[-1].url(name)


SharedHistories.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSharedHistories = SharedHistories.TestCase
