"""The command line in this process, over an httpx transport that plays the coordinator."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from pithead.cli.main import cli

JOB: dict[str, Any] = {
    "job_id": "job_1", "status": "queued", "model": "gpt2", "gpu_type": "v100", "gpu_count": 2, "estimated_time": 60,
    "price": 0.05, "priority": 0, "timeout": 3600, "max_attempts": 3, "require_result": True, "attempts": 0,
    "created_at": 1.7e9, "expires_at": 1.8e9, "started_at": None, "finished_at": None, "miner_id": None,
    "miner_name": None, "progress": None, "progress_message": "", "result_hash": None, "result_size": None,
    "result_expired": False,
    "failure": None, "metrics": None, "output": None,
}  # fmt: skip
MINER: dict[str, Any] = {
    "miner_id": "miner_1", "name": "rig", "gpu_type": "v100", "gpu_count": 2, "location": "cellar",
    "price_per_hour": 0.05, "max_concurrent": 4, "models": ["gpt2"], "status": "active", "created_at": 1.7e9,
    "last_seen_at": None, "limits": {"requests_per_minute": 7, "job_operations_per_minute": None},
    "payout_destination": "DE00 1234", "jobs_assigned": 1, "telemetry": {"load": 0.5}, "speeds": {"gpt2": 40.5},
    "stats": {"total_jobs": 100, "success_rate": 0.98, "average_completion_time": 600, "earnings": 50.5,
              "earnings_per_gpu_hour": 0.05},
}  # fmt: skip
CLIENT: dict[str, Any] = {
    "client_id": "client_1", "name": "alice", "balance": 99.95, "credit_line": 5, "held": 0.05, "created_at": 1.7e9
}  # fmt: skip


PAYOUT: dict[str, Any] = {
    "payout_id": "payout_1", "miner_id": "miner_1", "miner_name": "=rig", "amount": 2.5, "destination": "DE00 1234",
    "status": "approved", "scheduled": False, "requested_at": 1.7e9, "decided_at": 1.7e9, "paid_at": None,
    "reference": "", "note": "",
}  # fmt: skip


class Coordinator:
    """Answers by method and path: with JSON, with a ready response, or with the next of a list; 404 to all else."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.get(f"{request.method} {request.url.path}")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        if answer is None:
            return problem(404, "there is no such job; see 'pithead job list'")
        return httpx.Response(200, json=answer)

    @property
    def bodies(self) -> list[Any]:
        """What was sent as JSON."""
        return [json.loads(request.content) for request in self.requests if request.content]


def problem(status: int, detail: str, **more: Any) -> httpx.Response:
    body = json.dumps({"type": "/problems/x", "title": "T", "status": status, "detail": detail, **more})
    return httpx.Response(status, headers={"Content-Type": "application/problem+json"}, content=body)


def result(data: bytes) -> httpx.Response:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return httpx.Response(200, headers={"Repr-Digest": f"sha-256=:{digest}:"}, content=data)


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for profiles, and no settings from outside."""
    for name in ("PITHEAD_URL", "PITHEAD_KEY", "PITHEAD_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITHEAD_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def run(coordinator: Coordinator) -> Iterator[Run]:
    """`run("job", "list")`: the command, against the coordinator above; nothing but an exit may come out of it."""

    def invoke(*args: str, input: str | bytes | None = None, **env: str) -> Result:
        transport = httpx.MockTransport(coordinator)
        outcome = CliRunner().invoke(cli, args, input=input, env=env, obj=transport, prog_name="pithead")
        assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
        return outcome

    yield invoke


@pytest.fixture
def keyed(run: Run) -> Run:
    """`run`, with a key."""
    return lambda *args, **more: run(*args, PITHEAD_KEY="key_1", **more)


@pytest.fixture
def refused() -> Callable[[Result], str]:
    """The one line that a refused command says."""

    def line(outcome: Result) -> str:
        assert (outcome.exit_code, outcome.stdout) == (2, "")
        [said] = outcome.stderr.splitlines()
        assert said.startswith("pithead: ")
        assert "; " in said, "what to do"
        return said.removeprefix("pithead: ")

    return line


@pytest.fixture
def shapes() -> dict[str, Any]:
    return {"job": JOB, "miner": MINER, "client": CLIENT, "payout": PAYOUT, "problem": problem, "result": result}
