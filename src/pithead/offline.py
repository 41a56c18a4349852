"""What is done to a coordinator's data while no coordinator runs: encrypting it, decrypting it, giving it another key."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from pithead.bootstrap import DATABASE, blobs_of, key_of, lock
from pithead.settings import Settings
from pithead.store.errors import StoreError
from pithead.store.files import sync_folder
from pithead.store.keyring import Keyring, new_wrapped_key, rewrap, unwrap
from pithead.store.keys import DatabaseKey, find_key, new_key
from pithead.store.migrate import migrate_postgres
from pithead.store.postgres import IdleStore
from pithead.store.recrypt import convert, fits
from pithead.store.reseal import reseal
from pithead.store.sealed import SUFFIX, SealedBlobs
from pithead.store.signing import read_key, write_key
from pithead.store.sqlite import SqliteStore
from pithead.store.vault import Vault, reseal_secrets


class Done(msgspec.Struct, frozen=True):
    """What came of it."""

    #: The database's file; empty where the database is another's to encrypt.
    database: str
    #: Whether it was rewritten, or its keys were wrapped anew; false where all was as wanted already.
    rewritten: bool
    #: Results that were rewritten.
    results: int
    #: Results that are named, and are not in the blob store.
    missing: int
    #: Whether the settings, as they are, open it at the next start.
    settings_fit: bool


class Teller:
    """Is told how far it is. This one keeps it to itself."""

    def step(self, what: str) -> None:
        """A step begins."""

    def results(self, done: int, size: int) -> None:
        """So many results, of so many bytes, are rewritten."""


def make_key(file: Path) -> None:
    """Make a database key and write it into a new file that only its owner reads. Raises `StoreError`."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(new_key() + "\n")
            out.flush()
            os.fsync(out.fileno())
        sync_folder(file.absolute().parent)
    except FileExistsError:
        raise StoreError(f"{file} is there already; choose another name, as no key is written over another") from None
    except OSError as error:
        raise StoreError(f"cannot write {file}: {error.strerror}; check the path and your rights to it") from error


def find_new_key(path: str, command: str, value: str) -> DatabaseKey:
    """The key to change to, from the one place that is given. Raises `StoreError`."""
    names = {"path": "--new-key-path", "command": "--new-key-command", "value": "PITHEAD_NEW_DB_ENCRYPTION_KEY"}
    return find_key(path, command, value, names=names)


def encrypt(settings: Settings, teller: Teller, *, keep_old: bool = False) -> Done:
    """Encrypt the database, if it is the embedded one, the signing key and the results. Raises `StoreError`.

    Doing it again finishes what was begun.
    """
    with _alone(settings), _key(settings) as key:
        path = _file(settings)
        rewritten = path is not None and convert(path, None, key, now=time.time(), tell=teller.step, keep=keep_old)
        with _opened(settings, key) as names:
            keyring = names.keyring(key)
            pem = read_key(settings.folder, keyring)
            if pem is not None:
                write_key(settings.folder, keyring, pem)
            names.reseal_secrets(Vault(None), Vault(keyring))
            results = _reseal(settings, keyring, names, teller, to_sealed=True)
            named, sealed = names.count()
    return Done(str(path or ""), rewritten, results, named - sealed, settings.db_encryption_enabled)


def decrypt(settings: Settings, teller: Teller, *, keep_old: bool = False, give_up_missing: bool = False) -> Done:
    """The way back: the results first, as their keys are in the database.

    Raises `StoreError`, also where results are missing in the blob store, unless they are given up: with their keys
    gone, they can never be read again.
    """
    with _alone(settings), _key(settings) as key:
        path, results, missing, rewritten = _file(settings), 0, 0, False
        if path is None or not fits(path, None):
            with _opened(settings, key) as names:
                keyring = names.keyring(key)
                results = _reseal(settings, keyring, names, teller, to_sealed=False)
                missing = names.count()[1]
                if missing and not give_up_missing:
                    raise StoreError(
                        f"{missing} encrypted results are not in the blob store; check blob_store, "
                        "or give them up with --give-up-missing"
                    )
                pem = read_key(settings.folder, keyring)
                if pem is not None:
                    write_key(settings.folder, None, pem)
                names.reseal_secrets(Vault(keyring), Vault(None))
                names.forget_keys()
        if path is not None:
            rewritten = convert(path, key, None, now=time.time(), tell=teller.step, keep=keep_old)
    return Done(str(path or ""), rewritten, results, missing, not settings.db_encryption_enabled)


