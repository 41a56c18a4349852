"""The runner for pipelines, with a package in the place of transformers' that notes what it is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.agent.rig import Hands
from tests.agent.test_llama import assignment
from tests.agent.test_runners import written

from pithead.agent.runners import config
from pithead.agent.runners.base import RunFailed
from pithead.agent.runners.config import Unusable, assemble, load
from pithead.agent.runners.transformers import Pipeline, Transformers, parse

#: A pipeline whose answer is what it was told.
PLAYED = """
import os, types
class Tokenizer:
    mask_token, model_max_length = "[M]", 10
    def encode(self, text):
        return text.split()
    def decode(self, tokens, skip_special_tokens):
        return " ".join(tokens)
class Pipe:
    def __init__(self, *args, **kwargs):
        self.made = {"args": args, **kwargs, "offline": os.environ["HF_HUB_OFFLINE"], "key": os.environ.get("PITHEAD_KEY")}
        self.tokenizer = Tokenizer()
        self.model = types.SimpleNamespace(config=types.SimpleNamespace())
    def preprocess(self, text):
        return {"input_ids": types.SimpleNamespace(shape=(1, len(text.split())))}
    def __call__(self, text, **kwargs):
        if kwargs.get("return_tensors"):
            return [{"generated_token_ids": [*text.split(), str(kwargs), os.environ["SEED"]]}]
        if text == "burst":
            raise RuntimeError("CUDA out of memory. Tried to allocate /dev/shm/x")
        if text == "die":
            os._exit(3)
        said = [{"asked": kwargs, "made": self.made, "pid": os.getpid()}]
        return said
pipeline = Pipe
def set_seed(seed):
    os.environ["SEED"] = str(seed)
"""


@pytest.fixture
def played(tmp_path: Path) -> dict[str, str]:
    """The environment of a child that finds the package."""
    (tmp_path / "transformers.py").write_text(PLAYED)
    (tmp_path / "torch.py").write_text("def set_num_threads(n):\n    assert n >= 1\n")
    return {"PYTHONPATH": str(tmp_path)}


def runner(environment: dict[str, str], task: Any = "text-classification", **options: Any) -> Transformers:
    return Transformers({"it": Pipeline(path="/models/it", task=task, **options)}, environment)


async def run(pipelines: Transformers, given: Any) -> Any:
    return json.loads((await pipelines.run(assignment(given, "transformers:it"), lambda *_: None)).data)


async def failure(pipelines: Transformers, given: Any, model: str = "transformers:it") -> tuple[str, str]:
    with pytest.raises(RunFailed) as failed:
        await pipelines.run(assignment(given, model), lambda *_: None)
    return failed.value.kind, failed.value.reason


async def test_the_library_is_told_of_a_folder_and_of_nothing_else(
    played: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITHEAD_KEY", "secret")
    pipelines = runner(played, device="cuda:1")
    [said] = await run(pipelines, {"inputs": "it rains"})
    assert said["made"] == {
        "args": ["text-classification"],
        "model": "/models/it/",
        "device": "cuda:1",
        "trust_remote_code": False,
        "model_kwargs": {"use_safetensors": True},
        "offline": "1",
        "key": None,
    }
    assert said["asked"] == {"top_k": 5}
    [[again], [other]] = await run(pipelines, {"inputs": ["it rains", "one two"], "parameters": {"top_k": 1}})
    assert (again["pid"], other["asked"]) == (said["pid"], {"top_k": 1}), "it stays warm"
    await pipelines.close()


async def test_a_generation_is_greedy_unless_the_job_says_otherwise(played: dict[str, str]) -> None:
    pipelines = runner(played, "text-generation")

    async def told(**parameters: Any) -> str:
        given = assignment({"inputs": "a b", "parameters": {"max_new_tokens": 3} | parameters}, "transformers:it")
        result = await pipelines.run(given, lambda *_: None)
        assert (result.metrics.prompt_tokens, result.metrics.completion_tokens) == (2, 2)
        return str(json.loads(result.data)["generated_text"])

    assert await told() == "{'max_new_tokens': 3, 'return_tensors': True, 'do_sample': False} 0"
    drawn = "{'max_new_tokens': 3, 'return_tensors': True, 'do_sample': True, 'temperature': 2.0, 'top_p': 0.5} 7"
    assert await told(temperature=2, top_p=0.5, seed=7) == drawn
    long = {"inputs": "a b", "parameters": {"max_new_tokens": 9}}
    assert await failure(pipelines, long) == ("bad_input", "inputs: 2 tokens and 9 more; the model has 10")
    await pipelines.close()


async def test_failures_have_the_kind_that_decides_whether_another_may_try(
    played: dict[str, str], tmp_path: Path
) -> None:
    pipelines = runner(played)
    kind, reason = await failure(pipelines, {"inputs": "burst"})
    assert (kind, "/dev/shm" in reason) == ("out_of_memory", False)
    assert await failure(pipelines, {"inputs": "die"}) == ("error", "the model's process ended with 3")
    assert (await failure(pipelines, {"inputs": "x"}, "transformers:other"))[0] == "model_missing"
    assert pipelines._warm.idle == []
    (tmp_path / "transformers.py").write_text("raise ImportError('no such thing')")
    assert (await failure(pipelines, {"inputs": "x"}))[0] == "runner_missing"
    (tmp_path / "transformers.py").write_text("def pipeline(*a, **k):\n    raise OSError('no weights in /models/it')")
    assert await failure(pipelines, {"inputs": "x"}) == ("error", "the model cannot be loaded: no weights in …")


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("text-classification", b"{"),
        ("text-classification", b'{"inputs": ""}'),
        ("text-classification", b'{"inputs": []}'),
        ("text-classification", b'{"inputs": 5}'),
        ("text-classification", b'{"inputs": "a", "model": "other"}'),
        ("text-classification", b'{"inputs": "a", "parameters": {"top_k": 0}}'),
        ("text-classification", b'{"inputs": "a", "parameters": {"trust_remote_code": true}}'),
        ("text-generation", b'{"inputs": "a", "parameters": {"temperature": 3}}'),
        ("text-generation", b'{"inputs": "a", "parameters": {"generate_kwargs": {}}}'),
        ("zero-shot-classification", b'{"inputs": "a"}'),
        ("feature-extraction", b'{"inputs": "a", "parameters": {"return_tensors": "pt"}}'),
        ("text-classification", b"[" * 100_000),
    ],
)
def test_what_was_not_asked_for_as_it_can_be_is_the_inputs_fault(task: str, given: bytes) -> None:
    with pytest.raises(RunFailed) as failed:
        parse(task, given)
    assert failed.value.kind == "bad_input"


async def test_pipelines_stand_in_the_file_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "moods"
    table = f'[transformers.moods]\npath = "{folder}"\ntask = "text-classification"'
    with pytest.raises(Unusable, match="is no folder with a model"):
        load(written(tmp_path, table))
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    there = load(written(tmp_path, table))
    monkeypatch.setattr(config, "find_spec", lambda name: name)
    dispatcher = await assemble(there, Hands("gpt2"))
    assert dispatcher.about()["transformers:moods"].kind == "transformers"
    assert dispatcher.trial("transformers:moods") == {"inputs": "It rains in London today."}
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    assert (await assemble(there, Hands("gpt2"))).models() == ["gpt2"]
    assert "pip install 'pithead[transformers]'" in caplog.text
    for bad in (
        table.replace("text-classification", "image-classification"),
        table.replace(str(folder), "moods"),
        table + '\ndevice = "cpu; x"',
    ):
        with pytest.raises(Unusable):
            load(written(tmp_path, bad))
