"""`pithead miner run` in a process of its own, with the real model: how it starts, ends, and reports."""

import hashlib
import json
import os
import secrets
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import Running, models_of, run
from tests.http.server import OPERATOR_KEY

from pithead.agent.runners.llama import built_in
from pithead.client import AdminClient, Client
from pithead.wire.events import OutputPiece

MODEL = "smollm2-135m-instruct"


@dataclass
class House:
    """A registered miner's home, and a client with credit."""

    url: str
    home: Path
    client: Client
    operator: AdminClient
    miner_id: str
    #: For this miner's jobs alone: others share the coordinator.
    gpu_type: str

    @property
    def settings(self) -> dict[str, str]:
        return {"PITHEAD_CONFIG_DIR": str(self.home)}

    def works(self, *options: str) -> Running:
        return Running("miner", "run", "--threads", "1", *options, **self.settings)

    def submit(self, max_tokens: int) -> str:
        given = {"prompt": "Once upon a time", "max_tokens": max_tokens}
        return self.client.submit(MODEL, given, price="0.01", gpu_type=self.gpu_type, timeout=100).job_id

    def status(self, job_id: str) -> tuple[str, int]:
        view = self.client.job(job_id)
        return view.status, view.attempts


@pytest.fixture
def house(roomy_url: str, tmp_path: Path) -> Iterator[House]:
    home, gpu_type = tmp_path / "home", f"cpu-{secrets.token_hex(8)}"
    machine = ("--gpu-type", gpu_type, "--gpu-count", "1", "--price", "0.05", "--max-concurrent", "2")
    made = run("miner", "register", "--url", roomy_url, *machine, "--json", PITHEAD_CONFIG_DIR=str(home))
    assert (made.returncode, made.stderr) == (0, "")
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        key = operator.create_client("lab", 1).api_key
        with Client(roomy_url, key) as client:
            yield House(roomy_url, home, client, operator, json.loads(made.stdout)["miner_id"], gpu_type)


def test_the_first_interrupt_finishes_what_runs(house: House) -> None:
    job = house.submit(150)
    with house.works() as agent:
        agent.says("is loaded")
        waiting = [house.submit(5) for _ in range(3)]
        agent.signal(signal.SIGINT)
        agent.says("taking no more; interrupt again to hand them back")
        assert agent.ended() == 0
        assert agent.printed() == ""
    assert house.status(job) == ("completed", 1)
    assert ("queued", 0) in [house.status(one) for one in waiting]
    assert house.operator.miner(house.miner_id).status in ("draining", "offline")


def test_the_second_one_hands_it_back(house: House) -> None:
    job = house.submit(4000)
    with house.works("--json") as agent:
        agent.says("is loaded")
        agent.signal(signal.SIGINT)
        agent.says("interrupt again")
        agent.signal(signal.SIGTERM)
        assert agent.ended() == 130
        assert json.loads(agent.printed()) == {"finished": False}
        for line in agent.log:
            assert set(json.loads(line)) >= {"at", "level", "message"}
    assert house.status(job) == ("queued", 1)
    house.client.cancel(job)


def test_a_killed_agent_leaves_nothing_running_and_its_next_life_starts_clean(house: House) -> None:
    job = house.submit(4000)
    with house.works() as agent:
        agent.says("is loaded")
        [model] = models_of(agent.pid)
        end = os.pidfd_open(model)
        agent.signal(signal.SIGKILL)
        assert agent.ended() == -signal.SIGKILL
        assert select.select([end], [], [], 20)[0], "the model's process lives on"
        os.close(end)
    assert house.status(job)[0] in ("assigned", "running")
    with house.works() as agent:
        agent.says(f"{job} is held without being known here: handed back")
        house.client.cancel(job)
        agent.signal(signal.SIGTERM)
        assert agent.ended() == 0


def test_one_agent_for_a_miner(house: House) -> None:
    with house.works() as agent:
        agent.says("at work as")
        second = run("miner", "run", **house.settings)
        assert second.returncode == 2
        assert second.stderr.splitlines()[-1].startswith(
            f"pithead: {house.miner_id} runs already on this machine; stop"
        )
        agent.signal(signal.SIGINT)
        assert agent.ended() == 0


def test_a_key_that_is_not_known_ends_it_with_one_line(house: House) -> None:
    refused = run("miner", "run", "--key", "key_of-somebody-else", **house.settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"pithead: {house.url} does not take {house.miner_id} for one of its miners")
    assert "give --key, else register again with --force" in line
    # In the middle of its work, too.
    with house.works() as agent:
        agent.says("at work as")
        house.operator.revoke_keys(house.miner_id)
        house.submit(5)
        assert agent.ended() == 2
        assert "does not take" in agent.log[-1]


