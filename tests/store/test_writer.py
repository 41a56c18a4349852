"""The writer of the embedded store: what a batch promises, also on a disk that is slow, full or gone."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from pithead.exchange.events import Event, KeysChanged
from pithead.exchange.ports import Tx
from pithead.store import writer as module
from pithead.store.errors import StoreError
from pithead.store.sqlite import SqliteStore
from pithead.store.writer import MAX_BATCH, Writer


class Disk:
    """A connection to a database on a disk that the test controls."""

    def __init__(self, connection: dbapi2.Connection) -> None:
        self._connection = connection
        #: Called in place of nothing before each COMMIT; may take its time, or raise.
        self.before_commit: Callable[[], None] = lambda: None
        #: … and after each ROLLBACK.
        self.after_rollback: Callable[[], object] = lambda: None

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT":
            self.before_commit()
        done = self._connection.execute(sql, *values)
        if sql == "ROLLBACK":
            self.after_rollback()
        return done

    def cursor(self) -> Any:
        return self._connection.cursor()

    @property
    def total_changes(self) -> int:
        return int(self._connection.total_changes)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)


class Scene:
    """A writer, its disk, and what it has told the memory."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.disk = Disk(store.writing)
        self.events: list[Event] = []
        self.writer = Writer(self.disk, self.events.extend)

    @property
    def noted(self) -> list[str]:
        """What the audit log says, the oldest first: every operation here writes its name there."""
        return [record.action for record in reversed(self.store.peek(lambda tx: tx.audit_page(None, 10_000)))]

    def note(self, name: str) -> "asyncio.Future[str]":
        def operation(tx: Tx) -> str:
            tx.audit(0.0, "test", name, "")
            tx.emit(KeysChanged(name))
            return name

        return self.writer.run(operation)

    def break_off(self, name: str) -> "asyncio.Future[None]":
        """An operation that writes, and then fails."""

        def operation(tx: Tx) -> None:
            tx.audit(0.0, "test", name, "")
            tx.emit(KeysChanged(name))
            raise LookupError(name)

        return self.writer.run(operation)

    async def wear_out(self) -> None:
        """Make the disk known as a slow one, whose commits are waited for in a thread."""
        self.disk.before_commit = lambda: time.sleep(0.003)
        for _ in range(20):
            await self.writer.run(lambda tx: None)
        self.disk.before_commit = lambda: None


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    store = SqliteStore(tmp_path / "pithead.db")
    scene = Scene(store)
    yield scene
    scene.disk.before_commit = lambda: None
    await scene.writer.close()
    store.close()


def names(events: list[Event]) -> list[str]:
    return [event.owner for event in events if isinstance(event, KeysChanged)]


async def test_what_comes_together_is_committed_together(scene: Scene) -> None:
    wanted = [f"note {n}" for n in range(50)]
    assert await asyncio.gather(*map(scene.note, wanted)) == wanted
    assert (scene.writer.commits, scene.writer.operations) == (1, 50)
    assert scene.noted == names(scene.events) == wanted


async def test_a_batch_has_a_bound(scene: Scene) -> None:
    await asyncio.gather(*(scene.note(str(n)) for n in range(2 * MAX_BATCH + 1)))
    assert (scene.writer.commits, scene.writer.operations) == (3, 2 * MAX_BATCH + 1)
    assert scene.noted == [str(n) for n in range(2 * MAX_BATCH + 1)], "in the order in which they came"


async def test_one_that_fails_harms_no_other(scene: Scene) -> None:
    first, broken, last = scene.note("first"), scene.break_off("broken"), scene.note("last")
    with pytest.raises(LookupError, match="broken"):
        await broken
    assert [await first, await last] == ["first", "last"]
    assert scene.noted == names(scene.events) == ["first", "last"]
    assert scene.writer.commits == 1


