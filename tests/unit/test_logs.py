"""Lines of the log: readable or JSON, about a request, and never with a secret."""

import json
import logging
import sys

import pytest

from pithead.exchange.ids import new_key, new_token
from pithead.logs import JsonLines, Lines, blotted, request_id

KEY = new_key()


def record(message: str, *args: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("pithead.http", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(more)
    return made


def test_a_line_for_machines_is_an_object() -> None:
    token = request_id.set("r-1")
    try:
        line = json.loads(JsonLines().format(record("%d blobs\nare gone", 3, fields={"status": 503, "what": {1}})))
    finally:
        request_id.reset(token)
    assert line.pop("at") > 0
    assert line == {
        "level": "warning", "logger": "pithead.http", "message": "3 blobs\nare gone", "request_id": "r-1",
        "status": 503, "what": [1],
    }  # fmt: skip
    assert "request_id" not in json.loads(JsonLines().format(record("all")))


def test_a_line_for_people_names_the_request_once() -> None:
    lines = Lines("%(levelname)s: %(message)s")
    assert lines.format(record("%s is gone", "it")) == "WARNING: it is gone"
    token = request_id.set("r-1")
    try:
        assert lines.format(record("it is gone")) == "WARNING: it is gone [r-1]"
        assert lines.format(record("request r-1 failed")) == "WARNING: request r-1 failed"
    finally:
        request_id.reset(token)


@pytest.mark.parametrize("form", [Lines("%(message)s"), JsonLines()])
def test_a_traceback_is_told_and_its_secrets_are_not(form: logging.Formatter) -> None:
    try:
        raise ValueError(f"bad header: Bearer {KEY}")
    except ValueError:
        text = form.format(record("it failed with %s", KEY, exc_info=sys.exc_info()))
    assert "ValueError: bad header: Bearer …" in text
    assert KEY not in text
    assert "key_…" in text


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (KEY, "key_…"),
        (new_token("lease"), "lease_…"),
        (new_token("enroll"), "enroll_…"),
        (new_token("session"), "session_…"),
        (new_token("whsec"), "whsec_…"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer …"),
        ("postgresql://pithead:hunter2@db.lab/pithead", "postgresql://pithead:…@db.lab/pithead"),
    ],
)
def test_secrets_are_blotted_out(secret: str, shown: str) -> None:
    assert blotted(f"it was {secret}, they say") == f"it was {shown}, they say"


@pytest.mark.parametrize(
    "harmless",
    ["the key_id is abc", "job_0123456789abcdefghjk", "http://127.0.0.1:8080/v1", "leases.ttl", "a bearer of news"],
)
def test_what_is_none_stays(harmless: str) -> None:
    assert blotted(harmless) == harmless
