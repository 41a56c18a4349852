"""What a party of the exchange asked for and was told, written down as it happens: a party that is killed leaves all of it."""

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from pithead.client.errors import ApiError, PitheadError

T = TypeVar("T")

#: `ok`: done. `refused`: told that it was not done. `unknown`: no answer, or one that says that it cannot tell.
Told = Literal["ok", "refused", "unknown"]


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """A call begins."""

    op: str
    party: str
    call: str
    #: By the machine's monotonic clock, which all processes share.
    at: float
    about: dict[str, Any]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """A call ends, however often it was tried."""

    op: str
    at: float
    told: Told
    said: dict[str, Any]


class Op(msgspec.Struct, frozen=True):
    """A call from its first attempt to its last answer."""

    op: str
    party: str
    call: str
    about: dict[str, Any]
    asked_at: float
    #: `None`: the party was killed while it waited, or nothing came of all attempts.
    answered_at: float | None = None
    told: Told = "unknown"
    said: dict[str, Any] = {}


_LINE: Final = msgspec.json.Decoder(Asked | Answered)


class Recorder:
    """Writes one party's history. Each line is in the system's hands before the call goes on: SIGKILL takes none of it."""

    def __init__(self, file: Path, party: str) -> None:
        """`party`: a client's or miner's name; its calls are numbered, apart from those of an earlier life."""
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._party = party
        self._life = f"{party}-{os.getpid()}"
        self._number = 0

    def _write(self, line: Asked | Answered) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    async def call(
        self, call: str, about: dict[str, Any], doing: Awaitable[T], said: Callable[[T], dict[str, Any]]
    ) -> T | None:
        """Make a call of the SDK, which retries by itself; `None` where it was refused or nothing is known of it."""
        self._number += 1
        op = f"{self._life}-{self._number}"
        self._write(Asked(op, self._party, call, time.monotonic(), about))
        try:
            answer = await doing
        except ApiError as error:
            told: Told = "unknown" if error.status >= 500 else "refused"
            self._write(Answered(op, time.monotonic(), told, {"status": error.status, "detail": error.detail}))
            return None
        except PitheadError as error:
            self._write(Answered(op, time.monotonic(), "unknown", {"detail": str(error)}))
            return None
        self._write(Answered(op, time.monotonic(), "ok", said(answer)))
        return answer

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(files: Iterable[Path]) -> list[Op]:
    """The calls of these histories, in the order in which they began."""
    ops: dict[str, Op] = {}
    for file in files:
        for line in file.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue  # Cut off by the end of the party; what it would have said is not known.
            match _LINE.decode(line):
                case Asked(op, party, call, at, about):
                    ops[op] = Op(op, party, call, about, at)
                case Answered(op, at, told, said):
                    ops[op] = msgspec.structs.replace(ops[op], answered_at=at, told=told, said=said)
    return sorted(ops.values(), key=lambda op: op.asked_at)
