"""The units, by systemd's own judgement, and what they deny the coordinator, as far as it can be denied without systemd."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.deploy import parts
from tests.http.server import OPERATOR_KEY, serve

#: PR_SET_MDWE with its one bit, since Linux 6.3: no memory may be both written to and run. An older kernel says no.
DENIED = """
import ctypes, mmap, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0:
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
    except PermissionError:
        pass
    else:
        sys.exit("it is not denied")
os.execv(sys.argv[1], sys.argv[1:])
"""
SERVICES = ["pithead-coordinator.service", "pithead-backup.service"]


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for file in parts.UNITS:
        # Where the program is not installed it would say no more than that.
        (tmp_path / file.name).write_text(file.read_text().replace("/opt/pithead/bin/pithead", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", *sorted(tmp_path.iterdir())],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "pithead" in line]
    assert said == []


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_finds_little_that_they_could_do_without(name: str) -> None:
    """Of 10, as it counts; most of what is left is the network that a server needs."""
    file = parts.DEPLOY / "systemd" / name
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=15", file],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_unit_is_restarted_unless_it_cannot_run_as_it_is_set_up() -> None:
    unit = parts.unit("pithead-coordinator.service")
    assert (unit["Restart"], unit["RestartPreventExitStatus"], unit["User"]) == (["always"], ["2"], ["pithead"])
    assert int(unit["TimeoutStopSec"][0]) > 30
    assert "postgresql.service" in unit["After"][0]


def test_the_coordinator_works_without_memory_that_is_written_and_run(tmp_path: Path) -> None:
    """MemoryDenyWriteExecute breaks programs that make code; the kernel has its own word for it, which this uses."""
    with serve(tmp_path, sys.executable, "-c", DENIED) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        key = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        assert httpx.post(f"{url}/v1/admin/clients", json={"name": "alice"}, headers=key).status_code == 201
