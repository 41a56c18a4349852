"""What an engine is told: Podman's and Docker's command lines, and a run with a program in an engine's place."""

import asyncio
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from tests.agent.rig import Hands
from tests.agent.test_llama import assignment
from tests.agent.test_runners import written

from pithead.agent import gpus
from pithead.agent.containers.engine import Engine, Spec, Unavailable, environment, find
from pithead.agent.containers.run import Containers
from pithead.agent.runners.base import About, RunFailed
from pithead.agent.runners.config import Unusable, assemble, kinds, load
from pithead.agent.runners.container import Image, Images
from pithead.agent.sandbox import Limits

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
LIMITS = Limits(memory=1 << 30, processes=64, cpus=1.5, scratch=1 << 20, output=1000, seconds=7)

#: An engine in a few lines of shell: keeps what it is told, and has one image, whose work is to give back its input.
PLAYED = """#!/bin/sh
printf '%s\\n' "$*" >> {folder}/told
case "$1 $2" in
    ps*) cat {folder}/names ;;
    image*) case "$*" in *1111*) echo '{{"/data":{{}}}}' ;; *) echo 'no such image' >&2; exit 1 ;; esac ;;
    create*) env > {folder}/environment; echo made ;;
    start*) cat ;;
    container*) echo '{{"Status":"exited","ExitCode":0,"OOMKilled":false}}' ;;
esac
"""


