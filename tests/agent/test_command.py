"""Programs of the owner's, run in the sandbox for jobs."""

import asyncio
import base64
import secrets
from pathlib import Path
from typing import Any

import pytest
from tests.agent.jail import with_mark
from tests.agent.test_llama import assignment

from pithead.agent.runners.base import RunFailed, RunResult
from pithead.agent.runners.command import Command, Commands
from pithead.agent.sandbox import Sandbox
from pithead.wire.miners import JobLimits


def shell(script: str, **options: Any) -> Commands:
    return Commands({"it": Command(command=["/bin/sh", "-c", script], **options)}, Sandbox())


async def run(commands: Commands, given: Any = None, model: str = "command:it", **task: Any) -> RunResult:
    return await commands.run(assignment(given, model, **task), lambda *_: None)


async def failure(commands: Commands, given: Any = None, model: str = "command:it", **task: Any) -> tuple[str, str]:
    with pytest.raises(RunFailed) as failed:
        await run(commands, given, model, **task)
    return failed.value.kind, failed.value.reason


async def test_the_input_is_read_and_what_is_written_is_the_result() -> None:
    commands = shell("cat")
    assert commands.models() == ["command:it"]
    inputs: tuple[Any, ...] = ({"x": [1, 2.5, "ü"]}, "text", 7, None, [])
    for given in inputs:
        result = await run(commands, given)
        assert result.data == bytes(assignment(given).input)
    assert result.metrics.execution_time_seconds
    await commands.close()


async def test_files_are_found_in_a_folder_of_their_own() -> None:
    files = {"a.txt": base64.b64encode(b"one").decode(), "b": base64.b64encode(bytes(300_000)).decode()}
    result = await run(shell("cat; cat /input/a.txt; wc -c </input/b; ls /input"), {"k": 1, "files": files})
    assert result.data == b'{"k":1}one300000\na.txt\nb\n'


def cached(folder: Path, content: bytes) -> Path:
    """A file as the agent's cache keeps it: behind a folder that nobody else goes through."""
    folder.chmod(0o700)
    file = folder / ("ab" * 32)
    file.write_bytes(content)
    file.chmod(0o444)
    return file


async def test_input_files_are_found_there_too_and_only_read(tmp_path: Path) -> None:
    big = cached(tmp_path, bytes(3 << 20))
    script = (
        "wc -c < /input/big; cat /input/small; echo x >> /input/big; rm -f /input/big; chmod 777 /input/big; ls /input"
    )
    given = {"files": {"small": base64.b64encode(b"inline ").decode()}}
    result = await run(shell(script), given, files={"big": big})
    assert result.data == b"3145728\ninline big\nsmall\n"
    assert (big.stat().st_size, big.stat().st_mode & 0o777, big.stat().st_nlink) == (3 << 20, 0o444, 1)
    twice = {"files": {"big": base64.b64encode(b"x").decode()}}
    assert await failure(shell("true"), twice, files={"big": big}) == (
        "bad_input",
        "files: big is an input file too; give one of them another name",
    )
    link = tmp_path / "link"
    link.symlink_to(big)
    assert await failure(shell("cat /input/a"), files={"a": link}) == (
        "error",
        "this miner could not start the program",
    )


async def test_a_job_is_held_to_its_own_limits_which_only_lower_those_of_the_owner() -> None:
    asked = JobLimits(memory_bytes=64 << 20, scratch_bytes=1 << 20, pids=20, output_bytes=1000, wall_clock_seconds=5)
    script = "prlimit --nproc --noheadings -o SOFT; dd if=/dev/zero of=/work/a bs=64k count=64 2>/dev/null; stat -c %s /work/a; cat /work/a"
    kind, reason = await failure(shell(script), limits=asked)
    assert (kind, reason) == ("error", "it answered with more than the 1000 bytes that it may here")
    result = await run(shell(script.rpartition(";")[0]), limits=asked)
    assert result.data.split() == [b"20", b"1048576"]
    short = JobLimits(wall_clock_seconds=0.2)
    assert (await failure(shell("sleep 60"), limits=short))[0] == "timeout"
    for field, most in (("memory_bytes", 2048 << 20), ("pids", 128), ("wall_clock_seconds", 600)):
        kind, reason = await failure(shell("true"), limits=JobLimits(**{field: most + 1}))
        assert kind == "over_limit"
        assert reason.endswith(f"; this miner gives {most}")
        await run(shell("true"), limits=JobLimits(**{field: most}))


