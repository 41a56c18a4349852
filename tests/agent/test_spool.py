"""Results on the disk: whole or not there, and never another agent's."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pithead.agent.spool import Finished, InUse, Spool
from pithead.wire.miners import Metrics

METRICS = Metrics(execution_time_seconds=1.5, completion_tokens=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


def test_what_is_added_is_there_for_a_later_life_until_it_is_removed(folder: Path) -> None:
    first = Spool(folder).add("job_1", "lease_1", b"one", METRICS)
    second = Spool(folder).add("job_2", "lease_2", b"", METRICS)
    assert first == Finished(
        job_id="job_1",
        lease_token="lease_1",
        result_hash="sha256:" + hashlib.sha256(b"one").hexdigest(),
        size=3,
        metrics=METRICS,
    )
    later = Spool(folder)
    assert {finished.job_id: finished for finished in later.pending()} == {"job_1": first, "job_2": second}
    path = later.payload(first)
    assert isinstance(path, Path)
    assert path.read_bytes() == b"one"
    later.remove(first)
    assert later.pending() == [second]
    later.remove(second)
    later.remove(second)
    assert list(folder.iterdir()) == []


def test_two_attempts_at_one_job_are_two_results(folder: Path) -> None:
    spool = Spool(folder)
    spool.add("job_1", "lease_1", b"one", METRICS)
    spool.add("job_1", "lease_2", b"two", METRICS)
    assert {finished.lease_token for finished in spool.pending()} == {"lease_1", "lease_2"}


def test_nobody_else_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        Spool(folder).add("job_1", "lease_1", b"one", METRICS)
    finally:
        os.umask(before)
    assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600, 0o600]
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("job", ["../../etc/passwd", "a/b", "x" * 5000, "..", "", "a\0b"])
def test_a_name_from_elsewhere_is_no_part_of_a_path(job: str, folder: Path) -> None:
    spool = Spool(folder)
    finished = spool.add(job, "../lease", b"one", METRICS)
    assert spool.bytes_of(finished).parent == folder
    assert spool.pending() == [finished]


def test_what_a_crash_left_half_written_is_removed_and_nothing_else(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(folder)
    whole = spool.add("job_1", "lease_1", b"one", METRICS)
    # Between the two files.
    alone = spool.add("job_2", "lease_2", b"two", METRICS)
    spool.bytes_of(alone).with_suffix(".json").unlink()
    # In the middle of the bytes, and of the words.
    (folder / ("a" * 32 + ".result.part")).write_bytes(b"th")
    (folder / ("b" * 32 + ".json.part")).write_bytes(b"{")
    # A disk that lost something.
    torn = spool.add("job_3", "lease_3", b"three", METRICS)
    spool.bytes_of(torn).write_bytes(b"th")
    gone = spool.add("job_4", "lease_4", b"four", METRICS)
    spool.bytes_of(gone).unlink()
    (folder / ("c" * 32 + ".json")).write_bytes(b"\0\0\0")
    (folder / ("d" * 32 + ".json")).write_bytes(b'{"job_id": 5}')
    (folder / "notes.txt").write_text("of the owner")
    assert Spool(folder).pending() == [whole]
    assert {file.name for file in folder.iterdir()} == {
        spool.bytes_of(whole).name,
        spool.bytes_of(whole).with_suffix(".json").name,
        "notes.txt",
    }
    assert len(caplog.records) == 4, "what was finished once is not dropped without a word"


def test_an_empty_or_absent_folder_has_nothing(folder: Path) -> None:
    assert Spool(folder).pending() == []
    folder.mkdir(parents=True)
    assert Spool(folder).pending() == []


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_on_a_full_disk_it_is_kept_in_memory_and_leaves_nothing(
    step: int, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps, fsync = iter(range(100)), os.fsync

    def full(descriptor: int) -> None:
        if next(steps) == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    spool = Spool(folder)
    finished = spool.add("job_1", "lease_1", b"one", METRICS)
    assert spool.payload(finished) == b"one"
    assert finished.result_hash == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert "No space left on device" in caplog.text
    assert list(folder.iterdir()) == []
    spool.remove(finished)


def test_what_cannot_be_removed_stops_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(folder)
    finished = spool.add("job_1", "lease_1", b"one", METRICS)
    stuck = spool.bytes_of(finished)
    stuck.unlink()
    stuck.mkdir()
    spool.remove(finished)
    assert "cannot be removed" in caplog.text
    assert spool.pending() == []


def test_the_words_do_not_carry_the_bytes(folder: Path) -> None:
    spool = Spool(folder)
    finished = spool.add("job_1", "lease_1", b"one", METRICS)
    words = msgspec.json.decode(spool.bytes_of(finished).with_suffix(".json").read_bytes())
    assert words["data"] is None


def test_one_agent_at_a_time(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pithead.agent.spool import InUse, Spool\n"
        "try:\n    with Spool(Path(sys.argv[1])).lock(): print('mine')\n"
        "except InUse: print('in use')"
    )

    def another_process() -> str:
        command = [sys.executable, "-c", program, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    with Spool(folder).lock():
        assert another_process() == "in use"
        with pytest.raises(InUse), Spool(folder).lock():
            pass
        assert Spool(folder).pending() == []
        assert (folder / "lock").exists()
    assert another_process() == "mine"
