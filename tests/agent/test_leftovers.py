"""Temporary folders that an agent's earlier life left."""

import os
import subprocess
import tempfile
from pathlib import Path

from pithead.agent.leftovers import clear, prefix


def test_folders_of_processes_that_are_no_more_are_removed_and_no_others(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    gone = tmp_path / f"pithead-{process.pid}-abc"
    gone.mkdir()
    (gone / "socket").touch()
    mine = Path(tempfile.mkdtemp(prefix=prefix(), dir=tmp_path))
    other = tmp_path / "pithead-of-somebody"
    other.mkdir()
    file = tmp_path / f"pithead-{process.pid}-file"
    file.touch()
    link = tmp_path / f"pithead-{process.pid}-link"
    link.symlink_to(other)
    assert clear(tmp_path) == 1
    assert {left.name for left in tmp_path.iterdir()} == {mine.name, other.name, file.name, link.name}
    assert str(os.getpid()) in mine.name
    assert clear(tmp_path) == 0
