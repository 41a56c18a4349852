"""Real pipelines of transformers', with models that are made here.

Run where PyTorch is installed, which `make test` sees to where a file of it is at hand; see `conftest.py`.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.agent.test_llama import assignment

from pithead.agent.runners.transformers import Job, Pipeline, Transformers

ROOT = Path(__file__).parents[2]


#: What each pipeline is asked: texts and parameters.
ASKED: dict[Job, list[tuple[list[str], dict[str, Any]]]] = {
    "text-classification": [(["it rains", "it rains"], {"top_k": 1})],
    "token-classification": [(["it rains in london"], {"aggregation_strategy": "simple"})],
    "feature-extraction": [(["it rains"], {})],
    "zero-shot-classification": [(["it rains"], {"candidate_labels": ["weather", "money"], "multi_label": False})],
    "fill-mask": [(["it <mask> today"], {"top_k": 3}), (["no mask"], {"top_k": 3})],
    "text-generation": [
        *(
            (["one two"], {"max_new_tokens": 12, "temperature": t, "top_p": 1.0, "seed": s})
            for t, s in ((0, 1), (0, 2))
        ),
        *((["one two"], {"max_new_tokens": 12, "temperature": 2.0, "top_p": 1.0, "seed": seed}) for seed in (1, 1, 2)),
        (["one two " * 40], {"max_new_tokens": 1}),
        (["one"], {"max_new_tokens": 64}),
    ],
}


def children() -> list[psutil.Process]:
    """The processes with a pipeline that are here: of all of this process's, the tests' servers among them."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "pithead.agent.runners.transformers_child" in child.cmdline():
                found.append(child)
    return found


@dataclass(frozen=True)
class Made:
    """The models' folders, and what the pipelines made of what they were asked."""

    folder: Path
    found: dict[str, Any]

    def outputs(self, task: Job) -> list[Any]:
        return [one.get("outputs", one) for one in self.found[task]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("pipelines")
    line: list[str | Path] = [sys.executable, "-m", "tests.agent.tiny_models", folder]
    given, offline = json.dumps(ASKED), os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        line, cwd=ROOT, input=given, env=offline, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return Made(folder, json.loads(done.stdout))


def test_each_task_gives_what_is_its_own(made: Made) -> None:
    [[one, same]] = made.outputs("text-classification")
    assert one == same
    assert one[0]["label"] in ("contradiction", "entailment")
    assert 0.5 <= one[0]["score"] <= 1
    [[entities]] = made.outputs("token-classification")
    assert {"entity_group", "score", "word", "start", "end"} <= set(entities[0])
    [[vectors]] = made.outputs("feature-extraction")
    assert {len(vector) for vector in vectors} == {32}
    [[labels]] = made.outputs("zero-shot-classification")
    assert (sorted(labels["labels"]), sum(labels["scores"])) == (["money", "weather"], pytest.approx(1))
    [[filled], _] = made.outputs("fill-mask")
    assert len(filled) == 3


def test_a_generation_is_the_same_each_time_unless_it_is_drawn(made: Made) -> None:
    greedy, again, drawn, same, other, *_ = made.outputs("text-generation")
    assert greedy == again
    assert set(greedy[0]) == {"generated_text"}
    assert drawn == same != other
    counts = made.found["text-generation"][0]
    assert (counts["prompt_tokens"], 0 < counts["completion_tokens"] <= 12) == (4, True)


def test_what_a_model_cannot_take_is_the_inputs_fault(made: Made) -> None:
    *_, long, much = made.outputs("text-generation")
    assert long == {"refused": "inputs: 82 tokens and 1 more; the model has 64"}
    assert much["refused"].endswith("and 64 more; the model has 64")
    assert made.outputs("fill-mask")[1] == {"refused": "inputs: each text must have one <mask>"}


def test_a_folder_is_all_that_is_read_and_only_weights_that_run_nothing(made: Made) -> None:
    """No code beside the model, no pickles, and no name that a hub could resolve."""
    assert {name: set(outcome) for name, outcome in made.found["not loaded"].items()} == {
        "code": {"error"},
        "pickles": {"error"},
        "a hub's": {"error"},
    }
    assert "safetensors" in made.found["not loaded"]["pickles"]["error"]
    assert made.found["ran"] is False


async def test_the_runner_has_it_done_in_a_process_that_stays(made: Made) -> None:
    runner = Transformers({"it": Pipeline(path=str(made.folder / "text-generation"), task="text-generation")})
    given = {"inputs": "one two", "parameters": {"max_new_tokens": 12}}
    results = [await runner.run(assignment(given, "transformers:it"), lambda *_: None) for _ in range(2)]
    [expected] = made.outputs("text-generation")[0]
    assert [json.loads(result.data) for result in results] == [expected, expected]
    assert len(runner._warm.idle) == 1
    await runner.close()


async def test_one_that_is_cancelled_leaves_no_process(made: Made) -> None:
    runner = Transformers({"it": Pipeline(path=str(made.folder / "fill-mask"), task="fill-mask")})
    task = asyncio.create_task(runner.run(assignment({"inputs": "<mask>"}, "transformers:it"), lambda *_: None))
    async with asyncio.timeout(20):
        while not (begun := children()):  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(begun) == 1
    assert children() == []
    assert runner._warm.idle == []
