"""Images that try to get out of their containers, with a real engine.

Run where Podman can run containers, which `make test` sees to on a machine with apt and root; see `conftest.py`.
"""

import asyncio
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent.jail import with_mark
from tests.agent.podman import containers, image
from tests.agent.test_command import cached
from tests.agent.test_llama import assignment

from pithead.agent.containers.engine import find
from pithead.agent.containers.run import Containers
from pithead.agent.runners.base import RunFailed, RunResult
from pithead.agent.runners.container import Image, Images

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"memory": 96, "processes": 24, "scratch": 8, "output": 1, "seconds": 20}


@pytest.fixture(scope="module")
def busybox() -> Iterator[str]:
    with image() as made:
        yield f"sha256:{made.removeprefix('sha256:')}"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No container, and no file where the agent was started or in its temporary folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    yield
    assert list(here.iterdir()) == []
    mine = [name for name in containers() if name.startswith(f"pithead-job-{os.getpid()}-")]
    assert mine == []


def shell(made: str, script: str, **options: Any) -> Images:
    listed = Image(image=made, command=["sh", "-c", script], **(SMALL | options))
    return Images({"it": listed}, Containers(find("podman")))


async def run(images: Images, given: Any = None, **task: Any) -> RunResult:
    return await images.run(assignment(given, "container:it", **task), lambda *_: None)


async def says(made: str, script: str, **options: Any) -> str:
    return (await run(shell(made, script, **options))).data.decode()


async def failure(images: Images, given: Any = None, **task: Any) -> tuple[str, str]:
    with pytest.raises(RunFailed) as failed:
        await run(images, given, **task)
    return failed.value.kind, failed.value.reason


async def test_it_gets_its_input_and_its_files_and_its_answer_is_what_it_writes(busybox: str, tmp_path: Path) -> None:
    images = shell(busybox, "cat; cat /input/small /input/big | wc -c; touch /input/new /input/big; true")
    given = {"k": 1, "files": {"small": "b25l"}}
    result = await run(images, given, files={"big": cached(tmp_path, bytes(3 << 20))})
    assert result.data == b'{"k":1}%d\n' % (3 + (3 << 20))
    assert result.metrics.execution_time_seconds
    assert not (tmp_path / "new").exists()