async def test_where_another_process_writes_before_a_batch_is_run_again_nothing_happened(scene: Scene) -> None:
    """One failed late, so the transaction is begun anew; between the two somebody else begins one."""
    other = scene.store.connect()
    scene.disk.after_rollback = lambda: other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(
        scene.note("one"), scene.break_off("two"), scene.note("three"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreError] * 3
    assert all("locked" in str(answer) for answer in answers)
    assert (scene.events, scene.noted) == ([], [])
    scene.disk.after_rollback = lambda: None
    other.execute("ROLLBACK")
    other.close()
    assert await scene.note("four") == "four"


async def test_nobody_is_answered_and_nothing_takes_effect_before_the_commit(scene: Scene) -> None:
    seen: list[tuple[bool, list[str], list[str]]] = []

    def look() -> None:
        seen.append((waiting.done(), names(scene.events), scene.noted))

    scene.disk.before_commit = look
    waiting = scene.note("one")
    await waiting
    assert seen == [(False, [], [])]
    assert (names(scene.events), scene.noted) == (["one"], ["one"])


@pytest.mark.parametrize("slow", [False, True])
async def test_a_commit_that_fails_answers_everybody_and_nothing_happened(scene: Scene, slow: bool) -> None:
    if slow:
        await scene.wear_out()

    def gone() -> None:
        raise dbapi2.OperationalError("disk I/O error")

    scene.disk.before_commit = gone
    answers = await asyncio.gather(
        scene.note("one"), scene.break_off("two"), scene.note("three"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreError] * 3
    assert all("disk I/O error" in str(answer) for answer in answers)
    assert (scene.events, scene.noted) == ([], [])
    # It goes on as soon as the disk does.
    scene.disk.before_commit = lambda: None
    assert await scene.note("four") == "four"
    assert scene.noted == names(scene.events) == ["four"]


async def test_a_full_disk_answers_everybody_and_nothing_happened(scene: Scene) -> None:
    """The database's own refusal, in the midst of an operation: it undoes the whole transaction by itself."""
    execute = scene.store.writing.execute
    pages = execute("PRAGMA page_count").fetchone()[0]
    execute(f"PRAGMA max_page_count = {pages}")
    large = scene.writer.run(lambda tx: tx.audit(0.0, "test", "x" * 1_000_000, ""))
    answers = await asyncio.gather(scene.note("before"), large, scene.note("after"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError] * 3
    assert all("full" in str(answer) for answer in answers)
    assert (scene.events, scene.noted) == ([], [])
    execute(f"PRAGMA max_page_count = {pages + 10_000}")
    assert await scene.note("with room again") == "with room again"
    assert scene.noted == ["with room again"]


async def test_operations_gather_while_a_slow_commit_is_on_its_way(scene: Scene) -> None:
    await scene.wear_out()
    commits, begun, let_go = scene.writer.commits, threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        assert let_go.wait(10)

    scene.disk.before_commit = hang
    first = scene.note("first")
    # The event loop is free meanwhile: it can wait for the commit to begin.
    assert await asyncio.to_thread(begun.wait, 10)
    others = [scene.note(f"other {n}") for n in range(30)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(future.done() for future in (first, *others))
    let_go.set()
    await asyncio.gather(first, *others)
    assert scene.writer.commits == commits + 2
    assert scene.noted == names(scene.events) == ["first", *(f"other {n}" for n in range(30))]


async def test_one_who_has_gone_disturbs_nobody(scene: Scene) -> None:
    """What was queued is done, whether or not anybody still waits for the answer."""
    gone, gone_too, stays = scene.note("gone"), scene.break_off("gone too"), scene.note("stays")
    gone.cancel()
    gone_too.cancel()
    assert await stays == "stays"
    assert scene.noted == names(scene.events) == ["gone", "stays"]


async def test_closing_finishes_what_is_queued(scene: Scene) -> None:
    futures = [scene.note(str(n)) for n in range(MAX_BATCH + 5)]
    await scene.writer.close()
    assert [future.result() for future in futures] == [str(n) for n in range(MAX_BATCH + 5)]
    with pytest.raises(StoreError, match="stopping"):
        await scene.note("too late")
    assert len(scene.noted) == MAX_BATCH + 5


async def test_closing_waits_for_a_slow_commit(scene: Scene) -> None:
    await scene.wear_out()
    scene.disk.before_commit = lambda: time.sleep(0.01)
    future = scene.note("last words")
    await scene.writer.close()
    assert future.result() == "last words"
    assert scene.noted == ["last words"]


async def test_a_fault_in_memory_keeps_no_answer_back(tmp_path: Path) -> None:
    """What is durable is answered, and the next one is served, whatever the memory makes of the events."""
    store = SqliteStore(tmp_path / "pithead.db")
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(str(context["exception"])))

    def confused(events: list[Event]) -> None:
        raise ValueError(f"{len(events)} events")

    scene = Scene(store)
    scene.writer = Writer(store.writing, confused)
    async with asyncio.timeout(10):
        assert [await scene.note("one"), await scene.note("two")] == ["one", "two"]
        await scene.writer.close()
    assert scene.noted == ["one", "two"]
    assert faults == ["1 events", "1 events"], "it is not kept quiet either"
    store.close()


async def test_it_waits_for_another_process_that_writes(scene: Scene) -> None:
    """A backup, a shell."""
    other = scene.store.connect()
    other.execute("BEGIN IMMEDIATE")
    waiting = scene.note("patient")
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(10):
        assert await waiting == "patient"


async def test_it_does_not_wait_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GIVE_UP_AFTER", 0.02)
    other = scene.store.connect()
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(60):
        with pytest.raises(StoreError, match="locked"):
            await scene.note("impatient")
    other.execute("ROLLBACK")
    other.close()
    assert await scene.note("later") == "later"
    assert scene.noted == ["later"]
