"""How to follow live events, without I/O: what is asked, where it is gone on after a break, and what an event is.

Which lines make an event is the matter of `httpx-sse`; both drivers use this and it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httpx
import msgspec
from httpx_sse import ServerSentEvent

from pithead.client import calls
from pithead.client.core import Call
from pithead.client.errors import BadAnswer
from pithead.client.watch import TERMINAL
from pithead.wire.events import JobEvent, MinerEvent, OutputPiece, PayoutEvent, Sync
from pithead.wire.jobs import JobView
from pithead.wire.webhooks import WebhookView

D = TypeVar("D")

#: Seconds without a word after which the connection counts as lost: the coordinator says at least one in fifteen.
SILENCE: Final = 45.0
#: What an end that was not the last event is taken for: worth another try.
ENDED: Final = httpx.ReadError("the stream ended")


@dataclass(frozen=True, slots=True)
class StreamEvent(Generic[D]):
    """One event."""

    #: Where to go on after it.
    id: str
    #: `job`, `output`, `sync`, `miner`, `payout` or `webhook`.
    kind: str
    data: D


#: What is told of one job.
JobNews = StreamEvent[JobView | OutputPiece]
#: What is told of an account. A `Sync` that is not `resumed` means: read anew what you show.
AccountNews = StreamEvent[Sync | JobEvent | MinerEvent | PayoutEvent | WebhookView]

_JOB: Final[Mapping[str, Any]] = {"job": JobView, "output": OutputPiece}
_ACCOUNT: Final[Mapping[str, Any]] = {
    "sync": Sync,
    "job": JobEvent,
    "miner": MinerEvent,
    "payout": PayoutEvent,
    "webhook": WebhookView,
}


class Follow(Generic[D]):
    """One stream, over as many connections as it takes."""

    def __init__(
        self,
        call: Call[Any],
        kinds: Mapping[str, Any],
        after: str | None,
        ends: Callable[[StreamEvent[D]], bool] = lambda event: False,
    ) -> None:
        self.call, self._kinds, self._ends = call, kinds, ends
        self._after = after
        #: Whether there is nothing more to come.
        self.over = False

    def headers(self) -> dict[str, str]:
        """What the next connection says."""
        return {} if self._after is None else {"Last-Event-ID": self._after}

    def take(self, said: ServerSentEvent) -> StreamEvent[D] | None:
        """The event; `None` for a kind that this version does not know. Raises `BadAnswer`."""
        self._after = said.id
        kind = self._kinds.get(said.event)
        if kind is None:
            return None
        try:
            event: StreamEvent[D] = StreamEvent(said.id, said.event, msgspec.json.decode(said.data, type=kind))
        except msgspec.MsgspecError as error:
            raise BadAnswer(url=self.call.path, why=str(error)) from error
        self.over = self._ends(event)
        return event


def job(job_id: str, after: str | None) -> Follow[JobView | OutputPiece]:
    """All that happens to a job, to its end."""
    return Follow(
        calls.make(lambda reply: None, "job_events", job_id=job_id),
        _JOB,
        after,
        lambda event: isinstance(event.data, JobView) and event.data.status in TERMINAL,
    )


def account(after: str | None) -> Follow[Sync | JobEvent | MinerEvent | PayoutEvent | WebhookView]:
    """All that happens to an account."""
    return Follow(calls.make(lambda reply: None, "account_events"), _ACCOUNT, after)
