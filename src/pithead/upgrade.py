"""Bringing a coordinator's database up to date, and saying what that would do."""

from contextlib import closing
from typing import Any

import msgspec

from pithead.bootstrap import DATABASE, key_in_use, lock
from pithead.settings import Settings
from pithead.store import cipher
from pithead.store.errors import StoreError
from pithead.store.migrate import migrate, migrate_postgres, pending, titles, version_at, version_of


class Upgrade(msgspec.Struct, frozen=True):
    """Which migrations a database needs, or had."""

    #: The newest that had run before; 0 for an empty database.
    version: int
    migrations: list[str]
    #: Whether they ran.
    done: bool


def plan(settings: Settings) -> Upgrade:
    """What is to be done; changes nothing. Raises `StoreError`, also where a newer program wrote the database."""
    kind = "postgres" if settings.database else "sqlite"
    version = _version(settings)
    names = titles(kind)
    return Upgrade(version, [names[number] for number, _ in pending(kind, version)], False)


def carry_out(settings: Settings) -> Upgrade:
    """Do it, under the lock that a coordinator's start takes too. Raises `StoreError`."""
    found = plan(settings)
    if settings.database:
        migrate_postgres(settings.database)
    else:
        # A coordinator that runs has the folder, and has brought its database up to date when it started.
        with lock(settings.folder), closing(_open(settings)) as connection:
            migrate(connection)
    return msgspec.structs.replace(found, done=True)


def _version(settings: Settings) -> int:
    if settings.database:
        return version_at(settings.database)
    with closing(_open(settings)) as connection:
        return version_of(connection)


def _open(settings: Settings) -> Any:
    path, key = settings.folder / DATABASE, key_in_use(settings)
    if not path.is_file():
        raise StoreError(f"there is no database {path}; name the coordinator's folder with --data")
    cipher.check(path, key)
    return cipher.connect(str(path), key)
