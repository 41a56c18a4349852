"""The retry policy and the reading of outcomes, as pure functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pithead.client import (
    ApiError,
    BadAnswer,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PaymentRequired,
    RateLimited,
    Unauthorized,
    Unreachable,
    core,
)
from pithead.client.core import Call, Outcome, Reply
from pithead.wire.base import Fault, Problem, encode
from pithead.wire.jobs import Submitted

URL = "http://coordinator:8080"


def a_call(**more: Any) -> Call[Submitted]:
    return Call(method="GET", path="/", finish=core.as_json(Submitted), **more)


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(status, httpx.Headers({k.replace("_", "-"): v for k, v in headers.items()}), body, URL + "/v1/jobs")


def problem(status: int, **more: Any) -> Reply:
    body = encode(Problem(type="/problems/x", title="A title", status=status, **more))
    return reply(status, body, content_type="application/problem+json")


def pause(outcome: Outcome, *, attempt: int = 0, elapsed: float = 0.0, draw: float = 1.0, **call: Any) -> float | None:
    return core.pause(a_call(**call), outcome, attempt=attempt, elapsed=elapsed, retry_for=60, draw=lambda: draw)


REFUSED = httpx.ConnectError("refused")
DROPPED = httpx.RemoteProtocolError("dropped")


@pytest.mark.parametrize(
    "outcome", [REFUSED, DROPPED, httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.PoolTimeout("")]
)
def test_a_broken_connection_is_tried_again(outcome: Outcome) -> None:
    assert pause(outcome) is not None


@pytest.mark.parametrize(
    ("said", "offset"),
    [("3", 3), ("10", 10), ("0", 0), ("11", 0), ("-1", 0), ("x", 0), ("", 0)],
)
def test_an_upload_goes_on_from_the_byte_that_it_is_told(said: str, offset: int, tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_bytes(b"0123456789")
    for data in (b"0123456789", file):
        call = core.resumed(a_call(body=data), reply(200, upload_offset=said))
        assert (call.offset, call.headers.get("Upload-Offset")) == (offset, str(offset) if offset else None)


@pytest.mark.parametrize("outcome", [REFUSED, reply(404, upload_offset="3"), reply(200)])
def test_without_a_good_answer_an_upload_begins_at_the_first_byte(outcome: Outcome) -> None:
    assert core.resumed(a_call(body=b"0123456789"), outcome).offset == 0


def test_an_upload_that_somebody_else_went_on_with_looks_again() -> None:
    moved = reply(409, upload_offset="3")
    assert pause(moved, resume=a_call()) is not None
    assert pause(moved) is None
    assert pause(reply(409), resume=a_call()) is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_coordinator_is_tried_again(status: int) -> None:
    assert pause(reply(status)) is not None


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409, 422, 500])
def test_every_other_answer_stands(status: int) -> None:
    assert pause(reply(status)) is None


def test_what_no_retry_can_mend_is_not_tried_again() -> None:
    assert pause(httpx.UnsupportedProtocol("ftp")) is None
    assert pause(httpx.LocalProtocolError("a bad header")) is None


def test_back_off_is_exponential_with_full_jitter_and_a_ceiling() -> None:
    assert [pause(REFUSED, attempt=n) for n in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert pause(REFUSED, attempt=5, draw=0.0) == 0
    assert pause(REFUSED, attempt=5, draw=0.5) == 4
    assert pause(REFUSED, attempt=100_000) == 10


def test_the_last_try_is_at_the_end_of_the_time_for_retries() -> None:
    assert pause(REFUSED, attempt=9, elapsed=58) == 2
    assert pause(REFUSED, attempt=9, elapsed=60) is None
    assert pause(REFUSED, retry_for=0) is None


def test_retry_after_is_kept_to() -> None:
    assert pause(reply(429, retry_after="7"), draw=0.0) == 7
    assert pause(reply(503, retry_after="7"), draw=0.0) == 7
    assert pause(reply(429, retry_after="61")) is None, "no use in waiting"


def test_retry_after_as_a_date_is_measured_by_the_coordinators_clock() -> None:
    date, later = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:09 GMT"
    assert core.retry_after(reply(429, retry_after=later, date=date)) == 9
    assert core.retry_after(reply(429, retry_after=date, date=later)) == 0
    assert core.retry_after(reply(429, retry_after=later)) is None
    assert core.retry_after(reply(429, retry_after="soon")) is None
    assert core.retry_after(reply(429)) is None


def conclude(outcome: Outcome, **call: Any) -> Submitted:
    return core.conclude(a_call(**call), outcome, URL)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ApiError), (401, Unauthorized), (402, PaymentRequired), (403, Forbidden), (404, NotFound), (409, Conflict), (500, ApiError)],
)  # fmt: skip
def test_problems_are_raised_as_their_kind(status: int, kind: type[ApiError]) -> None:
    with pytest.raises(ApiError, match="what went wrong") as caught:
        conclude(problem(status, detail="what went wrong", request_id="req_1"))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.problem.title) == (status, "A title")
    assert ("req_1" in str(caught.value)) is (status >= 500), "the id helps only where the log does"


def test_every_fault_is_named() -> None:
    faults = [Fault(field="price", message="too low"), Fault(field="", message="odd")]
    with pytest.raises(Invalid) as caught:
        conclude(problem(422, errors=faults))
    assert str(caught.value) == "the request has faults: price: too low; odd"
    assert caught.value.errors == faults


def test_a_rate_limit_says_how_long() -> None:
    limited = problem(429)
    limited.headers["Retry-After"] = "12"
    with pytest.raises(RateLimited, match="try again in 12 s") as caught:
        conclude(limited)
    assert caught.value.retry_after == 12


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b'{"status": "none"}'])
def test_an_error_that_is_not_ours_points_at_the_url(body: bytes) -> None:
    for kind in ("text/html", "application/problem+json"):
        with pytest.raises(NotFound, match="check that it is a Pithead coordinator"):
            conclude(reply(404, body, content_type=kind))


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"{}"])
def test_a_good_answer_that_is_not_ours_points_at_the_url(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="check the URL"):
        conclude(reply(200, body))


def test_a_redirect_is_told_and_not_followed() -> None:
    with pytest.raises(BadAnswer, match="points to https://elsewhere"):
        conclude(reply(301, location="https://elsewhere"))


def test_a_silent_coordinator() -> None:
    with pytest.raises(Unreachable, match=r"http://coordinator:8080 cannot be reached \(refused\)"):
        conclude(REFUSED)
    with pytest.raises(Unreachable, match=r"\(ReadTimeout\)"):
        conclude(httpx.ReadTimeout(""))