class Played:
    """The engine, and what it was told."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.program = folder, folder / name
        self.program.write_text(PLAYED.format(folder=folder))
        self.program.chmod(0o755)
        (folder / "names").write_text("")

    @property
    def told(self) -> list[str]:
        return (self.folder / "told").read_text().splitlines()

    def images(self, **options: Any) -> Images:
        return Images({"it": Image(**({"image": ONE} | options))}, Containers(Engine(self.program)))


@pytest.fixture
def docker(tmp_path: Path) -> Played:
    return Played(tmp_path, "docker")


def line(program: str, **options: Any) -> list[str]:
    return Engine(Path("/usr/bin", program)).create("name", Spec(image=ONE, **options), LIMITS)


@pytest.mark.parametrize("program", ["podman", "docker"])
def test_whatever_the_engine_nothing_is_open_that_was_not_opened(program: str) -> None:
    words = line(program, command=["serve", "--fast"], environment={"A": "b c"}, volumes=["/data"])
    assert {
        "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pull=never", "--ipc=private",
        "--pids-limit=64", "--cpus=1.5", "--shm-size=1048576", "--ulimit=core=0:0", "--env=A=b c", "--log-driver=none",
        "--no-healthcheck",
    } <= set(words)  # fmt: skip
    assert words[words.index("--network") + 1] == "none"
    assert words[words.index("--memory") + 1] == words[words.index("--memory-swap") + 1] == str(1 << 30)
    user, group = map(int, words[words.index("--user") + 1].split(":"))
    assert user == group >= 61184
    mounted = [words[i + 1].partition(":")[0] for i, word in enumerate(words) if word == "--tmpfs"]
    assert mounted == ["/work", "/tmp", "/data"]
    assert words[-4:] == ["--", ONE, "serve", "--fast"]
    assert not {"--privileged", "--publish", "-p", "--volume", "-v"} & set(words)


def test_what_only_one_of_them_would_do_by_itself_is_forbidden_to_it() -> None:
    assert {"--http-proxy=false", "--image-volume=ignore", "--systemd=false", "--timeout=17"} <= set(line("podman"))
    assert {"--env=HTTPS_PROXY=", "--env=https_proxy="} <= set(line("docker"))


def test_gpus_are_handed_in_by_name_in_the_words_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    podman, docker = Engine(Path("/usr/bin/podman")), Engine(Path("/usr/bin/docker"))
    assert podman.devices("nvidia", ["0", "GPU-7"]) == ["--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=GPU-7"]
    assert docker.devices("nvidia", ["0", "GPU-7"]) == ['--gpus="device=0,GPU-7"']
    seen = os.stat_result((stat.S_IFCHR, 0, 0, 0, 0, 44, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path, **_: seen)
    assert docker.devices("amd", ["1"]) == ["--device=/dev/kfd", "--device=/dev/dri/renderD129", "--group-add=44"]
    assert docker.devices("none", []) == []


def test_the_engine_is_the_one_that_is_there_or_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt install podman"):
        find()
    Played(tmp_path, "docker")
    assert find().name == "docker"
    Played(tmp_path, "podman")
    assert find().name == "podman"
    assert find("docker").name == "docker"
    with pytest.raises(Unavailable, match="there is no program runner"):
        find("runner")
    monkeypatch.setenv("PITHEAD_KEY", "key_of-the-agent")
    assert "PITHEAD_KEY" not in environment()


async def test_a_run_makes_starts_asks_after_and_removes_a_container(
    docker: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITHEAD_KEY", "key_of-the-agent")
    big = tmp_path / "big"
    big.write_bytes(b"big")
    given = assignment({"a": 1, "network": True, "files": {"small": "b25l"}}, "container:it", files={"big": big})
    result = await docker.images(network=True).run(given, lambda *_: None)
    assert result.data == b'{"a":1}'
    asked, created, started, looked, removed = docker.told
    assert asked.startswith("image inspect")
    assert "--network bridge" in created
    assert f"type=bind,source={big},target=/input/big,readonly" in created
    assert "target=/input/small,readonly" in created
    assert "--tmpfs /data:" in created
    name = started.split()[-1]
    assert (started, removed) == (f"start --attach --interactive {name}", f"rm --force --volumes {name}")
    assert looked.startswith("container inspect")
    assert "key_of-the-agent" not in (tmp_path / "environment").read_text()


async def test_a_job_has_as_many_gpus_as_it_asks_for_of_those_that_the_owner_offers(
    docker: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5,7")
    images = docker.images(gpus="nvidia")
    with images._cards(Image(image=ONE, gpus="nvidia"), 1, ["2", "5", "7"]) as taken:
        assert taken == ["2"]
        await images.run(assignment(1, "container:it", gpu_count=2), lambda *_: None)
    [created] = [words for words in docker.told if words.startswith("create")]
    assert '--gpus="device=5,7"' in created, "not the one that another job has"
    with pytest.raises(RunFailed) as failed:
        await images.run(assignment(1, "container:it", gpu_count=4), lambda *_: None)
    assert failed.value.kind == "runner_missing"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus.Sampler, "take", seen_two)
    await images.run(assignment(1, "container:it", gpu_count=2), lambda *_: None)
    assert '--gpus="device=0,1"' in [words for words in docker.told if words.startswith("create")][-1]


async def seen_two(self: gpus.Sampler, within: float) -> dict[str, Any]:
    return {"gpus": [{"index": 0}, {"index": None}]}


async def test_an_engine_that_fails_is_for_another_miner_to_make_up_for(docker: Played) -> None:
    docker.program.write_text(
        '#!/bin/sh\n[ "$1" = image ] && { echo null; exit; }; echo "daemon is away" >&2; exit 1\n'
    )
    with pytest.raises(RunFailed) as failed:
        await docker.images().run(assignment(1, "container:it"), lambda *_: None)
    assert (failed.value.kind, "daemon" in failed.value.reason) == ("sandbox", False)
    with pytest.raises(Unavailable, match="daemon is away"):
        await Containers(Engine(docker.program)).check()
    docker.program.unlink()
    with pytest.raises(Unavailable, match="cannot be started"):
        await Containers(Engine(docker.program)).check()


async def test_only_what_agents_that_are_no_more_have_left_is_removed(docker: Played) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    mine = f"pithead-job-{os.getpid()}-0-aa"
    left = f"pithead-job-{gone.pid}-{int(time.time())}-bb"
    (docker.folder / "names").write_text(f"{left}\n{mine}\nsomebody-else\n")
    await Containers(Engine(docker.program)).check()
    assert [words.split()[-1] for words in docker.told if words.startswith("rm")] == [left, mine], "a number used again"


async def test_images_stand_in_the_file_by_digest_and_the_owner_picks_of_them(docker: Played, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"""
        engine = "{docker.program}"
        [container.one]
        image = "{ONE}"
        [container.two]
        image = "example.org:5000/two@{TWO}"
        """,
    )
    config = load(file)
    assert kinds(config) == {"llama", "container"}
    runner = await assemble(config, Hands("gpt2"))
    assert runner.about() == {
        "gpt2": About("llama"),
        "container:one": About("container", ONE),
        "container:two": About("container", TWO),
    }
    docker.program.unlink()
    assert (await assemble(config, Hands("gpt2"))).models() == ["gpt2"]


@pytest.mark.parametrize(
    "image", ["busybox", "busybox:latest", "sha256:12", f"{ONE}\n", f"--privileged@{ONE}", f"a@{ONE}x"]
)
def test_an_image_without_a_digest_is_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(Unusable):
        load(written(tmp_path, f"[container.it]\nimage = {json.dumps(image)}"))