async def test_it_is_nobody_without_rights_and_sees_nothing_of_the_machine(
    busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"key_{secrets.token_hex(8)}"
    (tmp_path / "default.toml").write_text(key)
    monkeypatch.setenv("PITHEAD_KEY", key)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{key}@127.0.0.1")
    said = await says(
        busybox,
        f"""
        cat {tmp_path}/default.toml /proc/1/root{tmp_path}/default.toml /proc/*/environ; env
        echo "found $(find / -name default.toml 2>/dev/null | wc -l)"
        grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:|^Uid' /proc/self/status
        for device in /dev/vda /dev/sda /dev/mem /dev/kmsg; do [ -e $device ] && echo "DEVICE $device"; done
        ls /proc | grep -c '^[0-9]'; mount -t tmpfs tmpfs /work; chroot / true; mknod /work/disk b 8 0 && echo NODE
        echo > /proc/sys/kernel/hostname && echo RENAMED; hostname
        """,
    )
    assert key not in said
    assert "found 0\n" in said
    assert re.findall(r"Cap\w+:\s*(\w+)", said) == ["0" * 16] * 4
    assert re.search(r"NoNewPrivs:\s*1\nSeccomp:\s*2\n", said)
    user = re.search(r"Uid:\s*(\d+)", said)
    assert user is not None
    assert int(user[1]) >= 61184
    assert not re.search("DEVICE|NODE|RENAMED", said)
    assert said.endswith("job\n")


async def test_it_has_a_network_only_where_job_and_owner_both_say_so(busybox: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        script = f"ls /sys/class/net; nc -w 2 127.0.0.1 {port} </dev/null && echo REACHED; true"
        assert await says(busybox, script) == "lo\n"
        assert (await run(shell(busybox, script, network=True), {"a": 1})).data == b"lo\n", "the job asks for none"
    kind, reason = await failure(shell(busybox, script), {"network": True})
    assert (kind, "no network" in reason) == ("runner_missing", True)
    assert (await failure(shell(busybox, script), {"network": "yes"}))[0] == "bad_input"


async def test_it_can_write_to_its_scratch_folders_alone_and_only_so_much() -> None:
    with image(volume="/data") as made:
        said = await says(
            f"sha256:{made.removeprefix('sha256:')}",
            """
            for folder in / /bin /etc /dev /usr /input /sys /proc /run /data /work /tmp /dev/shm; do
                dd if=/dev/zero of=$folder/fill bs=1M count=12 2>/dev/null
                [ -e $folder/fill ] && echo "$folder $(stat -c %s $folder/fill)" && rm $folder/fill
            done; true
            """,
        )
    sizes = dict(line.split() for line in said.splitlines())
    assert set(sizes) == {"/work", "/tmp", "/dev/shm", "/data"}
    assert all(int(size) <= 8 << 20 for size in sizes.values())


async def test_it_cannot_fork_without_end_nor_eat_memory(busybox: str) -> None:
    mark = f"bomb-{secrets.token_hex(4)}"
    bomb = f": {mark}; b() {{ b | b & b; }}; b; sleep 100"
    eats = 'x=$(head -c 300000000 /dev/zero | tr "\\0" a); echo SURVIVED'
    bombed, eaten = await asyncio.gather(
        failure(shell(busybox, bomb, seconds=2)), failure(shell(busybox, eats)), return_exceptions=True
    )
    assert not isinstance(bombed, BaseException)
    assert bombed[0] in ("timeout", "error")
    assert with_mark(mark) == []
    assert eaten == ("out_of_memory", "it took more than the 96 MB that it may here")


async def test_time_and_answer_are_bounded_whatever_it_does(busybox: str) -> None:
    deaf = shell(busybox, "trap '' TERM INT HUP; exec >&-; while :; do sleep 1; done", seconds=1.5)
    endless = shell(busybox, "yes")
    slow, long = await asyncio.gather(failure(deaf), failure(endless))
    assert slow[0] == "timeout"
    assert long == ("error", f"it answered with more than the {1 << 20} bytes that it may here")


async def test_its_end_has_the_meaning_that_a_programs_has(busybox: str) -> None:
    ends = [failure(shell(busybox, f"echo why >&2; exit {status}")) for status in (65, 3)]
    missing = Images({"it": Image(image=busybox, command=["/nowhere"], **SMALL)}, Containers(find("podman")))
    gone = shell("sha256:" + "0" * 64, "true")
    assert [kind for kind, _ in await asyncio.gather(*ends, failure(missing), failure(gone))] == [
        "bad_input",
        "error",
        "runner_missing",
        "model_missing",
    ]


@pytest.mark.parametrize("after", [0.0, 0.1, 0.4, 0.8])
async def test_one_that_is_cancelled_leaves_nothing_whenever_that_is(busybox: str, after: float) -> None:
    """Looked at by `nothing_is_left`, also where it is cancelled twice."""
    mark = f"left-{secrets.token_hex(4)}"
    task = asyncio.create_task(run(shell(busybox, f": {mark}; trap '' TERM; sleep 100 & sleep 100")))
    await asyncio.wait([task], timeout=after)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert with_mark(mark) == []


async def test_one_that_is_cancelled_while_it_begins_leaves_no_monitor(busybox: str) -> None:
    """Podman's own process beside a container, which names it, ends with it: also where it has only just been begun."""
    for moment in range(24):
        task = asyncio.create_task(run(shell(busybox, "sleep 100")))
        await asyncio.wait([task], timeout=0.04 + moment * 0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(20):
        while with_mark(f"pithead-job-{os.getpid()}-"):  # noqa: ASYNC110 (of other processes)
            await asyncio.sleep(0.05)


async def test_what_a_killed_agent_left_is_removed_by_the_next_and_what_runs_is_not(busybox: str) -> None:
    program = (
        "import asyncio; from tests.agent import test_container_escape as t;"
        f"asyncio.run(t.run(t.shell({busybox!r}, 'sleep 100')))"
    )
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    mine = f"pithead-job-{agent.pid}-"
    try:
        async with asyncio.timeout(20):
            while not any(name.startswith(mine) for name in containers()):  # noqa: ASYNC110 (of another process)
                await asyncio.sleep(0.05)
        await Containers(find("podman")).check()
        assert any(name.startswith(mine) for name in containers()), "its agent lives"
    finally:
        agent.kill()
        await agent.wait()
    await Containers(find("podman")).check()
    assert not any(name.startswith(mine) for name in containers())
