"""`pithead job`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.cli.terminal import drawn_by

DONE = {"status": "completed", "result_hash": "sha256:ab", "result_size": 4}
SUBMIT = ("job", "submit", "--model", "gpt2", "--price", "0.05")


@pytest.fixture(autouse=True)
def accepting(coordinator: Any) -> None:
    coordinator.answers["POST /v1/jobs"] = {"job_id": "job_1", "status": "queued"}


def becomes(coordinator: Any, shapes: Any, *steps: dict[str, Any], job_id: str = "job_1") -> None:
    coordinator.answers[f"GET /v1/jobs/{job_id}"] = [{**shapes["job"], "job_id": job_id, **step} for step in steps]


# ---- submit


def test_submit_prints_the_id(keyed: Any, coordinator: Any) -> None:
    outcome = keyed(*SUBMIT, "--input", '{"n": 1.10}')
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "job_1\n", "")
    assert b'"input":{"n": 1.10},"price":0.05,' in coordinator.requests[0].content, "both as they were written"
    assert coordinator.bodies[0]["require_result"] is True
    printed = json.loads(keyed(*SUBMIT, "--input", "1", "--json").stdout)
    assert printed == {"job_id": "job_1", "status": "queued", "warning": None}


def test_submit_passes_everything_on(keyed: Any, coordinator: Any) -> None:
    options = (
        "--gpu-type v100 --gpu-count 2 --estimated-time 600 --priority -5 --timeout 3600 --attempt-timeout 700"
        " --max-attempts 2 --no-require-result --idempotency-key mine"
    )
    assert keyed(*SUBMIT, "--input", "{}", *options.split()).exit_code == 0
    assert coordinator.requests[0].headers["Idempotency-Key"] == "mine"
    assert coordinator.bodies[0] == {
        "model": "gpt2", "input": {}, "price": 0.05, "gpu_type": "v100", "gpu_count": 2, "estimated_time": 600.0,
        "priority": -5, "timeout": 3600.0, "attempt_timeout": 700.0, "max_attempts": 2, "require_result": False,
    }  # fmt: skip


def test_a_prompt_makes_a_chat(keyed: Any, coordinator: Any) -> None:
    keyed(*SUBMIT, "--prompt", "Hello")
    keyed(
        *SUBMIT, *["--prompt", "Hello", "--system", "Short.", "--max-tokens", "5", "--temperature", "0", "--seed", "7"]
    )
    assert [body["input"] for body in coordinator.bodies] == [
        {"messages": [{"role": "user", "content": "Hello"}]},
        {
            "messages": [{"role": "system", "content": "Short."}, {"role": "user", "content": "Hello"}],
            "max_tokens": 5, "temperature": 0, "seed": 7,
        },
    ]  # fmt: skip


def test_input_from_a_file_or_standard_input(keyed: Any, coordinator: Any, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("[1, 2]")
    keyed(*SUBMIT, "--input-file", str(tmp_path / "in.json"))
    keyed(*SUBMIT, "--input-file", "-", input='"piped"')
    assert [body["input"] for body in coordinator.bodies] == [[1, 2], "piped"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "the job needs one input; give --input, --input-file or --prompt"),
        (["--input", "1", "--prompt", "x"], "the job needs one input"),
        (["--input", "{"], "the input is not JSON ("),
        (["--input-file", "/nowhere.json"], "'/nowhere.json': No such file or directory; see"),
        (["--input", "1", "--max-tokens", "5"], "--max-tokens goes with --prompt only"),
        (["--input", "1", "--price", "cheap"], "the price 'cheap' is not a number; write it like 0.05"),
        (["--input", "1", "--gpu-count", "two"], "invalid value for '--gpu-count'"),
    ],
)  # fmt: skip
def test_submit_refuses_what_cannot_be_right(
    keyed: Any, coordinator: Any, refused: Any, args: list[str], says: str
) -> None:
    assert says in refused(keyed(*SUBMIT, *args))
    assert coordinator.requests == []


def test_submit_and_wait_prints_the_result(keyed: Any, coordinator: Any, shapes: Any) -> None:
    becomes(coordinator, shapes, DONE)
    coordinator.answers["GET /v1/jobs/job_1/result"] = shapes["result"](b'{"a": 1.10}')
    outcome = keyed(*SUBMIT, "--prompt", "Hello", "--wait")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, '{"a": 1.10}', "job_1  completed\n")
    outcome = keyed(*SUBMIT, "--prompt", "Hello", "--wait", "--json")
    document = json.loads(outcome.stdout)
    assert (document["job_id"], document["price"], document["result"]) == ("job_1", 0.05, {"a": 1.10})
    assert (document["result_encoding"], outcome.stderr) == ("json", "")


@pytest.mark.parametrize(
    ("data", "printed", "encoding"), [(b"plain", "plain", "text"), (b"\xff\x00", "/wA=", "base64"), (b"", "", "text")]
)
def test_results_that_are_not_json_in_json(
    keyed: Any, coordinator: Any, shapes: Any, data: bytes, printed: str, encoding: str
) -> None:
    coordinator.answers["GET /v1/jobs/job_1/result"] = shapes["result"](data)
    assert json.loads(keyed("job", "result", "job_1", "--json").stdout) == {
        "job_id": "job_1", "result": printed, "result_encoding": encoding,
    }  # fmt: skip


def test_submit_and_wait_for_a_job_delivered_by_hash(keyed: Any, coordinator: Any, shapes: Any) -> None:
    becomes(coordinator, shapes, {**DONE, "result_size": None})
    outcome = keyed(*SUBMIT, "--input", "1", "--wait", "--no-require-result")
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert "completed by hash alone" in outcome.stderr
    document = json.loads(keyed(*SUBMIT, "--input", "1", "--wait", "--json").stdout)
    assert (document["result"], document["result_encoding"]) == (None, None)


def test_submit_and_wait_for_a_job_that_fails(keyed: Any, coordinator: Any, shapes: Any) -> None:
    becomes(coordinator, shapes, {"status": "failed", "failure": {"kind": "error", "reason": "burnt"}})
    outcome = keyed(*SUBMIT, "--input", "1", "--wait")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith("pithead: job_1 failed (error: burnt); see 'pithead job status job_1'\n")
    outcome = keyed(*SUBMIT, "--input", "1", "--wait", "--json")
    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["failure"] == {"kind": "error", "reason": "burnt"}


# ---- wait


def test_wait_tells_of_each_job_on_a_line(keyed: Any, coordinator: Any, shapes: Any) -> None:
    becomes(coordinator, shapes, DONE)
    becomes(coordinator, shapes, {"status": "cancelled"}, job_id="job_2")
    outcome = keyed("job", "wait", "job_1", "job_2", "job_1")
    assert outcome.exit_code == 1
    assert sorted(outcome.stdout.splitlines()) == ["job_1  completed", "job_2  cancelled"]
    assert outcome.stderr == "pithead: job_2 was cancelled; see 'pithead job status job_2'\n"
    assert keyed("job", "wait", "job_1").exit_code == 0


def test_wait_as_json(keyed: Any, coordinator: Any, shapes: Any) -> None:
    becomes(coordinator, shapes, DONE)
    becomes(coordinator, shapes, {"status": "running", "progress": 0.5}, job_id="job_2")
    outcome = keyed("job", "wait", "job_2", "job_1", "--timeout", "0", "--json")
    assert outcome.exit_code == 1
    assert [(job["job_id"], job["status"]) for job in json.loads(outcome.stdout)["jobs"]] == [
        ("job_2", "running"), ("job_1", "completed"),
    ]  # fmt: skip
    assert "job_2 is still running" in outcome.stderr


def test_wait_for_what_is_not_there(keyed: Any, refused: Any) -> None:
    assert "there is no such job" in refused(keyed("job", "wait", "job_9"))


# ---- watch


def events(*told: tuple[str, dict[str, Any]]) -> httpx.Response:
    """A stream of these."""
    lines = [f"id: {n}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for n, (kind, data) in enumerate(told)]
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content="".join(lines).encode())


def piece(text: str, attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return "output", {"job_id": "job_1", "attempt": attempt, "offset": 0, "text": text}


def test_watch_prints_what_a_job_brings_forth(keyed: Any, coordinator: Any, shapes: Any) -> None:
    running, done = {**shapes["job"], "status": "running"}, {**shapes["job"], **DONE}
    stream = events(
        ("job", running), piece("Half an"), piece("All of "), piece("it", 2), ("job", running), ("job", done)
    )
    coordinator.answers["GET /v1/jobs/job_1/events"] = stream
    outcome = keyed("job", "watch", "job_1", "--after", "1-2-3")
    assert (outcome.exit_code, outcome.stdout) == (0, "Half anAll of it")
    assert outcome.stderr.splitlines() == ["job_1  running", "pithead: attempt 2 begins anew", "job_1  completed"]
    assert coordinator.requests[0].headers["Last-Event-ID"] == "1-2-3"
    lines = [json.loads(line) for line in keyed("job", "watch", "job_1", "--json").stdout.splitlines()]
    assert [(line["id"], line["event"]) for line in lines] == [
        ("0", "job"), ("1", "output"), ("2", "output"), ("3", "output"), ("4", "job"), ("5", "job"),
    ]  # fmt: skip
    assert lines[2]["data"]["text"] == "All of "


def test_submit_and_follow(keyed: Any, coordinator: Any, shapes: Any, refused: Any) -> None:
    coordinator.answers["POST /v1/jobs"] = {"job_id": "job_1", "status": "queued"}
    failed = {**shapes["job"], "status": "failed", "failure": {"kind": "error", "reason": "burnt"}}
    coordinator.answers["GET /v1/jobs/job_1/events"] = events(piece("So far"), ("job", failed))
    outcome = keyed(*SUBMIT, "--input", "1", "--follow")
    assert (outcome.exit_code, outcome.stdout) == (1, "So far")
    assert outcome.stderr.endswith("pithead: job_1 failed (error: burnt); see 'pithead job status job_1'\n")
    # One that was over before anybody could watch.
    coordinator.answers["GET /v1/jobs/job_1/events"] = events(("job", {**shapes["job"], **DONE}))
    coordinator.answers["GET /v1/jobs/job_1/result"] = shapes["result"](b"all of it")
    assert keyed(*SUBMIT, "--input", "1", "--follow").stdout == "all of it"
    assert "--follow" in refused(keyed(*SUBMIT, "--input", "1", "--follow", "--wait"))


def test_watch_of_a_job_that_was_finished_before(keyed: Any, coordinator: Any, shapes: Any) -> None:
    coordinator.answers["GET /v1/jobs/job_1/events"] = httpx.Response(204)
    coordinator.answers["GET /v1/jobs/job_1"] = {**shapes["job"], **DONE}
    assert keyed("job", "watch", "job_1", "--after", "1-2-3").exit_code == 0


def test_status_shows_the_end_of_what_there_is(keyed: Any, coordinator: Any, shapes: Any) -> None:
    output = {"attempt": 1, "offset": 0, "text": "Once\nupon \x1b[31ma time"}
    coordinator.answers["GET /v1/jobs/job_1"] = {**shapes["job"], "status": "running", "output": output}
    assert "… Once upon \N{REPLACEMENT CHARACTER}[31ma time" in keyed("job", "status", "job_1").stdout


# ---- status, list, cancel, result


def test_status(keyed: Any, coordinator: Any, shapes: Any) -> None:
    running = {"status": "running", "progress": 0.25, "progress_message": "epoch 1\x1b[0m", "miner_id": "miner_1"}
    becomes(coordinator, shapes, {**running, "miner_name": "rig"})
    lines = keyed("job", "status", "job_1").stdout.splitlines()
    assert "job       job_1" in lines
    assert "status    running  25%  epoch 1\N{REPLACEMENT CHARACTER}[0m" in lines
    assert "miner     rig (miner_1)" in lines
    assert json.loads(keyed("job", "status", "job_1", "--json").stdout)["progress"] == 0.25
    assert json.loads(keyed("job", "--json", "status", "job_1").stdout)["progress"] == 0.25


def test_list_is_a_table_that_cuts_nothing(keyed: Any, coordinator: Any, shapes: Any) -> None:
    name = "a-model-[red]" + "with-a-long-name" * 8
    jobs = [{**shapes["job"], "job_id": f"job_{n}", "model": name} for n in range(3)]
    coordinator.answers["GET /v1/jobs"] = [
        {"jobs": jobs[:2], "next_cursor": "c"}, {"jobs": jobs[2:], "next_cursor": None}
    ]  # fmt: skip
    outcome = keyed("job", "list", "--status", "queued", "--model", name)
    head, *rows = outcome.stdout.splitlines()
    assert head.split() == ["JOB", "ID", "STATUS", "MODEL", "GPU", "PRICE", "ATTEMPTS", "MINER", "CREATED"]
    assert [row.split()[:6] for row in rows] == [[f"job_{n}", "queued", name, "2", "×", "v100"] for n in range(3)]
    assert "\x1b" not in outcome.stdout
    assert dict(coordinator.requests[0].url.params) == {"status": "queued", "model": name, "limit": "50"}


def test_list_stops_at_its_limit(keyed: Any, coordinator: Any, shapes: Any) -> None:
    coordinator.answers["GET /v1/jobs"] = {"jobs": [shapes["job"]] * 2, "next_cursor": "more"}
    assert len(json.loads(keyed("job", "list", "--limit", "3", "--json").stdout)["jobs"]) == 3
    assert len(coordinator.requests) == 2


def test_cancel(keyed: Any, coordinator: Any, shapes: Any) -> None:
    coordinator.answers["DELETE /v1/jobs/job_1"] = {**shapes["job"], "status": "cancelled"}
    assert keyed("job", "cancel", "job_1").stdout == "job_1  cancelled\n"
    assert json.loads(keyed("job", "cancel", "job_1", "--json").stdout)["status"] == "cancelled"


@pytest.mark.parametrize("command", [("job", "result", "job_1"), ("file", "fetch", "0" * 64)])
def test_what_is_no_file_is_not_replaced_by_one(keyed: Any, refused: Any, tmp_path: Path, command: Any) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"{pipe} is there and is no file" in refused(keyed(*command, "--output", str(pipe)))
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_result_to_standard_output_or_a_file(keyed: Any, coordinator: Any, shapes: Any, tmp_path: Path) -> None:
    coordinator.answers["GET /v1/jobs/job_1/result"] = shapes["result"](b"\x00\xff\n")
    assert keyed("job", "result", "job_1").stdout_bytes == b"\x00\xff\n"
    target = tmp_path / "out"
    outcome = keyed("job", "result", "job_1", "-o", str(target))
    assert (outcome.exit_code, outcome.stdout, target.read_bytes()) == (0, "", b"\x00\xff\n")
    document = json.loads(keyed("job", "result", "job_1", "-o", str(target), "--json").stdout)
    assert document["size"] == 3
    assert document["result_hash"].startswith("sha256:")


def test_result_that_cannot_be_had(keyed: Any, coordinator: Any, refused: Any, shapes: Any, tmp_path: Path) -> None:
    coordinator.answers["GET /v1/jobs/job_1/result"] = shapes["problem"](409, "the job is queued; wait for it")
    assert "the job is queued; wait for it" in refused(keyed("job", "result", "job_1"))
    damaged = shapes["result"](b"other")
    damaged.headers["Repr-Digest"] = shapes["result"](b"data").headers["Repr-Digest"]
    coordinator.answers["GET /v1/jobs/job_1/result"] = damaged
    assert "arrived damaged" in refused(keyed("job", "result", "job_1", "-o", str(tmp_path / "out")))
    assert list(tmp_path.iterdir()) == []
    assert "/nowhere" in refused(keyed("job", "result", "job_1", "-o", "/nowhere/out"))


# ---- On a terminal


class Ready(BaseHTTPRequestHandler):
    """Answers with the server's next body."""

    server: ReadyServer

    def do_GET(self) -> None:
        body = json.dumps(self.server.bodies.pop(0)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ReadyServer(HTTPServer):
    def __init__(self, bodies: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Ready)
        self.bodies = bodies


@pytest.fixture
def ready(shapes: Any) -> Iterator[ReadyServer]:
    with ReadyServer([{**shapes["job"], **DONE, "progress_message": "[bold]"}]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(30)


def test_wait_draws_bars_on_a_terminal(ready: ReadyServer) -> None:
    env = {"PITHEAD_URL": f"http://127.0.0.1:{ready.server_port}", "PITHEAD_KEY": "k"}
    drawn = drawn_by("-m", "pithead.cli.main", "job", "wait", "job_1", **env)
    assert b"job_1  completed" in drawn
    assert b"\x1b[" in drawn
