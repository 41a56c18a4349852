"""`pithead serve`: run a coordinator."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import click
import uvicorn

from pithead import logs, tracing
from pithead.bootstrap import Application
from pithead.cli.output import fail
from pithead.http.connections import connections
from pithead.http.health import Door
from pithead.settings import Settings, SettingsError, load
from pithead.store.errors import StoreError

_log = logging.getLogger("pithead")

#: A line of the log.
_LINE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Seconds that an idle connection is kept. Longer than proxies keep theirs (most: 60), so that it is they who end it.
KEEP_ALIVE: Final = 75


class _Server(uvicorn.Server):
    """Answers from the first moment, drains when it is told to stop, and then lets those go who wait."""

    def __init__(self, config: uvicorn.Config, door: Door, drain: float) -> None:
        super().__init__(config)
        self._door = door
        self._drain = drain
        self.listening = asyncio.Event()
        #: Whether the database is open and up to date.
        self.opened = False
        #: What is served, once it is there.
        self.application: Application | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals from here to the very end.

        Uvicorn's own hands them back, and raises them once more, when the server has stopped: what the application does
        after that – the last note, the closing of the database – would be torn by it.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: on SIGTERM after the drain, on SIGINT or on a second signal at once."""
        if not self.opened:
            # A thread waits for the database, or for another's migration, and cannot be told to stop. A migration of its
            # own is a transaction, which is undone.
            os._exit(0)
        drains = sig == signal.SIGTERM and self._drain and self.application is not None and not self._door.draining
        self._door.drain()
        if drains:
            asyncio.get_running_loop().call_later(self._drain, super().handle_exit, sig, frame)
        else:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    def say_where(self, settings: Settings) -> None:
        """Say where it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        _say(f"pithead serves on http://{shown}:{port}", settings)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.drain()
        if self.application is not None:
            self.application.coordinator.stop()
        await super().shutdown(sockets)


def _say(what: str, settings: Settings, level: int = logging.INFO) -> None:
    """A line for whoever started it; in a log for machines, a line of that log."""
    if settings.log_format == "json":
        _log.log(level, "%s", what)
    else:
        click.echo(what, err=True)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen there: one for each address that the name has, but a single one on a free port."""
    sockets: list[socket.socket] = []
    try:
        # A name can be listed twice, and an address can be had once.
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            if port or not sockets:
                sockets.append(socket.create_server(address, family=family))
    except OSError as error:
        for one in sockets:
            one.close()
        fail(f"cannot listen on {host}:{port}: {_why(error)}; choose another with --host or --port")
    return sockets


def _why(error: OSError) -> str:
    # `create_server` says more in its message than one who reads a line needs.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


async def run(settings: Settings, sockets: list[socket.socket]) -> None:
    """Serve on these sockets until a signal. Raises `StoreError`."""
    # It says that it started and stopped where there is nothing to be said: a start that fails is one line.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    door = Door()
    config = uvicorn.Config(
        door,
        http=connections(door),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=bool(settings.http.trusted_proxies),
        forwarded_allow_ips=settings.http.trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=30,
        server_header=False,
        date_header=False,
    )
    server = _Server(config, door, settings.http.drain)
    serving = asyncio.create_task(server.serve(sockets), name="server")
    working = asyncio.create_task(_work(settings, server, door, serving), name="coordinator")
    try:
        await asyncio.wait([serving, working], return_when=asyncio.FIRST_COMPLETED)
        if server.application is None:
            # Told to stop while it starts: a database that does not answer is not waited for.
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    finally:
        server.should_exit = True
        await serving


def spare_the_collector() -> None:
    """Let the garbage collector look seldom, and never at what was loaded for good.

    Nearly everything here is freed by its last reference. Left as it is, the search for the rest takes an eighth of a busy
    coordinator's time, most of it in modules and in the board, and stops everybody while it lasts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _work(settings: Settings, server: _Server, door: Door, serving: asyncio.Task[None]) -> None:
    """Open the coordinator, and keep it open until the server has ended. Raises `StoreError`."""
    await server.listening.wait()
    # In a thread, as migrations may take long: who asks meanwhile is told that it starts.
    application = await asyncio.to_thread(Application, settings, door=door)
    server.opened = True
    async with application.running():
        server.application = application
        if application.new_operator_key:
            # Standard output: whoever starts it by hand sees it, and a log collector of standard error does not.
            click.echo(f"operator key (shown once, keep it): {application.new_operator_key}")
        if not server.should_exit:
            server.say_where(settings)
        spare_the_collector()
        await serving


@click.command()
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=int, help="The port to listen on; 0 takes a free one.")
@click.option("--data", help="The folder for the database, the results and the signing key.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
def serve(host: str | None, port: int | None, data: str | None, config: Path | None) -> None:
    """Run a coordinator. Nothing has to be set; `pithead settings` shows what can be.

    The operator's key is PITHEAD_OPERATOR_KEY, or is made at the first start and printed once.
    """
    try:
        loaded = load({"host": host, "port": port, "data": data}, file=config)
        as_json = loaded.settings.log_format == "json"
        logs.set_up(loaded.settings.log_level, logs.JsonLines() if as_json else logs.Lines(_LINE))
        for warning in loaded.warnings:
            _say(f"pithead: {warning}", loaded.settings, logging.WARNING)
        stop = tracing.set_up("pithead-coordinator") if loaded.settings.tracing else None
        import uvloop

        # Whatever is made from here on is its owner's alone: prompts, results and keys are nobody else's business.
        os.umask(0o077)
        # Before anything is opened: a port that cannot be had is found out before a new operator key was shown.
        sockets = _listen(loaded.settings.host, loaded.settings.port)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(run(loaded.settings, sockets))
        if stop is not None:
            stop()
    except (SettingsError, StoreError, tracing.TracingError) as error:
        fail(str(error))
