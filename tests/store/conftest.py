"""Every store passes the tests that take `store`; what only one of them can do stands in files of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pytest
from tests.postgres import Server

from pithead.exchange.ports import Tx
from pithead.store.batches import Batches, Item
from pithead.store.keys import DatabaseKey
from pithead.store.postgres import connect, write
from pithead.store.sqlite import SqliteStore

T = TypeVar("T")


class Store(Protocol):
    """What the tests need of one."""

    def do(self, operation: Callable[[Tx], T]) -> T:
        """Run it in a transaction of its own: committed, or undone where it raises."""


class Sqlite:
    """The embedded one; with a key, encrypted."""

    def __init__(self, folder: Path, key: DatabaseKey | None = None) -> None:
        self.store = SqliteStore(folder / "pithead.db", key)
        # That a commit is on the disk is another test's matter; these make thousands.
        self.store.writing.execute("PRAGMA synchronous = OFF")

    def do(self, operation: Callable[[Tx], T]) -> T:
        return self.store.write(operation)


class Remembering(Sqlite):
    """The embedded one as the writer works on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.batches = Batches(self.store.writing)

    def do(self, operation: Callable[[Tx], T]) -> T:
        item = Item(operation)
        self.store.writing.execute("BEGIN IMMEDIATE")
        self.batches.run([item])
        self.store.writing.execute("COMMIT")
        if item.failure is not None:
            raise item.failure
        return cast(T, item.outcome)


@pytest.fixture
def remembering(tmp_path: Path) -> Iterator[Remembering]:
    """An empty database of the embedded kind, with a writer that remembers."""
    opened = Remembering(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Sqlite]:
    """An empty database of the embedded kind."""
    opened = Sqlite(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def sqlcipher(tmp_path: Path) -> Iterator[Sqlite]:
    """An empty database of the embedded kind, encrypted."""
    opened = Sqlite(tmp_path, DatabaseKey(b"k" * 32))
    yield opened
    opened.store.close()


class Postgres:
    """The shared one."""

    def __init__(self, url: str) -> None:
        self.connection = connect(url, "test")

    def do(self, operation: Callable[[Tx], T]) -> T:
        return write(self.connection, operation)[0]


@pytest.fixture
def shared(postgres: Server) -> Iterator[Postgres]:
    """An empty database of the shared kind."""
    with postgres.lent() as name:
        opened = Postgres(postgres.url(name))
        yield opened
        opened.connection.close()


@pytest.fixture(params=["sqlite", "remembering", "sqlcipher", "shared"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty database, of each kind in turn."""
    opened: Store = request.getfixturevalue(request.param)
    return opened


class _Each:
    """A store's face on which every call is a transaction of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **more: self._store.do(lambda tx: getattr(tx, name)(*args, **more))


@pytest.fixture
def tx(store: Store) -> Tx:
    """The store, with every call a transaction of its own: what one wrote is read by another."""
    return cast(Tx, _Each(store))
