"""The same random histories over PostgreSQL, with all their operations in one batch: what those leave to be written is written
together, and none of them reads as if it were not there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from tests.postgres import Server
from tests.properties.test_shared_model import SharedHistories, _servers
from tests.support import Exchange

from pithead.exchange.rules import Rules
from pithead.store.postgres import PostgresTx, connect
from pithead.store.together import Together, settle
from pithead.store.tx import SqlTx

T = TypeVar("T")


@pytest.fixture(autouse=True, scope="module")
def _server(postgres: Server) -> None:
    _servers.append(postgres)


class BatchedExchange(Exchange):
    """Runs all operations in one transaction that is not committed, as a lane runs a batch without savepoints."""

    def __init__(self, folder: Path, rules: Rules, database: str) -> None:
        super().__init__(folder, rules, database)
        self.connection = connect(database, "test")
        self.connection.execute("BEGIN")
        self.together = Together(self.connection.execute)
        self.moved: dict[int, int] = {}

    def do(self, operation: Callable[[SqlTx, float], T]) -> T:
        tx = PostgresTx(self.connection.execute, self.moved, None, self.together)
        before = {query: list(rows) for query, rows in self.together._rows.items()}
        self.connection.execute("SAVEPOINT operation")
        try:
            outcome = operation(tx, self.now)
        except BaseException:
            if tx.changed:
                # A lane would run the whole batch again.
                self.connection.execute("ROLLBACK TO operation")
                self._restore(before)
            raise
        for account, amount in tx.moved.items():
            self.moved[account] = self.moved.get(account, 0) + amount
        self.events.extend(tx.events)
        return outcome

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._all_written():
            return [tuple(row) for row in self.connection.execute(query).fetchall()]

    def check(self) -> list[tuple[str, str, str]]:
        with self._all_written():
            return super().check()

    @contextmanager
    def _all_written(self) -> Iterator[None]:
        """As at the end of the batch; and then again as before, with everything left to be written."""
        before, moved = {query: list(rows) for query, rows in self.together._rows.items()}, dict(self.moved)
        self.connection.execute("SAVEPOINT look")
        self.together.write()
        settle(self.connection.execute, moved)()
        self.moved = {}
        yield
        self.connection.execute("ROLLBACK TO look")
        self._restore(before)
        self.moved = moved

    def _restore(self, rows: dict[str, list[Any]]) -> None:
        self.together = Together(self.connection.execute)
        for query, some in rows.items():
            for values in some:
                self.together.take(query, values)

    def close(self) -> None:
        self.connection.execute("ROLLBACK")
        self.connection.close()
        super().close()


class BatchedHistories(SharedHistories):
    """Each in one batch."""

    open = staticmethod(BatchedExchange)


BatchedHistories.TestCase.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBatchedHistories = BatchedHistories.TestCase
