"""A check of the ledger as it comes in: lines that say how far it is, and its outcome as the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from pithead.client.core import Reply
from pithead.client.errors import BadAnswer
from pithead.wire.ledger import CheckProgress, LedgerCheck


class Checking:
    """Tells of each step as it arrives, and keeps the last line."""

    def __init__(self, on_progress: Callable[[CheckProgress], object] | None) -> None:
        self._told = on_progress
        self._rest = b""
        self._last = b""

    def headers(self) -> Mapping[str, str]:
        """It is asked for as a whole."""
        return {}

    def begin(self, status: int) -> None:
        """Start anew."""
        self._rest = self._last = b""

    def write(self, chunk: bytes, /) -> None:
        """Some more of the answer."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            # A line is told of once there is another after it: the last one is the outcome.
            if self._last and self._told:
                self._told(msgspec.json.decode(self._last, type=CheckProgress))
            self._last = line

    def finish(self, reply: Reply) -> LedgerCheck:
        """The outcome. Raises `BadAnswer`."""
        try:
            return msgspec.json.decode(self._last, type=LedgerCheck)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadAnswer(url=reply.url, why=str(error)) from error