@pytest.mark.parametrize(
    "files",
    [5, ["a"], {"a": 5}, {"../a": ""}, {"": ""}, {".hidden": ""}, {"a/b": ""}, {"a": "%%%"}, {"a" * 200: ""}],
)
async def test_files_that_are_none_are_the_inputs_fault(files: Any) -> None:
    kind, reason = await failure(shell("echo never"), {"files": files})
    assert kind == "bad_input"
    assert reason.startswith("files: ")


@pytest.mark.parametrize(
    ("script", "options", "kind", "reason"),
    [
        ("echo no colour >&2; exit 65", {}, "bad_input", "the program does not take this input: no colour"),
        ("exit 1", {}, "error", "the program ended with 1"),
        ("echo a >&2; echo b >&2; exit 3", {}, "error", "the program ended with 3: b"),
        ("kill -SEGV $$", {}, "error", "the program ended with 139"),
        ("exec /nowhere/it", {}, "runner_missing", "the program is not where its owner says"),
        ("sleep 60", {"seconds": 0.3}, "timeout", "the program took longer than the 0.3 s that it may here"),
        ("yes", {"output": 1}, "error", "it answered with more than the 1048576 bytes that it may here"),
        (
            "for i in 1 2 3 4 5 6 7 8; do perl -e 'my $n = 30 << 20; my $x = \"a\" x $n; sleep 60' & done; wait",
            {"memory": 100, "seconds": 20},
            "out_of_memory",
            "it took more than the 100 MB that it may here",
        ),
    ],
    ids=["bad-input", "status", "said", "signal", "missing", "timeout", "output", "memory"],
)
async def test_an_end_has_the_kind_that_decides_whether_another_may_try(
    script: str, options: dict[str, Any], kind: str, reason: str
) -> None:
    assert await failure(shell(script, **options)) == (kind, reason)


async def test_only_what_the_owner_lists_is_run() -> None:
    commands = shell("echo here")
    for model in ("command:other", "it", "command:", "/bin/sh", "command:/bin/sh", "command:it "):
        assert (await failure(commands, model=model))[0] == "model_missing"
    # Nothing of the input comes to the line.
    assert (await run(commands, {"command": ["/bin/id"], "args": ["; id"]})).data == b"here\n"


async def test_without_a_sandbox_the_job_is_refused_for_another_miner_to_take(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    commands = Commands({"it": Command(command=["/usr/bin/touch", str(trace)])}, Sandbox(Path("/bin/false")))
    assert await failure(commands) == ("sandbox", "this miner cannot run programs safely")
    assert not trace.exists()


async def test_it_reads_what_the_owner_names_and_has_the_owners_variables(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho $GREETING\n")
    tool.chmod(0o755)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    command = Command(command=[str(tool)], read=[str(tool)], environment={"GREETING": "hello"})
    commands = Commands({"it": command}, Sandbox())
    assert (await run(commands)).data == b"hello\n"


async def test_a_run_that_is_cancelled_leaves_no_process() -> None:
    mark = f"cancelled-{secrets.token_hex(4)}"
    task = asyncio.create_task(run(shell(f"trap '' TERM; : {mark}; sleep 1000")))
    while not with_mark(mark):  # noqa: ASYNC110 (a process is looked for, which tells nobody that it is there)
        await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.wait([task])
    assert asyncio.get_running_loop().time() - began < 2
    assert with_mark(mark) == []