def test_a_model_from_the_folder_answers_and_a_broken_file_is_passed_by(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "mine.gguf").symlink_to(next(iter(built_in().values())))
    (folder / "half.gguf").write_bytes(b"<html>")
    with house.works("--models-dir", str(folder), "--context", "256") as agent:
        agent.says("half.gguf is passed by")
        agent.says(f"at work as {house.miner_id} for mine, {MODEL}")
        given: dict[str, Any] = {"prompt": "1, 2, 3, 4,", "max_tokens": 3}
        job = house.client.submit("mine", given, price="0.01", gpu_type=house.gpu_type).job_id
        assert house.client.wait(job, timeout=30).status == "completed"
        assert json.loads(house.client.result(job))["choices"][0]["text"] == " 5,"
        bad = house.client.submit("mine", {"prompt": "word " * 300}, price="0.01", gpu_type=house.gpu_type).job_id
        failed = house.client.wait(bad, timeout=30)
        assert failed.failure is not None
        assert (failed.status, failed.failure.kind) == ("failed", "bad_input")
        agent.signal(signal.SIGINT)
        assert agent.ended() == 0


def test_programs_of_the_owner_run_for_a_client(house: House) -> None:
    """From the client's call to the client's bytes; and the next one that fails says why."""
    (house.home / "runners.toml").write_text(
        '[command.count-words]\ncommand = ["/usr/bin/wc", "-w"]\n'
        '[command.picky]\ncommand = ["/bin/sh", "-c", "echo no such colour >&2; exit 65"]\n'
    )

    def submit(model: str) -> str:
        given = "one two three"
        return house.client.submit(model, given, price="0.01", gpu_type=house.gpu_type, timeout=100).job_id

    jobs = [submit("command:count-words"), submit("command:picky")]
    with house.works() as agent:
        agent.says("programs run in")
        counted, picky = (house.client.wait(job, timeout=60) for job in jobs)
        agent.signal(signal.SIGTERM)
        assert agent.ended() == 0
    assert (counted.status, house.client.result(jobs[0])) == ("completed", b"3\n")
    assert picky.failure is not None
    assert (picky.status, picky.attempts) == ("failed", 1)
    assert (picky.failure.kind, picky.failure.reason) == (
        "bad_input", "the program does not take this input: no such colour",
    )  # fmt: skip


def test_a_program_reads_the_clients_file_in_the_sandbox(house: House, tmp_path: Path) -> None:
    """Uploaded by the client, fetched by the agent once, seen in /input by two jobs, and changed by neither."""
    (house.home / "runners.toml").write_text(
        '[command.sum]\ncommand = ["/bin/sh", "-c", "sha256sum < /input/data.bin; echo no >> /input/data.bin; ls /input"]\n'
    )
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(5_000_000))
    digest = hashlib.sha256(data.read_bytes()).hexdigest()

    def submit(model: str, **options: Any) -> str:
        return house.client.submit(
            model, {}, price="0.01", gpu_type=house.gpu_type, timeout=100, files=[data], **options
        ).job_id

    jobs = [submit("command:sum", limits={"memory_bytes": 64 << 20}) for _ in range(2)]
    useless, greedy = submit(MODEL), submit("command:sum", limits={"memory_bytes": 1 << 50}, max_attempts=1)
    with house.works() as agent:
        agent.says("programs run in")
        done = [house.client.wait(job, timeout=60) for job in jobs]
        refused, over = (house.client.wait(job, timeout=60) for job in (useless, greedy))
        agent.signal(signal.SIGTERM)
        assert agent.ended() == 0
    assert [view.status for view in done] == ["completed", "completed"]
    assert [house.client.result(job) for job in jobs] == [f"{digest}  -\ndata.bin\n".encode()] * 2
    assert refused.failure is not None
    assert refused.failure.kind == "bad_input"
    assert over.failure is not None
    assert over.failure.kind == "over_limit"
    [kept] = (house.home / "files" / house.miner_id).iterdir()
    assert (kept.name, hashlib.sha256(kept.read_bytes()).hexdigest()) == (digest, digest)


def test_runners_that_cannot_be_used_are_said_in_one_line(house: House) -> None:
    (house.home / "runners.toml").write_text('[command.it]\ncommand = ["ls"]\n')
    refused = run("miner", "run", **house.settings)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "command.it: ls is not there; name files from the root on" in refused.stderr


def test_what_a_job_brings_forth_is_seen_as_it_comes_and_a_cancellation_stops_it_within_two_seconds(
    house: House,
) -> None:
    with house.works() as agent:
        agent.says("at work as")
        job = house.submit(4000)
        seen = ""
        for event in house.client.events(job):
            if not isinstance(event.data, OutputPiece):
                continue
            assert event.data.offset == len(seen)
            seen += event.data.text
            if seen == event.data.text:
                began = time.monotonic()
                house.client.cancel(job)
                agent.says(f"{job} stopped: it is cancelled")
                assert time.monotonic() - began < 2
        assert seen
        assert house.status(job) == ("cancelled", 1)
        # Of one that ends well, the output joins up to the result.
        job = house.submit(600)
        whole = "".join(piece.text for piece in house.client.output(job))
        assert whole == json.loads(house.client.result(job))["choices"][0]["text"]
        agent.signal(signal.SIGINT)
        assert agent.ended() == 0
