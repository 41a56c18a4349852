"""How far a long command is: lines in a log, a bar on a terminal; and a result on one line of the output of `job map`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.cli.terminal import drawn_by

from pithead.cli.mapping import _record
from pithead.cli.progress import Steps
from pithead.wire.base import encode
from pithead.wire.jobs import JobView


def test_in_a_log_there_is_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps() as told:
        for done in range(101):
            told("jobs", done, 200, "1 failed" if done > 50 else "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "jobs: 20 of 200", "jobs: 40 of 200", "jobs: 60 of 200, 1 failed", "jobs: 80 of 200, 1 failed",
        "jobs: 100 of 200, 1 failed",
    ]  # fmt: skip


def test_on_a_terminal_there_is_a_bar() -> None:
    script = "from pithead.cli.progress import Steps\nwith Steps(transient=False) as told: told('jobs', 5, 10, '[red]2 failed')"
    drawn = drawn_by("-c", script, COLUMNS="100")
    assert b"jobs, [red]2 failed" in drawn
    assert b"5/10" in drawn
    assert "━".encode() in drawn


@pytest.mark.parametrize(
    ("data", "result", "encoding"),
    [
        (b'{\n  "a": 1.50,\r\n  "b": "x\\ny"\n}', '{"a":1.50,"b":"x\\ny"}', "json"),
        (b"two\nlines", '"two\\nlines"', "text"),
        (b"\xff\n", '"/wo="', "base64"),
        (None, "null", None),
    ],
)
def test_a_result_is_on_one_line(shapes: Any, data: bytes | None, result: str, encoding: str | None) -> None:
    job = msgspec.convert(shapes["job"] | {"status": "completed"}, JobView)
    line = encode(_record(3, job, data)).decode()
    assert "\n" not in line
    assert f'"result":{result}' in line
    assert msgspec.json.decode(line)["result_encoding"] == encoding
