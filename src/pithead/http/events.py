"""What happens, as server-sent events: to one job, or to an account."""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator
from typing import Final
from zlib import crc32

import msgspec

from pithead.core.jobs import Job, is_finished
from pithead.core.miners import status
from pithead.core.payouts import Payout
from pithead.exchange import jobs, miners
from pithead.exchange.live import STREAMS, Happened
from pithead.exchange.ports import Tx
from pithead.exchange.webhook_ports import Webhook
from pithead.http import payouts, shapes, webhooks
from pithead.http.api import Call, handles
from pithead.http.decode import header
from pithead.http.problems import HttpProblem
from pithead.http.sse import PING, PING_EVERY, Events, frame
from pithead.wire import events as wire

#: Characters of output in one event.
_PIECE: Final = 32_768


class Lasting:
    """How long a stream may go on: to the end of its time, of its caller's key, or of the coordinator's."""

    def __init__(self, call: Call) -> None:
        self._exchange, self._live, self._caller = call.exchange, call.exchange.live, call.caller
        self._clock = asyncio.get_running_loop().time
        seconds = 0.0 if call.scope["method"] == "HEAD" else call.query.get("wait")
        self._until = math.inf if seconds is None else self._clock() + float(seconds)

    @property
    def left(self) -> float:
        """Seconds to wait for something to tell before a ping; 0 or less once it is over."""
        return 0.0 if self._live.ended else min(PING_EVERY, self._until - self._clock())

    async def allowed(self) -> bool:
        """Whether the caller's key still holds. To be asked before anything more is told."""
        return await self._exchange.still_valid(self._caller)


class Place(msgspec.Struct, frozen=True):
    """Where a reader of one job is: what its events' ids say, on whichever coordinator."""

    attempt: int = 0
    #: Characters of that attempt's output that it has.
    offset: int = 0
    #: Of the job as it was told last.
    digest: int = 0

    @classmethod
    def read(cls, text: str | None) -> "Place":
        """The place that an id names; the beginning, where it names none."""
        try:
            attempt, offset, digest = map(int, (text or "").split("-"))
        except ValueError:
            return cls()
        return cls(attempt, offset, digest) if 0 <= offset < 2**40 and 0 <= attempt < 2**40 else cls()

    def __str__(self) -> str:
        return f"{self.attempt}-{self.offset}-{self.digest}"


def _digest(job: Job) -> int:
    return crc32(repr((job.state.value, job.attempts, job.progress, job.progress_message)).encode()) or 1


def look(tx: Tx, job: Job, place: Place) -> Iterator[tuple[Place, str, msgspec.Struct]]:
    """What a reader at this place has not been told: each with the place behind it, and the kind of event."""
    if job.attempts != place.attempt:
        place = Place(job.attempts, 0, place.digest)
    begin, text = tx.output_from(job.seq, job.attempts, place.offset)
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        place = Place(place.attempt, begin + start + len(piece), place.digest)
        told = wire.OutputPiece(job_id=job.id, attempt=job.attempts, offset=begin + start, text=piece)
        yield place, "output", told
    if (digest := _digest(job)) != place.digest:
        yield Place(place.attempt, place.offset, digest), "job", shapes.job_view(tx, job)


@handles("job_events")
async def job_events(call: Call) -> Events:
    return Events(_of_job(call, Lasting(call), Place.read(header(call.scope, b"last-event-id"))))


async def _of_job(call: Call, lasting: Lasting, place: Place) -> AsyncGenerator[bytes]:
    exchange, job_id = call.exchange, call.path["job_id"]
    client_id = None if call.caller.kind == "operator" else call.caller.id

    def read(tx: Tx, place: Place) -> tuple[bool, list[tuple[Place, str, msgspec.Struct]]]:
        job = jobs.find_own(tx, job_id, client_id)
        return is_finished(job), list(look(tx, job, place))

    with exchange.live.stream(call.caller.id) as admitted, exchange.live.bell(job_id) as bell:
        _check(admitted)
        while True:
            finished, news = await exchange.peek(lambda tx, place=place: read(tx, place))  # type: ignore[misc]
            for place, kind, data in news:
                yield frame(str(place), kind, data)
            if finished:
                return
            while (left := lasting.left) > 0:
                rung = await bell.heard(left)
                if not await lasting.allowed():
                    return
                if rung:
                    break
                yield PING
            if lasting.left <= 0:
                return


def _check(admitted: bool) -> None:
    if not admitted:
        detail = f"an account may have {STREAMS} streams open at one coordinator; close some of yours"
        raise HttpProblem(429, "too-many-streams", "Too many streams", detail, headers={"Retry-After": "10"})


@handles("account_events")
async def account_events(call: Call) -> Events:
    return Events(_of_account(call, Lasting(call), header(call.scope, b"last-event-id")))


async def _of_account(call: Call, lasting: Lasting, after: str | None) -> AsyncGenerator[bytes]:
    exchange, account = call.exchange, await _account(call)
    with exchange.live.stream(call.caller.id) as admitted, exchange.live.feed(account, after) as feed:
        _check(admitted)
        yield frame(feed.mark, "sync", wire.Sync(resumed=feed.resumed))
        while (left := lasting.left) > 0 or feed.has_more:
            batch = await feed.next(max(0.0, left))
            if not await lasting.allowed():
                return
            if batch:
                told = await exchange.peek(lambda tx, batch=batch: [_tell(tx, h) for h in batch])  # type: ignore[misc]
                yield b"".join(frame(happened.id, *one) for happened, one in zip(batch, told, strict=True) if one)
            elif feed.cut_off:
                return
            elif lasting.left > 0:
                yield PING


async def _account(call: Call) -> int | None:
    """The number of the caller's account; `None` for the operator, who hears of all."""
    caller = call.caller
    match caller.kind:
        case "client":
            return await call.exchange.peek(lambda tx: jobs.client(tx, caller.id).seq)
        case "miner":
            return await call.exchange.peek(lambda tx: miners.find(tx, caller.id).seq)
        case _:
            return None


def _tell(tx: Tx, happened: Happened) -> tuple[str, msgspec.Struct] | None:
    what, at = happened.what, happened.at
    if isinstance(what, Job):
        owner = tx.client_by_seq(what.client)
        client_id = owner.id if owner is not None else ""
        return "job", wire.JobEvent(**shapes.job_fields(tx, what), client_id=client_id, at=at)
    if isinstance(what, Payout):
        return "payout", wire.PayoutEvent(**payouts.fields(tx, what), at=at)
    if isinstance(what, Webhook):
        return "webhook", webhooks.view(what)
    miner = tx.miner_by_seq(what)
    if miner is None:
        return None
    return "miner", wire.MinerEvent(miner_id=miner.id, name=miner.name, status=status(miner).value, at=at)
