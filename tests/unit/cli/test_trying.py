"""`pithead miner try`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pithead.agent.runners.base import RunFailed, RunResult
from pithead.agent.runners.llama import Llama
from pithead.wire.miners import Metrics


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were run; one called broken does not work."""
    done: list[str] = []

    async def run(self: Llama, assignment: Any, report: Any) -> RunResult:
        done.append(assignment.model)
        if assignment.model == "broken":
            raise RunFailed("error", "no luck")
        return RunResult(b"{}", Metrics(completion_tokens=64))

    monkeypatch.setattr(Llama, "run", run)
    return done


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("broken", "good"):
        (folder / f"{name}.gguf").write_bytes(b"GGUF")
    return folder


def test_each_model_is_tried_and_its_speed_kept(run: Any, runs: list[str], models: Path, config: Path) -> None:
    outcome = run("miner", "try", "--models-dir", str(models), "--model", "good", "--json")
    [trial] = json.loads(outcome.stdout)["trials"]
    assert (outcome.exit_code, trial["model"], trial["works"], runs) == (0, "good", True, ["good", "good"])
    assert json.loads((config / "speeds.json").read_text()) == {
        "good": pytest.approx(trial["tokens_per_second"], abs=0.001)
    }


def test_one_that_does_not_work_is_named_and_the_others_are_tried(run: Any, runs: list[str], models: Path) -> None:
    run("miner", "set", "models", "broken,good")
    outcome = run("miner", "try", "--models-dir", str(models))
    assert outcome.exit_code == 1
    assert outcome.stderr == "broken: does not work: error: no luck\ngood: works\n"
    assert runs == ["broken", "good", "good"]


def test_each_kind_that_is_taken_is_tried_and_what_knows_no_job_is_passed_by(
    run: Any, refused: Any, runs: list[str], models: Path, config: Path
) -> None:
    config.mkdir()
    (config / "runners.toml").write_text(
        """
        [command.count]
        command = ["/usr/bin/wc", "-w"]
        trial = "one two"
        [command.fussy]
        command = ["/bin/sh", "-c", "exit 65"]
        trial = {what = 1}
        [command.unknown]
        command = ["/bin/true"]
        """
    )
    run("miner", "set", "kinds", "command")
    outcome = run("miner", "try", "--models-dir", str(models), "--json")
    trials = {trial["model"]: trial for trial in json.loads(outcome.stdout)["trials"]}
    assert (outcome.exit_code, runs) == (1, [])
    assert {name: trial["works"] for name, trial in trials.items()} == {
        "command:count": True,
        "command:fussy": False,
        "command:self-test": True,
    }
    assert trials["command:count"]["kind"] == "command"
    assert trials["command:fussy"]["why"] == "bad_input: the program does not take this input"
    assert json.loads((config / "speeds.json").read_text()) == {}, "what answers in no tokens has no speed"
    assert "no job known" in refused(run("miner", "try", "--model", "command:unknown"))
    (config / "runners.toml").write_text("[")
    assert "mend it there" in refused(run("miner", "try"))


def test_what_is_not_there_cannot_be_tried(run: Any, refused: Any, models: Path) -> None:
    assert "no model 'other'" in refused(run("miner", "try", "--model", "other"))
    run("miner", "set", "models", "other")
    assert "no model to try" in refused(run("miner", "try"))
