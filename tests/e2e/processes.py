"""`pithead` commands in processes of their own, as a user runs them, whose log a test can wait for."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PITHEAD = [sys.executable, "-m", "pithead.cli.main"]
#: Seconds – real ones – for one thing to happen; a model may have to be loaded for it.
PATIENCE = 40.0


def clean(**settings: str) -> dict[str, str]:
    """The environment of somebody who has set nothing but this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")} | settings


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PITHEAD, *arguments], env=clean(**settings), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def models_of(agent: int) -> list[int]:
    """The processes with models that the agent in this process has."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Of a zombie there is no command line.
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"pithead.agent.runners.llama_child" in words and words[-2] == str(agent).encode():
                found.append(int(process.name))
    return found


class Running:
    """A command that runs until it is told to end; killed at the end of the block if it still does."""

    def __init__(self, *arguments: str, command: Sequence[str] = PITHEAD, **settings: str) -> None:
        self._process = subprocess.Popen(
            [*command, *arguments],
            env=clean(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Signals come from the test alone.
            process_group=0,
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        # To the end, so that a full pipe never holds it up.
        for line in self._process.stderr:
            self.log.append(line.rstrip("\n"))
            self._lines.put(self.log[-1])
        self._lines.put(None)

    def says(self, pattern: str) -> re.Match[str]:
        """The next line of its log that has this in it, which it is waited for."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, (pattern, self.log)
            if found := re.search(pattern, line):
                return found

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended; no word of a traceback."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not any(line.startswith("Traceback") for line in self.log), "\n".join(self.log)
        return code

    def printed(self) -> str:
        """What it printed to its standard output, once it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.runs:
            self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        if kind is not None:
            sys.stderr.write("\n".join([*self.log, ""]))
