"""Uvicorn's connections, with a short way for the calls that come most often (`http.short`).

Uvicorn makes a scope, a task and some other objects for each request, and hands the answer over in two messages: about as
much work as a heartbeat is altogether. Here the parser's callbacks gather a request that could go the short way; one that
turns out not to, and every other, goes the way that uvicorn has for it, as if this were not there.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pithead.http.health import Door
from pithead.http.short import MOST, ShortWay


class _Cycle(RequestResponseCycle):
    """What uvicorn has to know of a request that goes the short way. One for all of a connection."""

    def __init__(self) -> None:
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.message_event = asyncio.Event()


class Connection(HttpToolsProtocol):
    """One connection. Subclasses have a door."""

    door: Door

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._own = self.cycle = _Cycle()
        #: Where the request at hand goes the short way, and what has come of its body.
        self._short: ShortWay | None = None
        self._body = b""
        #: Looks whether the connection is idle, and since when it is; `None`: a request has begun to come.
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None

    # -- what the parser tells

    def on_message_begin(self) -> None:
        self._idle_since = None
        # Without a scope, for now.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        short = self.door.short
        if short is not None and self.url.partition(b"?")[0].rpartition(b"/")[2] in short.words and self._is_plain():
            self._short = short
            self._body = b""
            own = self._own
            own.response_complete, own.keep_alive = False, True
            self.cycle = own
        else:
            self._go_long()

    def on_body(self, body: bytes) -> None:
        if self._short is None:
            super().on_body(body)
            return
        self._body += body
        if len(self._body) > MOST:
            self._turn_back()

    def on_message_complete(self) -> None:
        short = self._short
        if short is None:
            super().on_message_complete()
            return
        if short.take(self.parser.get_method(), self.url, self.headers, self._body, self):
            self._short = None
        else:
            self._turn_back()
            super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether it is of the usual form, and there is no other before it that is not answered yet."""
        parser = self.parser
        return (
            self.cycle.response_complete
            and not self.expect_100_continue
            and not self.flow.write_paused
            and parser.get_method() in (b"GET", b"POST")
            and parser.get_http_version() == "1.1"
            and bool(parser.should_keep_alive())
            and not parser.should_upgrade()
        )

    def _turn_back(self) -> None:
        """It goes the long way after all, with what has come of it."""
        keep_alive, body = self._own.keep_alive, self._body
        self._short, self._body = None, b""
        self._own.response_complete = True
        self._go_long()
        if not keep_alive:
            self.cycle.keep_alive = False
        if body:
            super().on_body(body)

    def _go_long(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        # The scope has this list.
        self.headers.extend(headers)
        super().on_headers_complete()

    # -- what the short way tells

    def answer(self, head: bytes, body: bytes) -> None:
        """Send an answer of the short way."""
        own, transport = self._own, self.transport
        own.response_complete = True
        if own.disconnected or transport.is_closing():
            return
        if own.keep_alive:
            transport.write(b"%b\r\n%b" % (head, body))
        else:
            transport.write(b"%bconnection: close\r\n\r\n%b" % (head, body))
            transport.close()
        self.on_response_complete()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what an answer of the short way has to wait for."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    # -- idle connections

    def on_response_complete(self) -> None:
        # As uvicorn's, but that one timer serves for as long as the connection is kept: to set one and to cancel it for each
        # request costs as much as to route it.
        if self.transport.is_closing() or self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._watch(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """End the connection where nothing was asked for so long; else look again when that may be."""
        self._idle_timer = None
        if self.transport.is_closing():
            return
        if self._idle_since is None or not self.cycle.response_complete:
            self._watch(self.timeout_keep_alive)
        elif (left := self._idle_since + self.timeout_keep_alive - self.loop.time()) > 0:
            self._watch(left)
        else:
            self.transport.close()

    def _watch(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)


def connections(through: Door) -> type[Connection]:
    """Connections to what is behind this door."""
    return type("DoorConnection", (Connection,), {"door": through})
