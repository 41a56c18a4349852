"""Hearing what other coordinators commit, so that a job submitted at one wakes a miner that waits at another.

A thread with a connection of its own. What is heard is a number; the job itself is read from the database, which is never
older than the note. Once a second a word to itself shows that words arrive: notes come in the order of the commits, so
when it is heard, so is all that was committed before it was said.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import psycopg
from psycopg import Notify

from pithead.exchange.events import Heard
from pithead.store import notes
from pithead.store.errors import StoreError
from pithead.store.notes import Note
from pithead.store.postgres import LOCKS, UP, connect, one_line
from pithead.store.queries import POSTGRES_READING as Q
from pithead.store.tx import SqlTx

_log = logging.getLogger("pithead.store")

#: Seconds between two words to oneself.
_ECHO_EVERY: Final = 1.0
#: Seconds without hearing one after which nothing that is kept in memory is believed.
BELIEVED_FOR: Final = 5.0
#: Seconds without hearing one after which the connection is given up.
_GIVE_UP_AFTER: Final = 15.0
#: Seconds between two tries to listen again.
_RETRY_EVERY: Final = 0.5


class Listener:
    """Make it on the event loop's thread."""

    def __init__(self, url: str, name: str, on_heard: Callable[[Heard], None], on_gap: Callable[[], None]) -> None:
        """`on_heard` gets what others did; `on_gap` is called when it listens again, after it may have missed something. Both
        on the loop."""
        self._url = url
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._on_heard = on_heard
        self._on_gap = on_gap
        self._heard_at = float("-inf")
        self._closing = threading.Event()
        self._listening: asyncio.Future[None] = self._loop.create_future()
        self._connection: psycopg.Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"pithead-{name}-listener", daemon=True)
        self._thread.start()

    async def listening(self) -> None:
        """Wait until it listens for the first time. Raises `StoreError`."""
        await asyncio.shield(self._listening)

    def hears(self) -> bool:
        """Whether all that was committed up to a few seconds ago has been heard."""
        return time.monotonic() - self._heard_at < BELIEVED_FOR

    async def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self.cut()
        await asyncio.to_thread(self._thread.join)

    def cut(self) -> None:
        """Break the connection, as a network does."""
        connection = self._connection
        if connection is not None and not connection.closed:
            # Not `close`, which is for the thread that uses it: this wakes that thread where it waits.
            with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def _work(self) -> None:
        first, trouble = True, False
        while not self._closing.is_set():
            try:
                self._connection = connect(self._url, "listener")
                self._connection.execute("LISTEN pithead")
                self._connection.execute(Q["share_lock"], {"locks": LOCKS, "task": UP})
                self._loop.call_soon_threadsafe(self._resolve if first else self._on_gap)
                if trouble:
                    _log.warning("hears the other coordinators again")
                first, trouble = False, False
                self._listen(self._connection)
            except (psycopg.Error, StoreError, OSError, RuntimeError) as error:
                if not self._closing.is_set() and not self._loop.is_closed():
                    if not trouble:
                        # Once, and not with every try.
                        _log.warning("cannot hear the other coordinators, and tries again: %s", one_line(error))
                    trouble = True
                    self._closing.wait(_RETRY_EVERY)
            finally:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None

    def _resolve(self) -> None:
        if not self._listening.done():
            self._listening.set_result(None)

    def _listen(self, connection: psycopg.Connection) -> None:
        said, said_at, heard = 0, float("-inf"), True
        while not self._closing.is_set():
            now = time.monotonic()
            if heard and now - said_at >= _ECHO_EVERY:
                said, said_at, heard = said + 1, now, False
                connection.execute(Q["notify"], {"payload": notes.encode(Note(self._name, echo=said))})
            elif not heard and now - said_at > _GIVE_UP_AFTER:
                raise StoreError("what is said is not heard")
            jobs, left, keys = dict[int, None](), set[int](), dict[str, None]()
            miners, payouts, hooked = dict[int, None](), dict[str, None](), dict[int, bool]()
            for note in map(_read, connection.notifies(timeout=_ECHO_EVERY, stop_after=1)):
                if note.by != self._name:
                    jobs.update(dict.fromkeys(note.jobs))
                    left.update(note.left)
                    keys.update(dict.fromkeys(note.keys))
                    miners.update(dict.fromkeys(note.miners))
                    payouts.update(dict.fromkeys(note.payouts))
                    hooked.update(note.hooked)
                elif note.echo == said:
                    self._heard_at, heard = said_at, True
            if jobs or keys or miners or payouts or hooked:
                tx = SqlTx(connection.execute, Q)
                news = Heard(
                    tx.jobs_by_seq(list(jobs)) if jobs else [],
                    left,
                    list(keys),
                    list(miners),
                    [payout for payout in map(tx.payout_by_id, payouts) if payout is not None],
                    list(hooked.items()),
                )
                self._loop.call_soon_threadsafe(self._on_heard, news)


def _read(heard: Notify) -> Note:
    try:
        return notes.decode(heard.payload)
    except msgspec.DecodeError:
        # A newer coordinator's, or somebody else's on our channel.
        return Note("")
