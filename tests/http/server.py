"""A coordinator as a user runs it: the command, in a process of its own."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

OPERATOR_KEY = "key_of-the-operator-of-these-tests"

#: For those who make more calls than miners may by default.
UNLIMITED = {
    f"PITHEAD_RATE_LIMITS__{limit}": "0"
    for limit in ("REQUESTS_PER_MINUTE", "JOB_OPERATIONS_PER_MINUTE", "REGISTRATIONS_PER_MINUTE")
}

_LISTENS = re.compile(r"^pithead serves on (http://\S+)$")


@contextlib.contextmanager
def serve(folder: Path, *before: str, **environment: str) -> Iterator[str]:
    """Run `pithead serve` on a free port; yields its address. It must stop in order, and log no traceback.

    `before`: a program that is to run it.
    """
    command = [*before, str(Path(sys.executable).with_name("pithead")), "serve", "--port", "0", "--data", str(folder)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY} | environment,
    )
    assert process.stderr is not None
    log: list[str] = []
    address: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stderr, log, address))
    reader.start()
    try:
        url = address.get(timeout=30)
        assert url is not None, "".join(log)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            reader.join(timeout=10)
            process.stderr.close()
    assert process.returncode == 0, "".join(log)
    assert not any(line.startswith("Traceback") for line in log), "".join(log)


def _read(stream: IO[str], log: list[str], address: "queue.Queue[str | None]") -> None:
    # To the end, so that a full pipe never holds the server up.
    for line in stream:
        log.append(line)
        if found := _LISTENS.match(line):
            address.put(found[1])
    address.put(None)
