"""What a program writes, read to its end and kept within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: Of what a program complains on standard error, the end is kept.
_COMPLAINT: Final = 4096


async def first_of(output: asyncio.StreamReader, limit: int, over: Callable[[], None]) -> bytes:
    """The first bytes up to the limit; `over` is called where there are more, and these are let go."""
    data = bytearray()
    while chunk := await output.read(1 << 16):
        data += chunk
        if len(data) > limit:
            del data[limit:]
            over()
    return bytes(data)


async def end_of(stream: asyncio.StreamReader) -> str:
    """The last few kilobytes, as text."""
    end = b""
    while chunk := await stream.read(1 << 16):
        end = (end + chunk)[-_COMPLAINT:]
    return end.decode(errors="replace")
