"""Backups of a coordinator, made beside it while it works, and their way back into an empty place.

A backup is whole if every result that its snapshot of the database names was copied. Results never change, but they are
given up when their time is over. So they are copied first, then the snapshot is taken, then those that came meanwhile
are copied; if one of these has gone, another snapshot is taken, which does not name it any more. Nothing waits for a
backup: no request, no retention, no other coordinator.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

import pithead
from pithead.bootstrap import DATABASE, UNFINISHED, blobs_of, key_in_use, lock
from pithead.exchange import ledger
from pithead.exchange.blobs import BlobError, Blobs, NoSuchBlob
from pithead.exchange.ledger import Checked
from pithead.settings import Settings
from pithead.store import cipher, manifest, reload
from pithead.store.errors import StoreError
from pithead.store.files import sync_file, sync_folder
from pithead.store.manifest import KEYS, RESULTS, Manifest
from pithead.store.migrate import migrate, migrate_postgres, pending, version_at
from pithead.store.shared import read_once
from pithead.store.snapshot import Postgres, Snapshot, Sqlite
from pithead.store.sqlite import SqliteStore

#: Snapshots that are taken at the most, where results are given up again and again just after one.
_TRIES: Final = 10
#: Results that are copied at the same time.
_AT_ONCE: Final = 8
_PIECE: Final = 1 << 20
#: What may lie in a folder that something is restored into.
_MAY_BE_THERE: Final = {"pithead.toml", "lock", "lost+found"}


class Teller(Protocol):
    """Is told how far it is."""

    def step(self, what: str) -> None:
        """A step begins."""

    def done(self, files: int, size: int) -> None:
        """So many files, of so many bytes together, are done in this step."""


class Restored(msgspec.Struct, frozen=True):
    """What was restored, and what the check of its ledger found."""

    taken_at: float
    results: int
    missing: int
    #: Migrations that ran on it afterwards.
    migrated: int
    checked: Checked


# ---- Backup


def take(settings: Settings, target: Path, teller: Teller) -> Manifest:
    """Make a backup, a new folder. It appears whole, or not at all. Raises `StoreError`."""
    if target.exists():
        raise StoreError(f"{target} is there already; name a folder that is not")
    if not target.absolute().parent.is_dir():
        raise StoreError(f"there is no folder {target.absolute().parent} to put the backup into; make it first")
    if not settings.folder.is_dir():
        raise StoreError(f"there is no folder {settings.folder}; name the coordinator's with --data")
    partial = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
    source = (
        Postgres(settings.database) if settings.database else Sqlite(settings.folder / DATABASE, key_in_use(settings))
    )
    try:
        partial.mkdir(mode=0o700)
        made = asyncio.run(_Backup(settings, source, partial, teller).make())
        _sync_folders(partial)
        partial.rename(target)
        sync_folder(target.absolute().parent)
    except OSError as error:
        raise StoreError(f"cannot write the backup {target}: {error.strerror or error}") from error
    except BlobError as error:
        raise StoreError(f"cannot read a result: {error}; there is no backup {target}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


class _Backup:
    """One backup, as it is made."""

    def __init__(self, settings: Settings, source: Postgres | Sqlite, folder: Path, teller: Teller) -> None:
        self._settings = settings
        self._source = source
        self._folder = folder
        self._teller = teller
        # As they are stored: what is encrypted stays so.
        self._blobs: Blobs = blobs_of(settings)
        #: The results that are copied, with the sums and sizes of their bytes.
        self._copied: dict[str, tuple[str, int]] = {}

    async def make(self) -> Manifest:
        (self._folder / RESULTS).mkdir(mode=0o700)
        self._teller.step("copying results")
        await self._copy(self._source.blobs())
        snapshot, missing = await self._settle()
        for name in self._copied.keys() - snapshot.blobs:
            (self._folder / RESULTS / name).unlink()
            del self._copied[name]
        keys = [name for name in KEYS if (self._settings.folder / name).exists()]
        for name in keys:
            manifest.write_file(self._folder / name, (self._settings.folder / name).read_bytes())
        self._teller.step("adding it up")
        names = [*keys, *(str(path.relative_to(self._folder)) for path in self._of_the_database())]
        sums = {name: manifest.sum_of(self._folder / name) for name in names}
        size = sum((self._folder / name).stat().st_size for name in names)
        sums |= {f"{RESULTS}/{name}": digest for name, (digest, _) in self._copied.items()}
        made = Manifest(
            format=manifest.FORMAT,
            version=pithead.__version__,
            taken_at=snapshot.taken_at,
            database=self._source.kind,
            schema=snapshot.schema,
            tables=snapshot.tables,
            sequences=snapshot.sequences,
            results=len(self._copied),
            missing=sorted(missing),
            files=len(sums),
            bytes=size + sum(length for _, length in self._copied.values()),
            sums=manifest.write_sums(self._folder, sums),
        )
        manifest.write(self._folder, made)
        return made

    async def _settle(self) -> tuple[Snapshot, set[str]]:
        """A snapshot of which every result is copied; and those that are lost, as they are named and not there."""
        before: set[str] = set()
        for _ in range(_TRIES):
            self._teller.step("copying the database")
            snapshot = await asyncio.to_thread(self._source.take, self._folder)
            self._teller.step("copying results that came meanwhile")
            await self._copy(snapshot.blobs - self._copied.keys() - before)
            missing = snapshot.blobs - self._copied.keys()
            # One that an earlier snapshot named too, and that was not there then, was not given up in between.
            if missing <= before:
                for path in self._of_the_database():
                    sync_file(path)
                return snapshot, missing
            before = missing
        raise StoreError("results are given up faster than they can be copied; try again when retention has less to do")

    def _of_the_database(self) -> Iterable[Path]:
        return [*self._folder.glob(DATABASE), *sorted(self._folder.glob(f"{manifest.TABLES}/*.copy"))]

    async def _copy(self, names: Iterable[str]) -> None:
        todo = iter(sorted(names))
        done = size = 0

        async def work() -> None:
            nonlocal done, size
            for name in todo:
                try:
                    self._copied[name] = found = await self._copy_one(name)
                except NoSuchBlob:
                    continue
                done, size = done + 1, size + found[1]
                self._teller.done(done, size)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as errors:
            # One is enough to know.
            raise errors.exceptions[0] from errors

    async def _copy_one(self, name: str) -> tuple[str, int]:
        looked = await self._blobs.peek(name, 0)
        if looked is None:
            raise NoSuchBlob(f"there is no blob {name}")
        length, _ = looked
        path = self._folder / RESULTS / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        digest = sha256()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for piece in self._blobs.get(name, 0, length):
                digest.update(piece)
                await asyncio.to_thread(_write, descriptor, piece)
            await asyncio.to_thread(os.fsync, descriptor)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        return digest.hexdigest(), length


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        sync_folder(Path(folder))


# ---- Restore


def put_back(settings: Settings, source: Path, teller: Teller) -> Restored:
    """Restore a backup into an empty folder, and an empty database; then check its ledger. Raises `StoreError`.

    The backup is compared with its sums before anything is written.
    """
    said = manifest.read(source)
    kind = "postgresql" if settings.database else "sqlite"
    if said.database != kind:
        asked = "set the setting database to an empty one" if kind == "sqlite" else "leave the setting database out"
        raise StoreError(f"the backup is of a database of the kind {said.database}, and not {kind}: {asked}")
    pending("postgres" if settings.database else "sqlite", said.schema)
    teller.step("checking the backup")
    names = manifest.verify(source, said, teller.done)
    if not settings.database:
        # That its key is here is found out before anything is written, too.
        cipher.check(source / DATABASE, key_in_use(settings))
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock(folder):
            _make_room(settings)
            manifest.write_file(folder / UNFINISHED, b"A restore into this folder has not ended: do it again.\n")
            sync_folder(folder)
            teller.step("putting back the results")
            blobs = [name.removeprefix(f"{RESULTS}/") for name in names if name.startswith(f"{RESULTS}/")]
            asyncio.run(_put_blobs(settings, source, blobs, teller))
            for name in KEYS:
                if (source / name).exists():
                    manifest.write_file(folder / name, (source / name).read_bytes())
            teller.step("putting back the database")
            migrated = _put_database(settings, source, said)
            (folder / UNFINISHED).unlink()
            sync_folder(folder)
            teller.step("checking the ledger")
            checked = _check(settings)
    except OSError as error:
        raise StoreError(
            f"cannot restore into {folder}: {error.strerror or error}; mend that, and do it again"
        ) from error
    except BlobError as error:
        raise StoreError(f"cannot store a result: {error}; mend that, and do it again") from error
    return Restored(said.taken_at, len(blobs), len(said.missing), migrated, checked)


def _make_room(settings: Settings) -> None:
    """See that nothing is there that would be lost; what an earlier restore left that did not end goes."""
    folder, database = settings.folder, settings.database
    if (folder / UNFINISHED).exists():
        for path in folder.iterdir():
            if path.name not in _MAY_BE_THERE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    there = sorted(path.name for path in folder.iterdir() if path.name not in _MAY_BE_THERE)
    if there:
        raise StoreError(f"{folder} is not empty: it has {there[0]}; restore into another folder, named with --data")
    if database and version_at(database):
        raise StoreError("the database is not empty; restore into a new one (createdb), and name it in database")


async def _put_blobs(settings: Settings, source: Path, names: list[str], teller: Teller) -> None:
    blobs, size = blobs_of(settings), 0
    for done, name in enumerate(names, 1):
        path = source / RESULTS / name
        await blobs.put(name, _pieces(path))
        size += path.stat().st_size
        teller.done(done, size)


async def _pieces(path: Path) -> AsyncGenerator[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while piece := await asyncio.to_thread(os.read, descriptor, _PIECE):
            yield piece
    finally:
        os.close(descriptor)


def _put_database(settings: Settings, source: Path, said: Manifest) -> int:
    """Put it back and bring it up to date; how many migrations ran."""
    if settings.database:
        reload.fill_postgres(settings.database, source, said)
        return migrate_postgres(settings.database)
    path = settings.folder / DATABASE
    reload.place_sqlite(source, path)
    with closing(cipher.connect(str(path), key_in_use(settings))) as connection:
        return migrate(connection)


def _check(settings: Settings) -> Checked:
    if settings.database:
        return read_once(settings.database, ledger.check)
    with closing(SqliteStore(settings.folder / DATABASE, key_in_use(settings))) as store:
        return store.read(ledger.check)
