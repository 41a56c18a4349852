"""The SDK without I/O: what a call is, when it is tried again, and what its outcome means. Both drivers use only this."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import httpx
import msgspec

from pithead.client.errors import BadAnswer, Unreachable, api_error
from pithead.wire.base import Problem

T = TypeVar("T")

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0

_TRANSIENT: Final = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_OVERLOADED: Final = (502, 503, 504)


class Sink(Protocol):
    """Takes the body of a good answer. Before each attempt it may ask for a part (`headers`), and then hears the status:
    206 is that part, anything else the whole, and what an attempt before left is to go.
    """

    def headers(self) -> Mapping[str, str]: ...
    def begin(self, status: int) -> None: ...
    def write(self, chunk: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that arrived whole."""

    status: int
    headers: httpx.Headers
    #: Empty where the call's sink took it.
    body: bytes
    #: What was asked, for messages.
    url: str


#: What came of one attempt.
Outcome = Reply | httpx.RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call of the API, made once however often it is sent."""

    method: str
    path: str
    #: Turns a good reply into what the caller gets.
    finish: Callable[[Reply], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: A path is streamed from the file.
    body: bytes | Path | None = None
    #: The byte of it to begin at.
    offset: int = 0
    #: What tells at which byte to begin, asked before each attempt: an upload that broke off is gone on with.
    resume: Call[Any] | None = None
    #: Seconds for which the coordinator may hold the call; added to the time-out.
    hold: float = 0.0
    #: Seconds for retries, where less than the client's own.
    retry_for: float | None = None
    sink: Sink | None = None
    #: Told how many bytes of a file's body went out, those that were there before included.
    sent: Callable[[int], object] | None = None


def resumed(call: Call[T], outcome: Outcome) -> Call[T]:
    """The call, with its body from the byte that the answer to its `resume` names; else with all of it."""
    value = outcome.headers.get("upload-offset", "") if isinstance(outcome, Reply) and outcome.status == 200 else ""
    offset = int(value) if value.isascii() and value.isdigit() else 0
    size = call.body.stat().st_size if isinstance(call.body, Path) else len(call.body or b"")
    if not 0 < offset <= size:
        return call
    return replace(call, offset=offset, headers={**call.headers, "Upload-Offset": str(offset)})


def pause(
    call: Call[T], outcome: Outcome, *, attempt: int, elapsed: float, retry_for: float, draw: Callable[[], float]
) -> float | None:
    """Seconds to wait before trying again; `None`: the outcome stands.

    `attempt` counts from 0, `elapsed` is seconds since the first began, `draw` gives a number in [0, 1). Back-off is
    exponential with full jitter, so that many clients do not come back at the same moment; a `Retry-After` is kept to,
    and where it points beyond `retry_for` there is no use in waiting.
    """
    budget = retry_for if call.retry_for is None else min(retry_for, call.retry_for)
    left = budget - elapsed
    if left <= 0 or not _may_repeat(call, outcome):
        return None
    backoff = draw() * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 30))
    asked = retry_after(outcome) if isinstance(outcome, Reply) else None
    if asked is None:
        return min(backoff, left)
    return None if asked > left else min(asked + backoff, left)


def _may_repeat(call: Call[T], outcome: Outcome) -> bool:
    if isinstance(outcome, Reply):
        if call.resume is not None and outcome.status == 409 and "upload-offset" in outcome.headers:
            return True  # Somebody else went on with it, or a newer part replaced the old one: look again.
        return outcome.status == 429 or outcome.status in _OVERLOADED
    return isinstance(outcome, _TRANSIENT)


def retry_after(reply: Reply) -> float | None:
    """The seconds that `Retry-After` asks for, `None` if it does not."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        # A date is measured by the coordinator's own clock: ours may differ.
        until = email.utils.parsedate_to_datetime(value)
        now = email.utils.parsedate_to_datetime(reply.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def conclude(call: Call[T], outcome: Outcome, url: str) -> T:
    """What the caller gets of the last attempt. Raises `ApiError`, `Unreachable` or `BadAnswer`."""
    if not isinstance(outcome, Reply):
        why = str(outcome).strip() or type(outcome).__name__
        raise Unreachable(url=url, why=why) from outcome
    if 200 <= outcome.status < 300:
        return call.finish(outcome)
    if outcome.status < 400:
        where = outcome.headers.get("location", "elsewhere")
        raise BadAnswer(url=outcome.url, why=f"it points to {where}")
    raise api_error(_problem(outcome), retry_after(outcome))


def _problem(reply: Reply) -> Problem:
    if reply.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            return msgspec.json.decode(reply.body, type=Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    # Not ours: a proxy's page, or another server altogether.
    detail = f"{reply.url} did not say why; check that it is a Pithead coordinator"
    return Problem(type="about:blank", title="error", status=reply.status, detail=detail)


def as_json(kind: type[T]) -> Callable[[Reply], T]:
    """Decodes a JSON body into `kind`."""

    def finish(reply: Reply) -> T:
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadAnswer(url=reply.url, why=str(error)) from error

    return finish


#: Jitter for real: [0, 1).
draw: Callable[[], float] = random.SystemRandom().random
