"""The language model, for real: the one that comes with Pithead, in processes of its own."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.processes import models_of

from pithead.agent.runners.base import RunFailed, Task
from pithead.agent.runners.llama import BUILT_IN, Llama, Options, built_in, catalogue

#: A run of this takes a second at the least, and tells how far it is.
LONG: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 400}
#: Seconds – real ones – for anything here.
PATIENCE = 30.0


def assignment(given: Any, model: str = BUILT_IN, gpu_count: int = 1, **more: Any) -> Task:
    return Task(
        job_id="job_1", status="assigned", model=model, input=msgspec.Raw(msgspec.json.encode(given)), gpu_type="cpu",
        gpu_count=gpu_count, estimated_time=60, price=Decimal(0), require_result=True, attempt=1, lease_token="lease_1", client_id="client_1",
        lease_expires_at=0, lease_expires_in=120, attempt_expires_in=600, **more,
    )  # fmt: skip


def children() -> list[int]:
    return models_of(os.getpid())


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("pithead-*"))


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


class Runs:
    """A runner with the built-in model."""

    def __init__(self, runner: Llama) -> None:
        self.runner = runner
        self.told: list[tuple[float | None, str]] = []
        #: What was brought forth so far.
        self.shown = ""
        self.tells = asyncio.Event()

    async def __call__(self, model: str = BUILT_IN, gpu_count: int = 1, **given: Any) -> dict[str, Any]:
        result = await self.runner.run(assignment(given, model, gpu_count), self.report)
        self.metrics = result.metrics
        self.data = result.data
        document: dict[str, Any] = json.loads(result.data)
        return document

    async def refused(self, *args: Any, **given: Any) -> tuple[str, str]:
        with pytest.raises(RunFailed) as failed:
            await self(*args, **given)
        return failed.value.kind, failed.value.reason

    def report(self, fraction: float | None, words: str, output: str = "", /) -> None:
        self.shown += output
        self.told.append((fraction, words))
        self.tells.set()

    async def under_way(self) -> "asyncio.Task[dict[str, Any]]":
        """A long run that has begun to answer."""
        self.tells.clear()
        task = asyncio.create_task(self(**LONG))
        await asyncio.wait_for(self.tells.wait(), PATIENCE)
        return task


@pytest.fixture
async def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = Llama(built_in(), Options(context=512))
    yield Runs(runner)
    await runner.close()
    assert children() == []
    assert left_in(tmp_path) == []


async def test_a_chat_and_a_completion_answer_with_the_same_bytes_each_time(runs: Runs) -> None:
    assert runs.runner.models() == [BUILT_IN]
    messages = [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    chat = await runs(messages=messages, max_tokens=32, gpu_count=2)
    assert chat["object"] == "chat.completion"
    assert chat["model"] == BUILT_IN
    [choice] = chat["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage, metrics = chat["usage"], runs.metrics
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert (metrics.prompt_tokens, metrics.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert metrics.execution_time_seconds is not None
    assert metrics.gpu_time_seconds == 2 * metrics.execution_time_seconds > 0
    first = runs.data

    text = await runs(prompt="1, 2, 3, 4,", max_tokens=32, stop=[" 9", "zzz"])
    assert text["object"] == "text_completion"
    assert text["choices"] == [{"index": 0, "finish_reason": "stop", "text": " 5, 6, 7, 8,"}]
    assert (await runs(prompt="1, 2, 3, 4,", max_tokens=3))["choices"] == [
        {"index": 0, "finish_reason": "length", "text": " 5,"}
    ]
    # What ran in between changes nothing, nor does a process of its own.
    await runs(messages=messages, max_tokens=32, gpu_count=2)
    assert runs.data == first
    warm = children()
    assert len(warm) == 1
    await runs.runner.close()
    await runs(messages=messages, max_tokens=32, gpu_count=2)
    assert runs.data == first
    assert children() != warm


async def test_seed_and_temperature(runs: Runs) -> None:
    async def drawn(**options: Any) -> str:
        answer = await runs(prompt="Once upon a time", max_tokens=12, **options)
        return str(answer["choices"][0]["text"])

    greedy = await drawn()
    assert await drawn(temperature=0, seed=7) == greedy, "at 0 nothing is drawn"
    hot = [await drawn(temperature=1.5, seed=seed) for seed in (1, 2, 3, 1)]
    assert hot[0] == hot[3]
    assert len({greedy, *hot}) == 4
    assert await drawn(temperature=1.5, seed=1, top_p=0.0001) == greedy


async def test_what_the_model_cannot_take_is_the_inputs_fault_and_harms_nothing(runs: Runs) -> None:
    await runs(prompt="Hi", max_tokens=1)
    [warm] = children()
    kind, reason = await runs.refused(prompt="word " * 600)
    assert (kind, "512" in reason) == ("bad_input", True)
    assert (await runs.refused(prompt="Hi", temperature=9))[0] == "bad_input"
    assert (await runs.refused(max_tokens=9))[0] == "bad_input"
    assert await runs.refused("gpt2", prompt="Hi") == ("model_missing", "this miner has no model 'gpt2'")
    assert await runs(prompt="Hi", max_tokens=1)
    assert children() == [warm]


async def test_what_it_brings_forth_is_told_as_it_comes_and_to_the_end(runs: Runs) -> None:
    answer = await runs(prompt="Once upon a time", max_tokens=200)
    assert runs.shown == answer["choices"][0]["text"]
    assert len(runs.told) > 1 or runs.told[0][0] == 1.0


async def test_how_far_it_is_is_told_by_what_there_can_be(runs: Runs) -> None:
    # The context ends it long before that many tokens.
    task = asyncio.create_task(runs(prompt="Once upon a time", max_tokens=1_000_000))
    await asyncio.wait_for(runs.tells.wait(), PATIENCE)
    [(fraction, words)] = runs.told
    assert fraction is not None
    assert words == f"{round(fraction * 512)} tokens"
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (signal.SIGKILL, "out_of_memory", "the model's process was killed; it may need more memory"),
        (signal.SIGSEGV, "error", "the model's process ended with -11"),
    ],
)
async def test_a_process_that_dies_is_a_failed_run_and_the_next_one_has_another(
    number: signal.Signals, kind: str, reason: str, runs: Runs
) -> None:
    task = await runs.under_way()
    [child] = children()
    os.kill(child, number)
    with pytest.raises(RunFailed) as failed:
        await task
    assert (failed.value.kind, failed.value.reason) == (kind, reason)
    assert await runs(prompt="Hi", max_tokens=1)


async def test_a_process_that_died_while_nothing_ran_costs_no_run(runs: Runs) -> None:
    await runs(prompt="Hi", max_tokens=1)
    [child] = children()
    os.kill(child, signal.SIGKILL)
    await runs.runner._warm.idle[0]._process.wait()
    assert await runs(prompt="Hi", max_tokens=1)


async def test_a_run_that_is_cancelled_leaves_no_process(runs: Runs) -> None:
    task = await runs.under_way()
    assert len(children()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []
    # While the model is being loaded, too.
    task = asyncio.create_task(runs(prompt="Hi"))
    while not children():  # noqa: ASYNC110 (a process is looked for, which tells nobody that it is there)
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_runs_go_side_by_side_and_no_more_processes_stay_than_there_are_places(
    runs: Runs, tmp_path: Path
) -> None:
    [path] = built_in().values()
    runner = Llama({"a": path, "b": tmp_path / "b.gguf"}, Options(context=128))
    (tmp_path / "b.gguf").symlink_to(path)
    runner.prepare(2)
    two = Runs(runner)
    await asyncio.gather(two("a", prompt="Hi", max_tokens=2), two("a", prompt="Hi", max_tokens=2))
    assert len(children()) == 2
    await two("b", prompt="Hi", max_tokens=2)
    assert len(children()) == 2, "one of a's made room"
    await two("a", prompt="Hi", max_tokens=2)
    runner.prepare(1)
    await two("b", prompt="Hi", max_tokens=2)
    assert len(children()) == 1, "with fewer at a time, the others end with the next run"
    await runner.close()


def test_a_process_dies_with_the_agent_however_that_ends() -> None:
    program = (
        "import asyncio, os\n"
        "from pithead.agent.runners.llama import _Child, Options, built_in\n"
        "async def main():\n"
        "    [path] = built_in().values()\n"
        "    child = await _Child.start(path, Options(context=128), 1)\n"
        "    print(child._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        ended = os.pidfd_open(child)
        agent.kill()
    assert select.select([ended], [], [], PATIENCE)[0], "the child lives on"
    os.close(ended)


def test_the_catalogue_names_models_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gguf = b"GGUF and more"
    for name in ("mistral-7b.Q4", "big-00001-of-00003", "big-00002-of-00003", "big-00003-of-00003", "odd name", "ü"):
        (tmp_path / f"{name}.gguf").write_bytes(gguf)
    (tmp_path / "no-model.gguf").write_bytes(b"<html>not found</html>")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_bytes(gguf)
    [path] = built_in().values()
    monkeypatch.chdir(tmp_path.parent)
    assert catalogue(Path(tmp_path.name)) == {
        BUILT_IN: path,
        "mistral-7b.Q4": tmp_path / "mistral-7b.Q4.gguf",
        "big": tmp_path / "big-00001-of-00003.gguf",
    }
    passed_by = {record.getMessage().partition(" is passed by")[0] for record in caplog.records}
    assert {Path(file).name for file in passed_by} == {
        "odd name.gguf", "ü.gguf", "no-model.gguf", "folder.gguf", "gone.gguf",
    }  # fmt: skip
    assert catalogue(tmp_path / "absent") == {BUILT_IN: path}
    # A file of one's own may take the place of the one that comes along.
    (tmp_path / f"{BUILT_IN}.gguf").symlink_to(path)
    assert catalogue(tmp_path)[BUILT_IN] == tmp_path / f"{BUILT_IN}.gguf"


async def test_a_file_from_the_folder_runs_and_a_torn_one_fails_without_telling_of_the_machine(
    tmp_path: Path,
) -> None:
    [path] = built_in().values()
    (tmp_path / "linked.gguf").symlink_to(path)
    with path.open("rb") as whole:
        (tmp_path / "torn.gguf").write_bytes(whole.read(1_000_000))
    runner = Llama(catalogue(tmp_path), Options(context=128))
    runs = Runs(runner)
    assert (await runs("linked", prompt="1, 2, 3, 4,", max_tokens=3))["model"] == "linked"
    kind, reason = await runs.refused("torn", prompt="Hi")
    assert kind == "error"
    assert reason.startswith("the model cannot be loaded: ")
    assert str(tmp_path) not in reason
    await runner.close()
    assert children() == []


async def test_without_the_package_it_says_which_part_is_missing(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such part: /opt/secret/lib.so')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert await runs.refused(prompt="Hi") == (
        "runner_missing",
        "xllamacpp cannot be loaded: no such part: …",
    )


async def test_a_process_is_given_no_keys(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITHEAD_KEY", "key_secret")
    await runs(prompt="Hi", max_tokens=1)
    [child] = children()
    assert b"PITHEAD_" not in environment_of(child)
    assert b"OMP_WAIT_POLICY=passive" in environment_of(child)
