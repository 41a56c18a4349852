"""The side of a process that holds a model: frames over its standard input and output (see `child`). Imports nothing else."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Final

#: `prctl` option: a signal for this process when its parent dies.
_PR_SET_PDEATHSIG: Final = 1

Say = Callable[[dict[str, Any]], None]
Requests = queue.SimpleQueue[dict[str, Any]]


def opened() -> tuple[Requests, Say]:
    """What comes in, and how to answer. From here on this process ends with its input, and with its parent."""
    _die_with(int(sys.argv[1]))
    # Ctrl-C on a terminal goes to everybody on it; whether this process ends is for the agent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)  # Heartbeats go before inference.
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Libraries print what they like, where they like: they get no hold of the channel, only of the error output.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    requests: Requests = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, requests), daemon=True).start()

    def say(frame: dict[str, Any]) -> None:
        data = json.dumps(frame).encode()
        sink.write(struct.pack(">I", len(data)) + data)
        sink.flush()

    return requests, say


def _die_with(parent: int) -> None:
    """End when the agent does, however it ends. Where there is no `prctl`, the end of the input has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It was faster.
            os._exit(1)


def _read(source: BinaryIO, requests: Requests) -> None:
    while len(head := source.read(4)) == 4:
        requests.put(json.loads(source.read(struct.unpack(">I", head)[0])))
    os._exit(0)
