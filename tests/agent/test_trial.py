"""Trying the models on this machine, and what becomes of the speeds."""

import json
from pathlib import Path

import msgspec
from tests.agent.rig import Hands, Rig

from pithead.agent.runners.base import Report, RunFailed, RunResult
from pithead.agent.runners.dispatch import Dispatcher
from pithead.agent.runners.llama import BUILT_IN, Llama, built_in
from pithead.agent.trial import Trial, attempt, remember, remembered
from pithead.wire.miners import Assignment, Metrics


class Timed:
    """A runner whose runs take as long as the test says."""

    def __init__(self) -> None:
        self.now, self.closed, self.first = 0.0, False, True

    def models(self) -> list[str]:
        return ["gpt2", "llama", "unknown"]

    def trial(self, model: str) -> object | None:
        return None if model == "unknown" else {"of": model}

    def prepare(self, at_once: int) -> None:
        assert at_once == 1

    async def run(self, assignment: Assignment, report: Report) -> RunResult:
        assert json.loads(bytes(assignment.input)) == {"of": assignment.model}
        if assignment.model == "llama":
            raise RunFailed("out_of_memory", "too large")
        self.now += 10 if self.first else 2
        self.first = False
        return RunResult(b"{}", Metrics(completion_tokens=64))

    async def close(self) -> None:
        self.closed = True


async def test_each_model_is_run_twice_and_the_second_run_is_what_is_measured() -> None:
    runner = Timed()
    trials = [trial async for trial in attempt(Dispatcher([("mine", runner)]), runner.models(), lambda: runner.now)]
    assert trials == [
        Trial(
            model="gpt2",
            works=True,
            kind="mine",
            tokens_per_second=32,
            completion_tokens=64,
            first_seconds=10,
            seconds=2,
        ),
        Trial(model="llama", works=False, kind="mine", why="out_of_memory: too large"),
    ]
    assert runner.closed


async def test_the_real_model_works_and_has_a_speed() -> None:
    [trial] = [trial async for trial in attempt(Dispatcher([("llama", Llama(built_in()))]), [BUILT_IN])]
    assert trial.works
    assert trial.completion_tokens is not None
    assert 0 < trial.completion_tokens <= 64
    assert trial.tokens_per_second is not None
    assert trial.tokens_per_second > 0


def test_speeds_are_kept_and_one_that_no_longer_works_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "state" / "speeds.json"
    assert remembered(file) == {}
    remember(
        file,
        [Trial(model="a", works=True, tokens_per_second=1.23456), Trial(model="b", works=True, tokens_per_second=2)],
    )
    assert remember(file, [Trial(model="b", works=False)]) == {"a": 1.235}
    assert msgspec.json.decode(file.read_bytes()) == remembered(file) == {"a": 1.235}
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    assert remembered(file) == {}


async def test_the_coordinator_is_told_the_speeds_of_what_is_offered(rig: Rig) -> None:
    async with rig.life(Hands("gpt2"), speeds={"gpt2": 40.0, "gone": 1.0}):
        shown = (await rig.world.operator.get(f"/miners/{rig.miner.id}")).json()
        assert shown["speeds"] == {"gpt2": 40}
