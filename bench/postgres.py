"""A PostgreSQL server for the benchmark: that of the tests, but durable, and pinned to the core of the servers."""

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from tests.postgres import Server

from bench import check
from bench.servers import pinned
from pithead.exchange.ports import Tx
from pithead.store import postgres

T = TypeVar("T")


class Postgres:
    """Started on entering, stopped on leaving."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._server = Server(durable=True)
        self._name = ""
        self._found: list[str] = []
        self._completed = 0

    def __enter__(self) -> Self:
        with pinned(self._core):
            self._server.__enter__()
        self._name = self._server.lend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """The setting for the database."""
        return self._server.url(self._name)

    @property
    def empty_url(self) -> str:
        """Another database, with nothing in it."""
        return self._server.url(self._server.create())

    def fill(self, operation: Callable[[Tx], T]) -> T:
        """Run an operation of the exchange in one transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            postgres.prepare(connection)
            return postgres.write(connection, operation)[0]

    def judge(self) -> None:
        """Look at what the coordinators left, once they have stopped."""
        with self._server.connect(self._name) as connection:

            def one(query: str) -> int:
                row = connection.execute(query).fetchone()
                return int(row[0] or 0) if row else 0

            self._found = check.broken(one)
            self._completed = one(check.COMPLETED)

    def faults(self, completed: int) -> list[str]:
        """What was wrong, where `completed` jobs were said to be completed."""
        return self._found + check.miscounted(self._completed, completed)
