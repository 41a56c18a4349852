"""`pithead file`, and the files and limits of a job."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

SUBMIT = ("job", "submit", "--model", "gpt2", "--price", "0.05", "--input", "{}")


def hex_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def view(content: bytes) -> dict[str, Any]:
    return {
        "sha256": hex_of(content), "size": len(content), "part_size": None, "created_at": 1.7e9, "touched_at": 1.7e9,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def accepting(coordinator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    coordinator.answers["POST /v1/jobs"] = {"job_id": "job_1", "status": "queued", "warning": None}
    for content in (b"one", b"two", b"x" * (9 << 20)):
        path = f"/v1/files/{hex_of(content)}"
        coordinator.answers[f"PUT {path}"] = coordinator.answers[f"DELETE {path}"] = view(content)
        coordinator.answers[f"GET {path}/upload"] = {
            "sha256": hex_of(content), "upload_offset": 0, "complete": False,
        }  # fmt: skip


def asked(coordinator: Any) -> list[str]:
    return [f"{request.method} {request.url.path}" for request in coordinator.requests]


def test_submit_uploads_its_files_first(keyed: Any, coordinator: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b=c").write_bytes(b"two")
    outcome = keyed(*SUBMIT, "--file", "a.txt", "--file", "other=b=c")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "job_1\n", "")
    assert asked(coordinator) == [
        f"PUT /v1/files/{hex_of(b'one')}", f"PUT /v1/files/{hex_of(b'two')}", "POST /v1/jobs",
    ]  # fmt: skip
    assert [request.content for request in coordinator.requests[:2]] == [b"one", b"two"]
    submitted = json.loads(coordinator.requests[-1].content)
    assert submitted["input_files"] == [
        {"name": "a.txt", "sha256": hex_of(b"one")}, {"name": "other", "sha256": hex_of(b"two")},
    ]  # fmt: skip
    assert "limits" not in submitted


def test_a_long_upload_is_told_of_and_a_short_one_is_not(keyed: Any, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (9 << 20))
    outcome = keyed(*SUBMIT, "--file", "big", "--json")
    lines = outcome.stderr.splitlines()
    assert json.loads(outcome.stdout)["job_id"] == "job_1"
    assert 5 < len(lines) <= 10
    assert lines[-1] == f"uploading big: {9 << 20} of {9 << 20}"


def test_submit_says_what_it_is_to_be_held_to(keyed: Any, coordinator: Any, refused: Any) -> None:
    options = "--wall-clock 90 --memory 2G --scratch 500M --result-size 1.5K --pids 8"
    assert keyed(*SUBMIT, *options.split()).exit_code == 0
    assert json.loads(coordinator.requests[-1].content)["limits"] == {
        "wall_clock_seconds": 90, "memory_bytes": 2 << 30, "scratch_bytes": 500 << 20, "output_bytes": 1536, "pids": 8,
    }  # fmt: skip
    for size in ("0", "a lot", "-5M", "5X"):
        assert "is no size; write it like 512M" in refused(keyed(*SUBMIT, "--memory", size))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--file", "nowhere"], "'nowhere' is no file that is there"),
        (["--file", "../x/..=a.txt"], "a job cannot call a file '../x/..'"),
        (["--file", "a.txt", "--file", "a.txt"], "two files are called 'a.txt'"),
    ],
)
def test_a_file_that_cannot_be_named_is_said_in_a_line(
    keyed: Any, refused: Any, coordinator: Any, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    assert refused(keyed(*SUBMIT, *words)).startswith(said)
    assert coordinator.requests == []


def test_status_shows_what_a_job_needs(keyed: Any, coordinator: Any, shapes: Any) -> None:
    files = [{"name": "a.txt", "sha256": hex_of(b"one"), "size": 3}]
    coordinator.answers["GET /v1/jobs/job_1"] = shapes["job"] | {"input_files": files, "limits": {"pids": 3}}
    printed = keyed("job", "status", "job_1").stdout
    assert "a.txt (3 bytes)" in printed
    assert "pids 3" in printed


def test_upload_list_fetch_and_delete(keyed: Any, coordinator: Any, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    assert hex_of(b"one") in keyed("file", "upload", "a.txt").stdout
    assert json.loads(keyed("file", "upload", "a.txt", "--json").stdout)["files"][0]["size"] == 3
    part = {"size": None, "part_size": 7}
    coordinator.answers["GET /v1/files"] = {
        "files": [view(b"one"), view(b"two") | part], "used": 10, "quota": 100, "next_cursor": None,
    }  # fmt: skip
    listed = keyed("file", "list").stdout
    assert listed.splitlines()[-1] == "All files: 10 bytes of 100."
    assert "7 so far" in listed
    digest = base64.b64encode(hashlib.sha256(b"one").digest()).decode()
    path = f"GET /v1/files/{hex_of(b'one')}"
    coordinator.answers[path] = httpx.Response(200, headers={"Repr-Digest": f"sha-256=:{digest}:"}, content=b"one")
    assert keyed("file", "fetch", hex_of(b"one"), "-o", "back").exit_code == 0
    assert (tmp_path / "back").read_bytes() == b"one"
    coordinator.answers[path] = httpx.Response(200, content=b"else")
    assert "arrived damaged" in refused(keyed("file", "fetch", hex_of(b"one"), "-o", "bad"))
    assert not (tmp_path / "bad").exists()
    assert keyed("file", "delete", hex_of(b"one")).stdout.strip() == hex_of(b"one")
    assert asked(coordinator)[-1] == f"DELETE /v1/files/{hex_of(b'one')}"


def test_map_uploads_its_files_once_and_names_them_in_every_job(
    keyed: Any, coordinator: Any, tmp_path: Path, shapes: Any
) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "lines.jsonl").write_text('1\n2\n{"input": 3, "limits": {"pids": 9}}\n')
    coordinator.answers["POST /v1/jobs/batch"] = {
        "jobs": [{"job_id": "job_1", "status": "queued", "warning": None}]
    }  # fmt: skip
    coordinator.answers["GET /v1/jobs/job_1"] = shapes["job"] | {"status": "completed"}
    options = ("--model", "m", "--price", "1", "--file", "in=a.txt", "--pids", "3")
    outcome = keyed("job", "map", "lines.jsonl", *options, "--json")
    assert json.loads(outcome.stdout)["completed"] == 3, outcome.stderr
    jobs = [
        json.loads(request.content)["jobs"][0]
        for request in coordinator.requests
        if request.url.path == "/v1/jobs/batch"
    ]
    assert [job["input_files"] for job in jobs] == [[{"name": "in", "sha256": hex_of(b"one")}]] * 3
    assert sorted(job["limits"]["pids"] for job in jobs) == [3, 3, 9]
    assert asked(coordinator)[0] == f"PUT /v1/files/{hex_of(b'one')}"
    assert sum(line.startswith("PUT ") for line in asked(coordinator)) == 1
