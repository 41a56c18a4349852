"""A small crash campaign: at least 20 kills, on both databases. `make crash` is the large one."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
from tests.crash.campaign import TARGETS, Report, targets

KILLS = 20


def test_whatever_is_killed_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.crash", "--kills", str(KILLS), "--json", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr + done.stdout
    reports = msgspec.json.decode(done.stdout, type=list[Report])
    assert [report.database for report in reports] == ["sqlite", "postgres"]
    assert sum(sum(report.kills.values()) for report in reports) == KILLS
    for report in reports:
        assert report.violations == []
        # It was under load, and everything that there is to kill was killed.
        assert report.kills.keys() == TARGETS[report.database].keys()
        assert report.faults
        assert report.jobs["completed"] > 0
        assert report.results_fetched > 0
        assert report.calls.keys() >= {"submit", "accept", "upload", "complete", "credit"}
        assert report.histories >= 12


def test_the_seed_says_what_is_killed() -> None:
    assert targets("postgres", 100, Random(1)) == targets("postgres", 100, Random(1))
    assert targets("postgres", 100, Random(1)) != targets("postgres", 100, Random(2))
    for database, kinds in TARGETS.items():
        chosen = targets(database, 10, Random(3))
        assert len(chosen) == 10
        assert set(chosen) == set(kinds)
