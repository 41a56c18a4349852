"""Several runners as one, and the file that names them."""

import importlib.metadata
import re
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from tests.agent.rig import Hands, Rig
from tests.agent.test_llama import assignment

from pithead.agent.runners import config
from pithead.agent.runners.base import About, RunFailed
from pithead.agent.runners.config import Unusable, assemble, load
from pithead.agent.runners.dispatch import Dispatcher
from pithead.agent.sandbox import Sandbox
from pithead.agent.trial import attempt

ROOT = Path(__file__).parents[2]


async def test_each_job_goes_to_the_runner_that_has_its_model(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Hands("gpt2", "both"), Hands("command:it", "both")
    dispatcher = Dispatcher([("llama", first), ("command", second)], {"command:it": "sha256:1"})
    assert dispatcher.models() == ["both", "command:it", "gpt2"]
    assert dispatcher.about() == {
        "gpt2": About("llama"),
        "both": About("llama"),
        "command:it": About("command", "sha256:1"),
    }
    assert "both is here twice" in caplog.text
    async with rig.life(dispatcher) as _:  # type: ignore[arg-type]
        for model in ("gpt2", "command:it", "both"):
            await rig.client.submit(model=model)
        await rig.settled()
        assert (first.at_once, second.at_once) == (4, 4)
        assert sorted(work.assignment.model for work in first.works) == ["both", "gpt2"]
        assert [work.assignment.model for work in second.works] == ["command:it"]
    assert first.closed
    assert second.closed
    with pytest.raises(RunFailed) as failed:
        await dispatcher.run(assignment({}, "nobody's"), lambda *_: None)
    assert failed.value.kind == "model_missing"


async def test_one_that_cannot_close_keeps_none_of_the_others_from_it() -> None:
    class Broken(Hands):
        async def close(self) -> None:
            raise OSError("stuck")

    last = Hands("b")
    with pytest.raises(OSError, match="stuck"):
        await Dispatcher([("first", Broken("a")), ("last", last)]).close()
    assert last.closed


# ---- runners.toml


def written(folder: Path, text: str) -> Path:
    file = folder / "runners.toml"
    file.write_text(text)
    return file


async def test_programs_and_servers_are_named_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(
        tmp_path,
        """
        [command.count-words]
        command = ["/usr/bin/wc", "-w"]
        seconds = 5
        [openai.away]
        url = "http://127.0.0.1:9/v1"
        """,
    )
    runner = await assemble(load(file), Hands("gpt2"), environment={})
    assert runner.models() == ["command:count-words", "gpt2"]
    assert "http://127.0.0.1:9/v1 does not name its models" in caplog.text
    result = await runner.run(assignment("one two three", "command:count-words"), lambda *_: None)
    assert result.data == b"3\n"
    await runner.close()
    assert load(tmp_path / "none.toml") == config.Config()


async def test_programs_are_not_offered_where_there_is_no_sandbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path, '[command.it]\ncommand = ["/bin/true"]')
    runner = await assemble(load(file), Hands("gpt2"), sandbox=Sandbox(Path("/bin/false")))
    assert runner.models() == ["gpt2"]
    assert "no programs are offered" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "cannot be used"),
        ("[commands.it]", "unknown field `commands`"),
        ("[command.it]", "missing required field `command`"),
        ('[command.it]\ncommand = "ls"', "Expected `array`"),
        ('[command.it]\ncommand = ["ls"]', "command.it: ls is not there; name files from the root on"),
        ('[command.it]\ncommand = ["/nowhere/it"]', "command.it: /nowhere/it is not there"),
        ('[command.it]\ncommand = ["/bin/ls"]\nread = ["/nowhere"]', "/nowhere is not there"),
        ('[command.it]\ncommand = ["/bin/ls"]\nmemory = 0', "Expected `int` >= 1"),
        ('[command."It !"]\ncommand = ["/bin/ls"]', "'It !' is no name"),
        ('[openai.it]\nurl = "http://x"\nkey = "secret"', "unknown field `key`"),
    ],
)
def test_a_file_that_cannot_be_used_says_so_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Unusable) as unusable:
        load(written(tmp_path, text))
    assert said in str(unusable.value)
    assert str(tmp_path) in str(unusable.value)
    assert "secret" not in str(unusable.value)


# ---- plug-ins


def example() -> dict[str, Any]:
    """The code of the page on writing a runner, run as it stands."""
    page = (ROOT / "docs" / "how-to" / "write-a-runner.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {"__name__": "my_runner"}
    exec(compile(code, "write-a-runner.md", "exec"), scope)
    return scope


async def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plug-in that the owner names, with the settings of its table."""
    scope = example()
    monkeypatch.setattr(EntryPoint, "load", lambda point: scope[point.attr])
    offered = EntryPoints([EntryPoint("shout", "my_runner:make", config.GROUP)])
    monkeypatch.setattr(config, "entry_points", lambda group: offered.select(group=group))
    runner = await assemble(load(written(tmp_path, '[plugin.shout]\nmark = "?"')))
    assert runner.models() == ["shout"]
    runner.prepare(1)
    result = await runner.run(assignment("hello", "shout"), lambda *_: None)
    assert result.data == b'"HELLO?"'
    with pytest.raises(RunFailed) as failed:
        await runner.run(assignment(5, "shout"), lambda *_: None)
    assert failed.value.kind == "bad_input"
    assert runner.about() == {"shout": About("shout")}
    [trial] = [trial async for trial in attempt(runner, ["shout"])]
    assert (trial.works, trial.kind, trial.tokens_per_second) == (True, "shout", None)
    await runner.close()


async def test_plug_ins_are_loaded_only_where_the_owner_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = EntryPoints([EntryPoint("shout", "nowhere.at_all:make", config.GROUP)])
    monkeypatch.setattr(config, "entry_points", lambda group: offered.select(group=group))
    assert (await assemble(load(tmp_path / "none.toml"))).models() == []
    with pytest.raises(Unusable, match=r"plugin.whisper: no installed package .*there are: shout"):
        await assemble(load(written(tmp_path, "[plugin.whisper]")))
    with pytest.raises(Unusable, match=r"plugin\.shout: ModuleNotFoundError"):
        await assemble(load(written(tmp_path, "[plugin.shout]")))


def test_no_package_of_ours_offers_plug_ins_unasked() -> None:
    assert [point for point in importlib.metadata.entry_points(group=config.GROUP) if "pithead" in point.value] == []
