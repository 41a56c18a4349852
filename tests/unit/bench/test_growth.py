"""What growth costs is measured at each size for which there is room, and told beside its goal."""

import io
import shutil
from collections import namedtuple
from pathlib import Path

import msgspec
import pytest
from bench import growth, report
from bench.contenders import Contender
from bench.fleet import Fleet
from bench.growth import SIZES, Grown, LeftOut, Size
from bench.machine import Machine
from bench.measures import Target
from bench.progress import Progress
from bench.run import Outcome, Plan
from rich.console import Console

Usage = namedtuple("Usage", "total used free")


def _outcome(grown: list[Grown], left_out: list[LeftOut]) -> Outcome:
    machine = Machine("a processor", 2, 24.0, "Linux", "3.11", "3.5", "ext4", 0.1, 0.2)
    plan = Plan(measures=(), contenders=(), rounds=1, seconds=1.0, warm_up=0.0, connections=1)
    return Outcome(
        machine, plan, {}, {}, [], None, None, grown, left_out, completed=0, faults=[], stages={"growth": 90.0}
    )


def _grown(size: Size, cost: float) -> Grown:
    return Grown(size, [(cost, 100.0)], p99=0.02, started_in=1.0, memory=2**27, filled_in=200.0, written=40_000_000_000)


def test_the_sizes_reach_fifty_million_finished_and_ten_million_queued_jobs() -> None:
    assert SIZES[0] == Size()
    assert Size(finished=50_000_000) in SIZES
    assert Size(jobs=10_000_000) in SIZES


def test_a_size_for_which_there_is_no_room_is_left_out_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**9))
    told: list[str] = []
    size = Size(jobs=100_000, miners=4)
    found, left_out = growth.measure(tmp_path, (0, 0), lambda line, done=0, total=0: told.append(line), [size])
    assert (found, [one.size for one in left_out]) == ([], [size])
    assert left_out[0].why.endswith("GB on the disk, where 1.0 GB are free")
    assert list(tmp_path.iterdir()) == []
    assert told == ["growth: 100,000 jobs of 100 kinds, 4 miners, 0 finished: filling"]


async def test_the_smallest_is_measured_by_turns_with_each_so_that_a_machine_that_slows_down_shows_in_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speed = iter((1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 3.0, 3.0))
    asked: list[str] = []

    async def window(target: Target, warm_up: float) -> tuple[float, list[float]]:
        asked.append(target.contender.name)
        return next(speed) * (110.0 if target.contender.name == "grown" else 100.0), [len(asked) / 1000]

    monkeypatch.setattr(growth, "_window", window)
    nobody = Fleet([], "")
    windows, p99 = await growth._by_turns(Contender("grown", [], nobody, 0), Contender("smallest", [], nobody, 0))
    assert asked == ["smallest", "grown"] * 4
    assert p99 == 0.008, "of the grown one alone"
    found = msgspec.structs.replace(_grown(Size(miners=1), 0.0), windows=windows)
    assert found.ratio == pytest.approx(1.1)
    assert (found.cost, found.smallest) == (275.0, 250.0)


def test_the_report_has_the_cost_at_each_size_against_the_smallest() -> None:
    sizes = (Size(), Size(finished=50_000_000), Size(jobs=10_000_000), Size(jobs=10_000_000, kinds=1))
    outcome = _outcome([_grown(size, cost) for size, cost in zip(sizes, (101.0, 110.0, 120.0, 90.0), strict=True)], [])
    assert "101 µs of processor time a request, the smallest beside it 100 (1.01), p99" in "\n".join(
        report.notes(outcome)
    )
    assert [str(verdict) for verdict in report.verdicts(outcome)] == [
        "cost with 50,000,000 finished jobs against none, at most 1.15: 1.1, reached",
        "cost with 10,000,000 queued jobs against 1,000, at most 1.15: 1.2, missed",
        "cost with 10,000,000 queued jobs against 1,000 and 1 kinds against 100, at most 1.15: 0.9, reached",
    ]
    assert report.flat(outcome)["growth.1000_jobs.100_kinds.512_miners.50000000_finished.fill_seconds"] == 200.0


def test_the_report_says_what_was_left_out_and_how_long_the_run_took() -> None:
    outcome = _outcome([_grown(Size(), 100.0)], [LeftOut(Size(finished=50_000_000), "needs 41.7 GB on the disk")])
    *_, left_out, took = report.notes(outcome)
    assert left_out == (
        "1,000 jobs of 100 kinds, 512 miners, 50,000,000 finished: not measured, it needs 41.7 GB on the disk"
    )
    assert took == "the run took 1.5 minutes: growth 1.5"


def _told(console: Console) -> None:
    with Progress(console) as say:
        say("starting")
        for done in range(0, 101, 4):
            say("filling", done, 100)
        say("measuring")


def test_in_a_log_there_is_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    _told(Console(file=out))
    lines = out.getvalue().splitlines()
    assert (lines[0], lines[-1]) == ("starting", "measuring")
    assert lines[1:-1] == [f"filling: {done} of 100" for done in (0, 12, 20, 32, 40, 52, 60, 72, 80, 92, 100)]


def test_a_terminal_shows_a_bar() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=80)) as say:
        say("filling", 30, 40)
    assert "filling" in out.getvalue()
    assert "━" in out.getvalue()
    assert "75%" in out.getvalue()
