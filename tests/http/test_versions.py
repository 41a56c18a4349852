"""A database that a newer program wrote is refused by whatever opens one, in one line, and left alone."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.http.exchange import Clock, World, run_world
from tests.http.test_backup import Quiet

from pithead import offline, upgrade
from pithead.backup import take
from pithead.bootstrap import Application
from pithead.settings import Settings
from pithead.store.errors import StoreError
from pithead.store.migrate import migrations

NEWEST = migrations("sqlite")[-1][0]


@pytest.fixture
async def newer(world: World, tmp_path: Path) -> Settings:
    """The settings of such a database."""
    settings = world.application.settings
    if settings.database:
        world.tamper(f"UPDATE meta SET value = {NEWEST + 1} WHERE key = 'schema'")
        return msgspec.structs.replace(settings, data=str(tmp_path / "another"))
    world.tamper(f"PRAGMA user_version = {NEWEST + 1}")
    # Its own folder is in use, so that nobody could open it anyway.
    made = msgspec.structs.replace(settings, data=str(tmp_path / "another"))
    made.folder.mkdir()
    await asyncio.to_thread(take_a_copy, settings, made)
    return made


def take_a_copy(source: Settings, target: Settings) -> None:
    for path in source.folder.glob("pithead.db*"):
        (target.folder / path.name).write_bytes(path.read_bytes())


OPENERS: dict[str, Callable[[Settings, Path], Any]] = {
    "serve": lambda settings, _: Application(settings),
    "migrate": lambda settings, _: upgrade.carry_out(settings),
    "migrate --dry-run": lambda settings, _: upgrade.plan(settings),
    "backup": lambda settings, folder: take(settings, folder / "backup", Quiet()),
}


@pytest.mark.parametrize("command", OPENERS)
async def test_it_is_refused_and_left_alone(newer: Settings, world: World, tmp_path: Path, command: str) -> None:
    newer.folder.mkdir(exist_ok=True)
    before = world.stored()
    with pytest.raises(StoreError, match=f"version {NEWEST + 1} .* up to {NEWEST}: run the newer program") as refused:
        await asyncio.to_thread(OPENERS[command], newer, tmp_path)
    assert "\n" not in str(refused.value)
    assert world.stored() == before
    assert not (tmp_path / "backup").exists()


async def test_neither_is_it_encrypted(tmp_path: Path) -> None:
    offline.make_key(tmp_path / "key")
    async with run_world(tmp_path / "data", Clock()) as world:
        world.tamper(f"PRAGMA user_version = {NEWEST + 1}")
        settings = msgspec.structs.replace(world.application.settings, db_encryption_key_path=str(tmp_path / "key"))
    with pytest.raises(StoreError, match="run the newer program"):
        await asyncio.to_thread(offline.encrypt, settings, offline.Teller())
