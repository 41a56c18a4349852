"""Mining by hand, and how a miner stands: `pithead miner …` against a coordinator in a process of its own."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.http.server import OPERATOR_KEY

from pithead.agent import registration
from pithead.agent.record import State
from pithead.agent.spool import Spool
from pithead.client import AdminClient, Client, MinerClient
from pithead.wire.miners import Metrics

GPU = "by-hand-gpu"


@pytest.fixture
def client(roomy_url: str) -> Iterator[Client]:
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        key = operator.create_client("by hand", 10).api_key
    with Client(roomy_url, key) as client:
        yield client


@pytest.fixture
def miner(run: Any, roomy_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MinerClient]:
    """One that is registered here, and active."""
    monkeypatch.delenv("PITHEAD_MINER_ID", raising=False)
    made = run(
        *(
            "miner",
            "register",
            "--url",
            roomy_url,
            "--gpu-type",
            GPU,
            "--gpu-count",
            "1",
            "--max-concurrent",
            "3",
            "--json",
        )
    )
    assert made.exit_code == 0, made.stderr
    who = json.loads(made.stdout)
    with MinerClient(roomy_url, who["miner_id"], who["api_key"]) as client:
        client.heartbeat()
        yield client


def test_the_files_of_a_job_are_fetched_where_it_says(
    run: Any, miner: MinerClient, client: Client, tmp_path: Path
) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(b"x" * 9_000_000)
    job = client.submit("by-hand", {}, price="0.25", gpu_type=GPU, files={"in.bin": data}).job_id
    taken = run("miner", "accept", job)
    assert "It has files (in.bin): accept it again with --files FOLDER to fetch them." in taken.stderr
    again = run("miner", "accept", job, "--files", str(tmp_path / "there"))
    assert again.exit_code == 0, again.stderr
    assert "fetching in.bin: 9000000 of 9000000" in again.stderr
    assert [(file.name, file.stat().st_size) for file in (tmp_path / "there").iterdir()] == [("in.bin", 9_000_000)]
    assert run("miner", "release", job).exit_code == 0
    client.cancel(job)


def test_a_job_by_hand_from_the_list_to_the_pay(
    run: Any, refused: Any, miner: MinerClient, client: Client, tmp_path: Path
) -> None:
    job = client.submit("by-hand", {"question": 6.50}, price="0.25", gpu_type=GPU).job_id
    assert [line.split()[:2] for line in run("miner", "jobs").stdout.splitlines()] == [["JOB", "ID"], [job, "by-hand"]]
    [row] = csv.DictReader(io.StringIO(run("miner", "jobs", "--csv").stdout))
    assert (row["job_id"], row["price"]) == (job, "0.25")
    taken = run("miner", "accept", job)
    assert (taken.exit_code, taken.stdout) == (0, '{"question":6.5}\n')
    assert "it pays 0.25" in taken.stderr
    given = tmp_path / "input.json"
    assert run("miner", "accept", job, "--input", str(given)).stdout == f"{given}\n"
    assert given.read_bytes() == b'{"question":6.5}'
    assert f"holds          {job} (" in run("miner", "heartbeat").stdout
    assert run("miner", "report", job, "0.5", "half of it").stdout == f"{job} running\n"
    assert client.job(job).progress_message == "half of it"
    answer = tmp_path / "answer"
    answer.write_bytes(b"42")
    sent = json.loads(run("miner", "upload", job, str(answer), "--json").stdout)
    assert (sent["size"], sent["result_hash"][:7]) == (2, "sha256:")
    assert "give the file, or the hash" in refused(run("miner", "complete", job))
    paid = run("miner", "complete", job, "--hash", sent["result_hash"])
    assert "earned   0.25" in paid.stdout
    assert json.loads(run("miner", "complete", job, str(answer), "--json").stdout)["earned"] == 0.25, "once, again"
    assert client.result(job) == b"42"
    assert "earnings      0.25" in run("miner", "stats").stdout


def test_a_job_that_cannot_be_done(run: Any, refused: Any, miner: MinerClient, client: Client) -> None:
    first, second = (client.submit("by-hand", 1, price="0.1", gpu_type=GPU).job_id for _ in range(2))
    for job in (first, second):
        assert run("miner", "accept", job).exit_code == 0
    assert run("miner", "release", first).stdout == f"{first} queued\n"
    assert run("miner", "fail", second, "not JSON", "--kind", "bad_input").stdout == f"{second} failed\n"
    failure = client.job(second).failure
    assert failure is not None
    assert (failure.kind, failure.reason) == ("bad_input", "not JSON")
    assert refused(run("miner", "accept", "job_none")) == (
        "not found: there is no job job_none; check the id, and that it is yours"
    )
    assert "does not take" in refused(run("miner", "stats", "--key", "key_wrong"))


def test_while_the_agent_works_nothing_is_taken_by_hand(
    run: Any, refused: Any, miner: MinerClient, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.cli.by_hand.running", lambda state: True)
    monkeypatch.setattr("pithead.cli.standing.running", lambda state: state is None or state.pid >= 0)
    assert "would hand the job back; stop it first" in refused(run("miner", "accept", "job_1"))
    assert "runs on this machine; stop it first" in refused(run("miner", "deregister", "--yes"))
    with Spool(registration.spool_of(miner.miner_id)).lock():
        assert "runs and delivers by itself" in refused(run("miner", "retry"))
    assert State().pid == 0


def test_what_an_agent_could_not_deliver_is_delivered(run: Any, miner: MinerClient, client: Client) -> None:
    assert run("miner", "retry").stdout == "There is nothing to deliver.\n"
    job, lost = (client.submit("by-hand", 1, price="0.1", gpu_type=GPU).job_id for _ in range(2))
    metrics = msgspec.convert({"execution_time_seconds": 1, "gpu_time_seconds": 1}, Metrics)
    spool = Spool(registration.spool_of(miner.miner_id))
    for one in (job, lost):
        spool.add(one, miner.accept(one).lease_token, f"answer to {one}".encode(), metrics)
    client.cancel(lost)
    outcome = run("miner", "retry", "--json")
    assert outcome.exit_code == 0
    found = {one["job_id"]: one["outcome"] for one in json.loads(outcome.stdout)["results"]}
    assert found == {job: "delivered", lost: "given up"}
    assert client.result(job) == f"answer to {job}".encode()
    assert spool.pending() == []


def test_a_registration_is_changed(run: Any, refused: Any, miner: MinerClient) -> None:
    assert "there is nothing to change" in refused(run("miner", "update"))
    shown = run("miner", "update", "--price", "0.07", "--model", "a", "--model", "b", "--draining").stdout
    assert f"1 × {GPU} at 0.07 an hour" in shown
    assert "models          a, b" in shown
    assert "status          draining" in shown
    view = json.loads(run("miner", "update", "--any-model", "--no-draining", "--location", "cellar", "--json").stdout)
    assert (view["models"], view["status"], view["location"], view["price_per_hour"]) == (
        None,
        "active",
        "cellar",
        0.07,
    )
    assert "give one of them" in refused(run("miner", "update", "--any-model", "--model", "a"))


def test_a_miner_leaves_for_good(
    run: Any, refused: Any, miner: MinerClient, client: Client, config: Path, roomy_url: str
) -> None:
    job = client.submit("by-hand", 1, price="0.1", gpu_type=GPU).job_id
    miner.accept(job)
    assert "an answer was needed" in run("miner", "deregister").stderr
    assert run("miner", "deregister", input="n\n").exit_code == 130
    file = config / "miners" / "default.toml"
    assert run("miner", "deregister", "--yes").stdout == f"{miner.miner_id} is retired. Removed {file}.\n"
    assert not file.exists()
    assert client.job(job).status == "queued"
    client.cancel(job)
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        assert operator.miner(miner.miner_id).status == "retired"
    assert "no miner is registered here" in refused(run("miner", "status"))


def test_watch_tells_what_happens(miner: MinerClient, client: Client) -> None:
    command = [sys.executable, "-m", "pithead.cli.main", "miner", "watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split()[1].startswith("watching")
        miner.update(draining=True)
        assert process.stdout.readline().split()[1:] == ["miner", "draining"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
