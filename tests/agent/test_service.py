"""The agent as a service: the unit, the words to the manager, metrics, and the log's files."""

import logging
import shutil
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agent.rig import Rig

from pithead.agent import metrics, service
from pithead.agent.record import JobLine, Record
from pithead.cli.tending import rotating

UNIT = service.Unit(
    profile="second",
    drain_seconds=600,
    folders=[Path("/tmp/a folder"), Path("/tmp/100%")],
    environment=[("PITHEAD_CONFIG_DIR", "/tmp/$HOME x")],
)


def test_the_unit_is_hardened_watched_and_given_time_to_end() -> None:
    lines = UNIT.text().splitlines()
    assert {
        "Type=notify",
        "WatchdogSec=120",
        "TimeoutStopSec=630",
        "KillMode=mixed",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        'ReadWritePaths="/tmp/a folder"',
        "ReadWritePaths=/tmp/100%%",
        'Environment="PITHEAD_CONFIG_DIR=/tmp/$$HOME x"',
        "WantedBy=default.target",
    } <= set(lines)
    assert UNIT.name == "pithead-miner-second.service"
    assert not any(line.startswith("User=") for line in lines)
    # The sandbox of jobs needs namespaces, and GPUs their devices.
    assert not any(line.startswith(("RestrictNamespaces", "PrivateDevices")) for line in lines)


@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_finds_no_fault_with_it(user: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = service.Unit(profile="default", drain_seconds=1, folders=[tmp_path], user=user)
    file = tmp_path / unit.name
    file.write_text(unit.text())
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = service.check(file, user=user is None)
    if user is None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        found = service.check(file, user=True)
    assert found == ("" if shutil.which("systemd-analyze") else None)
    file.write_text(unit.text().replace("WatchdogSec=120", "WatchdogSec=often"))
    wrong = service.check(file, user=user is None)
    assert wrong is None or "Failed to parse" in wrong
    monkeypatch.setenv("PATH", "")
    assert service.check(file, user=True) is None


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_manager_is_told_when_it_is_ready_that_it_lives_and_when_it_stops(
    abstract: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"\0pithead-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))

        def said() -> list[str]:
            words = []
            try:
                while True:
                    words.append(manager.recv(1000).decode())
            except BlockingIOError:
                return words

        async with rig.life() as life:
            await rig.passes(5)
            first, *later = said()
            assert first == "READY=1"
            assert later == ["WATCHDOG=1\nSTATUS=nothing queued fits this machine"] * 2
            life.agent.interrupt()
            await life.ended()
            assert "STOPPING=1" in said()


def test_nobody_is_told_where_there_is_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "nonsense", "/nowhere/notify"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        service.notify("READY=1")


def test_prometheus_is_told_what_it_does_on_the_loopback_alone() -> None:
    record = Record(wall=lambda: 1e9)
    record.taken(1, JobLine(job_id="job_1", model="gpt2"))
    record.completed(Decimal("0.05"))
    record.state.gpus = [{"index": 3, "temperature_celsius": 55, "power_watts": None}]
    port, stop = metrics.serve(record, 0)
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        stop()
    lines = text.splitlines()
    assert "pithead_miner_completed_total 1.0" in lines
    assert "pithead_miner_earned_total 0.05" in lines
    assert "pithead_miner_jobs 1.0" in lines
    assert 'pithead_miner_gpu_temperature_celsius{gpu="3"} 55.0' in lines
    assert not any(line.startswith("pithead_miner_gpu_power_watts{") for line in lines)


def test_the_log_is_cut_into_files_that_only_the_owner_reads(tmp_path: Path) -> None:
    handler: Any = rotating(tmp_path / "logs" / "agent.log")
    handler.maxBytes = 200
    for number in range(40):
        handler.emit(logging.LogRecord("x", logging.INFO, "x", 1, f"line {number}", None, None))
    handler.close()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 5
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert all(file.stat().st_size <= 200 for file in files)
