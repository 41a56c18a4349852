"""Encrypting, decrypting and rekeying the embedded database, while nobody uses it.

A copy is written beside it under the new key, checked against it row by row and sum by sum, put on the disk, and given
its name. Until then the old file is what counts, and from then on the new one: wherever it is interrupted, the database
under its name is whole and opens with one of the two keys. Doing it again finishes what was begun.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlcipher3 import dbapi2

from pithead.store.cipher import WrongKey, connect, kind_of, opens
from pithead.store.errors import StoreError
from pithead.store.files import erase, sync_file, sync_folder
from pithead.store.keyring import new_wrapped_key, rewrap
from pithead.store.keys import DatabaseKey
from pithead.store.migrate import migrate
from pithead.store.sqlite import SqliteTx

#: Told before each step what it does.
Tell = Callable[[str], None]

_SUMS: Final = {
    "accounts": "SELECT kind, count(*), sum(balance) FROM accounts GROUP BY kind ORDER BY kind",
    "transfers": "SELECT count(*), sum(amount), max(seq), sum(debit), sum(credit) FROM transfers",
}


def copy_of(path: Path) -> Path:
    """Where the copy is written."""
    return path.with_name(path.name + ".new")


def old_of(path: Path) -> Path:
    """Where the old database is until the new one is checked, and stays if it is to be kept."""
    return path.with_name(path.name + ".old")


def convert(
    path: Path, old: DatabaseKey | None, new: DatabaseKey | None, *, now: float, tell: Tell, keep: bool = False
) -> bool:
    """Bring the database from one key to another, `None` being none; false where it was there already.

    The caller keeps others out. `keep`: the old file stays, as `….old`; else it is overwritten and deleted. Raises
    `StoreError`, and then the database is as it was.
    """
    if kind_of(path) == "absent":
        raise StoreError(f"there is no database {path}; name the coordinator's folder with --data")
    done = not fits(path, old)
    if done and not fits(path, new):
        raise WrongKey(f"neither key opens {path}, and nothing was changed; give the key that it was encrypted with")
    if not done:
        _clear_the_way(path)
        _rewrite(path, old, new, now, tell)
    tell("removing the old file" if not keep else "keeping the old file")
    if not keep and old_of(path).exists():
        erase(old_of(path))
    return not done


def fits(path: Path, key: DatabaseKey | None) -> bool:
    """Whether the database is plain, where there is no key, or opens with it."""
    return kind_of(path) == "plain" if key is None else kind_of(path) == "encrypted" and opens(path, key)


def leftovers(path: Path) -> list[Path]:
    """What a conversion that was interrupted, or told to, left beside the database."""
    return [left for left in (copy_of(path), old_of(path)) if left.exists()]


def _clear_the_way(path: Path) -> None:
    _remove(copy_of(path))
    old = old_of(path)
    if not old.exists():
        return
    if not old.samefile(path):
        raise StoreError(f"{old} is left from an earlier time and is in the way; move it elsewhere, or delete it")
    # An earlier try ended just before the copy got its name.
    old.unlink()
    sync_folder(path.parent)


def _rewrite(path: Path, old: DatabaseKey | None, new: DatabaseKey | None, now: float, tell: Tell) -> None:
    copy = copy_of(path)
    try:
        with contextlib.closing(connect(str(path), old)) as source:
            tell("bringing the database up to date")
            migrate(source)
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            tell("copying the database")
            # The file is made by us, so that nobody else can read it, not even for a moment.
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _export(source, copy, new)
            with contextlib.closing(connect(str(copy), new)) as target:
                _carry_keys(target, old, new, now)
                tell("checking the copy")
                _compare(source, target, encrypted=new is not None)
            tell("putting the copy on the disk")
            sync_file(copy)
            sync_folder(path.parent)
        # Closed, the old database is one file. It keeps a second name, and the copy takes the first: one step.
        tell("giving the old one a second name")
        os.link(path, old_of(path))
        sync_folder(path.parent)
        tell("giving the copy its name")
        copy.rename(path)
    except BaseException as error:
        _clear_the_way(path)
        if isinstance(error, dbapi2.Error | OSError):
            raise StoreError(
                f"cannot rewrite {path}, which is as it was: {error}; mend that, and do it again"
            ) from error
        raise
    sync_folder(path.parent)
    tell("opening the new database")
    if not fits(path, new):
        raise StoreError(f"{path} does not open after all; {old_of(path)} is as it was; rename it back")


def _export(source: dbapi2.Connection, copy: Path, key: DatabaseKey | None) -> None:
    version = source.execute("PRAGMA user_version").fetchone()[0]
    literal = str(copy).replace("'", "''")
    # As a script: see `cipher.connect`. A file without a key is a plain one.
    source.executescript(f"""ATTACH '{literal}' AS copy KEY "{key.raw() if key else ""}" """)
    try:
        source.execute("BEGIN IMMEDIATE")
        source.execute("SELECT sqlcipher_export('copy')")
        source.execute(f"PRAGMA copy.user_version = {int(version)}")
        source.execute("COMMIT")
    finally:
        if source.in_transaction:
            source.execute("ROLLBACK")
        source.execute("DETACH copy")


def _carry_keys(target: dbapi2.Connection, old: DatabaseKey | None, new: DatabaseKey | None, now: float) -> None:
    """Wrap the keys of the results under the new key; the first key brings the first of them, and none the end of them."""
    target.execute("BEGIN IMMEDIATE")
    tx = SqliteTx(target)
    if new is None:
        tx.delete_data_keys()
    elif old is None:
        tx.delete_data_keys()
        tx.add_data_key(new_wrapped_key(new, now))
    else:
        rewrap(tx, old, new)
    target.execute("COMMIT")


def _compare(source: dbapi2.Connection, target: dbapi2.Connection, *, encrypted: bool) -> None:
    """Raises `StoreError` where the copy is not what the source is."""
    if encrypted and (broken := target.execute("PRAGMA cipher_integrity_check").fetchall()):
        raise StoreError(f"the copy does not decrypt: {broken[0][0]}")
    if (found := target.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
        raise StoreError(f"the copy is damaged: {found[0][0]}")
    if target.execute("PRAGMA foreign_key_check").fetchone():
        raise StoreError("the copy has rows that point nowhere")
    mine, theirs = _summary(source), _summary(target)
    if different := [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]:
        raise StoreError(f"the copy differs from the database in {', '.join(sorted(different))}")


def _summary(connection: dbapi2.Connection) -> dict[str, Any]:
    """What two databases of the same content have in common."""
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    tables = [name for kind, name, _ in schema if kind == "table" and not name.startswith("sqlite_")]
    found: dict[str, Any] = {"schema": schema, "version": connection.execute("PRAGMA user_version").fetchone()}
    for table in tables:
        if table != "data_keys":
            found[f"the rows of {table}"] = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608
    for name, query in _SUMS.items():
        found[f"the sums of {name}"] = connection.execute(query).fetchall()
    return found


def _remove(copy: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