def rekey(settings: Settings, new: DatabaseKey, teller: Teller, *, keep_old: bool = False) -> Done:
    """Give the database another key. Results stay as they are: their keys are in the database. Raises `StoreError`."""
    with _alone(settings), _key(settings) as old:
        if old.same(new):
            raise StoreError("the new key is the old one; make another with 'pithead admin keygen FILE'")
        path = _file(settings)
        if path is not None:
            rewritten = convert(path, old, new, now=time.time(), tell=teller.step, keep=keep_old)
        else:
            with _opened(settings, old) as names:
                rewritten = names.rewrap(old, new)
    return Done(str(path or ""), rewritten, 0, 0, False)


def _file(settings: Settings) -> Path | None:
    """The embedded database; `None` where there is another."""
    return None if settings.database else settings.folder / DATABASE


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    if not settings.folder.is_dir():
        raise StoreError(f"there is no folder {settings.folder}; name the coordinator's with --data")
    with lock(settings.folder):
        yield


@contextmanager
def _key(settings: Settings) -> Iterator[DatabaseKey]:
    key = key_of(settings)
    try:
        yield key
    finally:
        key.wipe()


class _Names:
    """Implements `reseal.Names` over a database, and keeps the keys of the results there."""

    def __init__(self, store: SqliteStore | IdleStore) -> None:
        self._store = store

    def keyring(self, key: DatabaseKey) -> Keyring:
        keyring, wrapped = Keyring(), self._store.write(lambda tx: tx.data_keys())
        if not wrapped:
            # A coordinator makes the first one at its first start, which may never have been.
            first = new_wrapped_key(key, time.time())
            self._store.write(lambda tx: tx.add_data_key(first))
            wrapped = [first]
        keyring.fill(wrapped, key)
        return keyring

    def rewrap(self, old: DatabaseKey, new: DatabaseKey) -> bool:
        """Wrap the keys anew; false where they are under the new key already."""
        try:
            self._store.write(lambda tx: rewrap(tx, old, new))
        except StoreError:
            unwrap(self._store.write(lambda tx: tx.data_keys()), new)
            return False
        return True

    def count(self) -> tuple[int, int]:
        """How many blobs are named, and how many of those are sealed."""
        return self._store.write(lambda tx: tx.count_blobs(SUFFIX))

    def reseal_secrets(self, before: Vault, after: Vault) -> None:
        """Keep the secrets of webhooks as the other vault does."""
        self._store.write(lambda tx: reseal_secrets(tx, before, after))

    def forget_keys(self) -> None:
        """Nothing is sealed any more."""
        self._store.write(lambda tx: tx.delete_data_keys())

    def has(self, owner: str, blob: str) -> bool:
        return self._store.write(lambda tx: tx.names_blob(owner, blob))

    def change(self, owner: str, before: str, after: str) -> None:
        self._store.write(lambda tx: tx.rename_blob(owner, before, after))


@contextmanager
def _opened(settings: Settings, key: DatabaseKey) -> Iterator[_Names]:
    store: SqliteStore | IdleStore
    if settings.database:
        migrate_postgres(settings.database)
        store = IdleStore(settings.database)
    else:
        store = SqliteStore(settings.folder / DATABASE, key)
    with closing(store):
        yield _Names(store)


def _reseal(settings: Settings, keyring: Keyring, names: _Names, teller: Teller, *, to_sealed: bool) -> int:
    teller.step("encrypting the results" if to_sealed else "decrypting the results")
    inner = blobs_of(settings)
    return asyncio.run(reseal(inner, SealedBlobs(inner, keyring), names, to_sealed=to_sealed, tell=teller.results))
