"""A coordinator's parts together: what it looks after by itself, its clock, and its end."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pithead import bootstrap
from pithead.bootstrap import Application, SteadyClock
from pithead.exchange import accounts
from pithead.exchange.ids import digest
from pithead.exchange.ports import Key
from pithead.settings import Settings, SettingsError
from pithead.store.errors import StoreError

KEY = "key_operator-of-these-tests"


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    """One that looks after things when the test says so."""
    application = Application(Settings(data=str(tmp_path), operator_key=KEY))
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
    application = Application(Settings(data=str(tmp_path), operator_key=KEY))
    async with application.running(care=False):
        refuse_writes(application, True)
    assert "could not note when this coordinator stopped" in caplog.text
    # The folder is free again.
    async with Application(Settings(data=str(tmp_path), operator_key=KEY)).running(care=False):
        pass


async def test_a_folder_is_one_coordinator_s(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), operator_key=KEY)
    async with Application(settings).running(care=False):
        with pytest.raises(StoreError, match="another coordinator uses"):
            Application(settings)


async def test_an_operator_s_key_that_can_be_guessed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    short = Application(Settings(data=str(tmp_path), operator_key="key_operator"))
    with pytest.raises(
        SettingsError, match="operator_key has 12 characters, and one with fewer than 20 can be guessed; "
    ):
        async with short.running(care=False):
            pass
    assert not (tmp_path / "signing.pem").exists()
    # And the folder is free again.
    async with Application(Settings(data=str(tmp_path), operator_key=KEY)).running(care=False):
        pass


async def test_a_short_one_that_the_database_has_goes_on_working(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an upgrade from a version that took any: nobody is locked out, and it is said."""
    async with Application(Settings(data=str(tmp_path), operator_key=KEY)).running(care=False) as one:
        await one.coordinator.run(lambda tx, now: accounts.set_operator_key(tx, now, "key_short"))
    caplog.clear()
    async with Application(Settings(data=str(tmp_path), operator_key="key_short")).running(care=False) as one:
        assert await one.coordinator.peek(lambda tx: _is_good(tx.key(digest("key_short"))))
        await one.coordinator.run(lambda tx, now: accounts.rotate_key(tx, now, "operator", "operator", KEY, 0.0))
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("operator_key has 9 characters") and "key_short" not in said
    # Also where it was rotated meanwhile: the setting says again which it is to be, as ever.
    async with Application(Settings(data=str(tmp_path), operator_key="key_short")).running(care=False) as one:
        assert await one.coordinator.peek(lambda tx: _is_good(tx.key(digest("key_short"))))
    # A short one of somebody else's is not the operator's.
    async with Application(Settings(data=str(tmp_path), operator_key=KEY)).running(care=False) as one:
        await one.coordinator.run(lambda tx, now: tx.add_key(Key(digest("key_x"), "client", "client_1", now, None)))
    with pytest.raises(SettingsError, match="has 5 characters"):
        async with Application(Settings(data=str(tmp_path), operator_key="key_x")).running(care=False):
            pass


def _is_good(key: Key | None) -> bool:
    return key is not None and key.kind == "operator" and key.expires_at is None


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
