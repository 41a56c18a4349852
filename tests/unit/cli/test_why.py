"""`pithead miner why`, `pithead job why` and those of the operator, in words and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

MINER_WHY: dict[str, Any] = {
    "miner_id": "miner_1", "status": "active", "jobs_assigned": 1, "offered": False, "stops": [], "queued": 18, "fits": 3,
    "avoided": 1, "resting": 2, "kinds": [], "kinds_left_out": 0,
    "reasons": [
        {"rule": "price", "wants": "", "jobs": 14, "kinds": 2, "remedy": "ask for 0.041 or less",
         "reason": "14 jobs pay less than your price: 0.041 < 0.05 per GPU and hour"},
        {"rule": "gpu_type", "wants": "a100", "jobs": 1, "kinds": 1, "remedy": "offer a machine with a100",
         "reason": "1 job wants a100\x1b[0m"},
    ],
}  # fmt: skip
JOB_WHY: dict[str, Any] = {
    "job_id": "job_1", "status": "queued", "reason": None, "registered": 5, "fits": 2, "ready": 1,
    "excluded": [{"rule": "price", "miners": 3, "reason": "3 ask more than the 0.041 per GPU and hour that it pays"}],
    "price_for_more": 0.05, "more_miners": 3, "ahead": 4, "expected_start": 90,
}  # fmt: skip


def test_why_a_miner_gets_no_job(keyed: Any, coordinator: Any) -> None:
    coordinator.answers["GET /v1/miners/miner_1/why"] = MINER_WHY
    said = keyed("admin", "miner", "why", "miner_1").stdout
    assert "miner_1 is active and holds 1 job." in said
    assert "Of 18 queued jobs, 3 fit, 1 of them not for now since it failed at them last." in said
    assert "2 jobs more in back-off after a failed attempt." in said
    assert "14  14 jobs pay less than your price: 0.041 < 0.05 per GPU and hour  ask for 0.041 or less" in said
    assert "\x1b" not in said
    assert json.loads(keyed("admin", "miner", "why", "miner_1", "--json").stdout)["queued"] == 18


def test_why_a_miner_gets_nothing_at_all(keyed: Any, coordinator: Any) -> None:
    stop = {"rule": "max_concurrent", "reason": "you are at your 4 jobs", "remedy": "finish one"}
    coordinator.answers["GET /v1/miners/miner_1/why"] = MINER_WHY | {"stops": [stop], "reasons": [], "queued": 0}
    said = keyed("admin", "miner", "why", "miner_1").stdout
    assert "It gets no job: you are at your 4 jobs. What to do: finish one." in said
    assert "There is no job in the queue that could be taken." in said
    coordinator.answers["GET /v1/miners/miner_1/why"] = MINER_WHY | {"reasons": [], "offered": True}
    assert "Nothing stops it" in keyed("admin", "miner", "why", "miner_1").stdout


@pytest.mark.parametrize("line", [("job", "why", "job_1"), ("admin", "job", "why", "job_1")])
def test_why_a_job_waits(keyed: Any, coordinator: Any, line: tuple[str, ...]) -> None:
    coordinator.answers["GET /v1/jobs/job_1/why"] = JOB_WHY
    said = keyed(*line).stdout
    assert "Of 5 registered miners, 2 fit and 1 could take it now." in said
    assert "3 ask more than the 0.041 per GPU and hour that it pays" in said
    assert "At a price of 0.05, 3 more would fit." in said
    assert "4 jobs before it; it should begin in about 90 s." in said
    assert json.loads(keyed(*line, "--json").stdout) == JOB_WHY


def test_why_a_job_waits_for_nobody(keyed: Any, coordinator: Any) -> None:
    rests: dict[str, Any] = {
        "reason": "the job waits 5 s more",
        "expected_start": None,
        "price_for_more": None,
        "excluded": [],
    }
    coordinator.answers["GET /v1/jobs/job_1/why"] = JOB_WHY | rests
    said = keyed("job", "why", "job_1").stdout
    assert "job_1: the job waits 5 s more." in said
    assert "No active miner fits: it waits until one does, or until its time is up." in said
    done = {"status": "completed", "reason": "the job is completed"}
    coordinator.answers["GET /v1/jobs/job_1/why"] = JOB_WHY | done
    assert keyed("job", "why", "job_1").stdout == "job_1: the job is completed.\n"
    coordinator.answers["GET /v1/jobs/job_1/why"] = JOB_WHY | {"expected_start": 0}
    assert "it should begin at once." in keyed("job", "why", "job_1").stdout


def test_a_warning_of_a_submit_goes_to_standard_error(keyed: Any, coordinator: Any) -> None:
    warning = "no miner with v100 is registered; the job waits until one comes"
    coordinator.answers["POST /v1/jobs"] = {"job_id": "job_1", "status": "queued", "warning": warning}
    outcome = keyed("job", "submit", "--model", "gpt2", "--input", "1", "--price", "0.05")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "job_1\n", f"pithead: {warning}\n")


def test_a_miner_asks_for_its_own(run: Any, roomy_url: str) -> None:
    registered = run(
        "miner", "register", "--url", roomy_url, "--gpu-type", "no-such-gpu", "--gpu-count", "1", "--json"
    )  # fmt: skip
    assert registered.exit_code == 0
    said = run("miner", "why")
    assert said.exit_code == 0
    assert "It gets no job: you are pending, and only an active miner takes jobs." in said.stdout
    printed = json.loads(run("miner", "why", "--json").stdout)
    assert (printed["why"]["status"], printed["agent"]) == ("pending", None)
    outcome = run("miner", "why", "--key", "key_wrong")
    assert outcome.exit_code == 2
    assert "does not take" in outcome.stderr
