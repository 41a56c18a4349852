"""A wire to PostgreSQL that a test can break where it hurts."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Literal, Self

#: What happens to a connection over which the next COMMIT is sent: cut before the server gets it, or before it answers.
Cut = Literal["before", "after"]


class Proxy:
    """Forwards connections to a server on this machine. From threads, so that the event loop of the test is not held up."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        #: Taken by the next COMMIT.
        self.cut_at_commit: Cut | None = None
        self.cuts = 0
        #: Whether connections are refused, as when the server is away.
        self.closed = False
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        """Break every connection."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            self._start(self._forward, client, socket.create_connection(("127.0.0.1", self._server_port)))

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        self._open |= {client, server}
        with client, server, contextlib.suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    cut = self.cut_at_commit if source is client and b"COMMIT" in data else None
                    if cut is not None:
                        self.cut_at_commit, self.cuts = None, self.cuts + 1
                        if cut == "after":
                            server.sendall(data)
                            server.recv(1 << 16)
                        return
                    (server if source is client else client).sendall(data)
        self._open -= {client, server}
