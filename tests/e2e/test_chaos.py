"""A short run of `make chaos`: every job ends once, and nothing is left behind."""

from pathlib import Path

from tests.e2e.chaos import chaos


def test_agents_that_are_killed_stopped_cut_off_and_restarted_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    came = chaos(tmp_path, jobs=25, machines=2, calm_after=10, seed=20, say=said.append)
    assert came.acts.total() >= 3, said
