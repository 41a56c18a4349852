"""`pithead` commands in processes of their own, as the demo runs them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

import click

from pithead.cli.output import clean, fail

#: Seconds that a command may take to end.
PATIENCE: Final = 20.0
_PITHEAD: Final = (sys.executable, "-m", "pithead.cli.main")


class Processes:
    """`pithead` commands that run beside this one, and end with it: the last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._signals: dict[int, Any] = {}

    def start(self, name: str, *arguments: str, **environment: str) -> None:
        """Start a command; what it prints goes to its log."""
        self._logs.mkdir(mode=0o700, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 (our own commands)
                [*_PITHEAD, *arguments],
                env=_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C comes to this process only, which ends the others in their order.
                process_group=0,
            )

    def check(self) -> None:
        """Nobody has ended yet, or the demo ends here."""
        for name, process in self._running.items():
            if process.poll() is not None:
                fail(f"'{name}' ended with {process.returncode}; see above what it said last", 1)

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._signals[number] = signal.signal(number, _stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # From here on nothing interrupts: it takes a bounded time, and nobody must be left behind.
        self._signals[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if isinstance(error, Exception):
            self._show_logs()
        for process in reversed(self._running.values()):
            _end(process)
        for given, handler in self._signals.items():
            signal.signal(given, handler)

    def _show_logs(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
                click.echo(f"The last lines of '{name}':", err=True)
                for line in lines[-15:]:
                    click.echo(f"  {clean(line)}", err=True)


def _environment(own: dict[str, str]) -> dict[str, str]:
    """Ours, without what is set for another Pithead."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")} | own


def run(*arguments: str, given: str = "", **environment: str) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(  # noqa: S603 (our own commands)
        [*_PITHEAD, *arguments],
        env=_environment(environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        fail(f"'pithead {' '.join(arguments[:2])}' failed: {done.stderr.strip().removeprefix('pithead: ')}", 1)
    return done.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and make it end where it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stop(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
