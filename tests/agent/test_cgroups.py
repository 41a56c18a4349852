"""Control groups where this machine may not have them: folders with the files that the kernel would put there."""

import os
from pathlib import Path

from pithead.agent.sandbox import cgroups
from pithead.agent.sandbox.limits import Limits

LIMITS = Limits(memory=1000, processes=7, cpus=1.5)
FILES = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.procs", "memory.events")


def unified(root: Path, *, controllers: str, processes: str) -> Path:
    """A version 2 hierarchy, of which this process is at the top."""
    (root / "cgroup.controllers").write_text("cpu memory pids")
    (root / "cgroup.subtree_control").write_text(controllers)
    (root / "cgroup.procs").write_text(processes)
    return root


def test_version_2_is_one_folder_with_every_limit(tmp_path: Path) -> None:
    group = cgroups.Unified(tmp_path)
    for name in FILES:
        (tmp_path / name).touch()
    group.limit(LIMITS)
    group.take_in(12345)
    said = {name: (tmp_path / name).read_text() for name in FILES}
    assert said == {
        "memory.max": "1000", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "7",
        "cpu.max": "150000 100000", "cgroup.procs": "12345", "memory.events": "",
    }  # fmt: skip
    assert not group.out_of_memory()
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert group.out_of_memory()


def test_there_is_no_group_where_a_limit_cannot_be_set_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Without files below it, as where a controller is not given on."""
    unified(tmp_path, controllers="memory pids", processes="")
    before = sorted(tmp_path.iterdir())
    assert cgroups.create(LIMITS, tmp_path) is None
    assert sorted(tmp_path.iterdir()) == before
    assert cgroups.create(LIMITS, tmp_path / "nowhere") is None


def test_an_agent_that_is_alone_in_its_group_moves_aside(tmp_path: Path) -> None:
    root = unified(tmp_path, controllers="", processes=f"{os.getpid()}\n")
    aside = root / "pithead-agent"
    aside.mkdir()
    (aside / "cgroup.procs").touch()
    cgroups.create(LIMITS, root)
    assert (aside / "cgroup.procs").read_text() == str(os.getpid())
    assert "+cpu" in (root / "cgroup.subtree_control").read_text()


def test_a_group_with_other_processes_is_left_as_it_is(tmp_path: Path) -> None:
    """Such as a terminal's: they are not the agent's to move."""
    root = unified(tmp_path, controllers="", processes=f"1\n{os.getpid()}\n")
    cgroups.create(LIMITS, root)
    assert not (root / "pithead-agent").exists()


def test_empty_groups_of_an_agent_that_was_killed_are_removed(tmp_path: Path) -> None:
    gone = 2**31  # No process has such a number.
    left, used = tmp_path / "memory" / "a" / f"pithead-job-{gone}-1", tmp_path / "memory" / f"pithead-job-{gone}-2"
    fresh = tmp_path / "memory" / f"pithead-job-{os.getpid()}-3"
    for folder in (left, used / "busy", fresh):
        folder.mkdir(parents=True)
    cgroups.remove_left(tmp_path)
    assert not left.exists()
    assert used.exists()
    assert fresh.exists(), "its agent lives, and is about to put a job into it"
