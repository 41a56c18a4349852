"""A coordinator's parts together: what it looks after by itself, its clock, and its end."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pithead import bootstrap
from pithead.bootstrap import Application, SteadyClock
from pithead.settings import Settings
from pithead.store.errors import StoreError


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    """One that looks after things when the test says so."""
    application = Application(Settings(data=str(tmp_path), operator_key="key_operator"))
    async with application.running(care=False):
        yield application


def refuse_writes(application: Application, refuse: bool) -> None:
    """Let the database take no change, as on a full disk, or take them again."""
    application._store.writing.execute(f"PRAGMA query_only = {refuse}")


async def test_a_database_that_takes_no_change_is_said_once_and_its_recovery_too(
    application: Application, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "ALIVE_EVERY", 0.0)
    caplog.set_level(logging.WARNING, "pithead")
    for refuse in (False, True, False):
        refuse_writes(application, refuse)
        for _ in range(3):
            await application.look_after()
    failed, recovered = (record.getMessage() for record in caplog.records)
    assert failed.startswith(
        "could not look after what is due, and tries again every second: the database did not take"
    )
    assert recovered == "the database takes changes again"
    assert not any(record.exc_info for record in caplog.records), "what is foreseen needs no traceback"


async def test_what_nobody_foresaw_does_not_end_the_care(
    application: Application, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(application.coordinator, "sweep", broken)
    await application.look_after()
    assert [bool(record.exc_info) for record in caplog.records] == [True]


async def test_it_stops_in_order_whatever_the_database_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    application = Application(Settings(data=str(tmp_path), operator_key="key_operator"))
    async with application.running(care=False):
        refuse_writes(application, True)
    assert "could not note when this coordinator stopped" in caplog.text
    # The folder is free again.
    async with Application(Settings(data=str(tmp_path), operator_key="key_operator")).running(care=False):
        pass


async def test_a_folder_is_one_coordinator_s(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), operator_key="key_operator")
    async with Application(settings).running(care=False):
        with pytest.raises(StoreError, match="another coordinator uses"):
            Application(settings)


async def test_it_says_that_it_is_up(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an outage is counted from; not at every turn, since each is a write."""
    told = []
    for every in (0.0, 1e9, 0.0):
        monkeypatch.setattr(bootstrap, "ALIVE_EVERY", every)
        await application.look_after()
        told.append(await application.coordinator.peek(lambda tx: tx.alive_at()))
    first, second, third = (at or 0.0 for at in told)
    assert 0 < first == second < third


def test_setting_the_system_s_clock_moves_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time at the start, and the monotonic clock from there on."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    clock = SteadyClock()
    assert clock() == 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 57.5)
    assert clock() == 1_800_000_007.5
