"""The embedded database as a coordinator uses it: one writer, a reader for short looks, threads for long reads."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pithead.exchange.events import Event
from pithead.exchange.ports import Tx
from pithead.exchange.tally import Load
from pithead.store.sqlite import SqliteStore
from pithead.store.writer import Writer

T = TypeVar("T")


class Embedded:
    """Implements `exchange.coordinator.Database` over one SQLite file. Make it on the event loop's thread."""

    shared = False

    def __init__(self, store: SqliteStore, on_events: Callable[[list[Event]], None]) -> None:
        self._store = store
        self.writer = Writer(store.writing, on_events)
        self.look = store.peek
        self.run_into = self.writer.run_into
        file = Path(store.writing.execute("PRAGMA database_list").fetchone()[2])
        #: What is not checked into it yet lies beside it.
        self._files = (file, file.with_name(f"{file.name}-wal"))

    def run(self, operation: Callable[[Tx], T]) -> Awaitable[T]:
        return self.writer.run(operation)

    async def peek(self, read: Callable[[Tx], T]) -> T:
        return self._store.peek(read)

    def read(self, read: Callable[[Tx], T]) -> Awaitable[T]:
        return asyncio.to_thread(self._store.read, read)

    async def due(self, now: float) -> bool:
        return self._store.peek(lambda tx: tx.due(now))

    async def attend(self) -> None:
        """There is nobody else: a folder has one coordinator."""

    def hears(self) -> bool:
        return True

    def load(self) -> Load:
        writer = self.writer
        size = sum(file.stat().st_size for file in self._files if file.exists())
        return Load(writer.batches, writer.seconds, writer.waiting, {}, size)

    async def close(self) -> None:
        """Finish what is queued, and leave a database that is one file."""
        await self.writer.close()
        self._store.close()
