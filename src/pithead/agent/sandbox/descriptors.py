"""Descriptors: what a sandbox is given to read, and what it is told and tells through."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextlib.contextmanager
def readable(content: bytes) -> Iterator[IO[bytes]]:
    """To read them from: bytes that nobody who gets them can change."""
    with os.fdopen(os.memfd_create("pithead", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        file.seek(0)
        yield file


class Pipe(NamedTuple):
    """What is written to the far end is read at the near one."""

    near: IO[bytes]
    far: IO[bytes]


def pipe(stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> Pipe:
    """A new one, closed with the stack."""
    near, far = os.pipe2(os.O_CLOEXEC)
    return Pipe(
        stack.enter_context(os.fdopen(near, "rb", buffering=0)), stack.enter_context(os.fdopen(far, "wb", buffering=0))
    )


async def read_all(file: IO[bytes]) -> bytes:
    """What is read up to its end."""
    os.set_blocking(file.fileno(), False)
    data = b""
    while True:
        await ready(file.fileno())
        chunk = file.read(4096)
        if chunk == b"":
            return data
        data += chunk or b""


async def ready(descriptor: int) -> None:
    """Wait until there is something to read; of a process, for its end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
