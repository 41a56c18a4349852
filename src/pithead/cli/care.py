"""`pithead admin backup`, `restore`, `migrate`: done on the coordinator's machine, with its folder and its settings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pithead.cli.output import emit, facts, fail, json_option, moment
from pithead.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from pithead.backup import Restored
    from pithead.exchange.ledger import Checked

F = TypeVar("F", bound=Callable[..., Any])

#: In a log, a line at the most every so many seconds.
_EVERY: Final = 10.0


def _place(function: F) -> F:
    data = click.option("--data", help="The coordinator's folder.")
    config = click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
    return data(config(json_option(function)))


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@_place
def backup(dest: Path, data: str | None, config: Path | None) -> None:
    """Back up all that a coordinator keeps into the new folder DEST.

    On the coordinator's machine, with its settings; it need not be stopped. The database, the results and the signing
    key, of one moment. What is encrypted stays so, under the same key.
    """
    from pithead.backup import take

    with _Teller() as told:
        made = _refused(lambda: take(_settings(data, config), dest, told))
    emit(
        {"path": str(dest), "manifest": made},
        lambda: facts(
            backup=str(dest),
            taken_at=moment(made.taken_at),
            database=f"{made.database}, version {made.schema}",
            results=made.results,
            files=made.files,
            size=_size(made.bytes),
        ),
    )
    if made.missing:
        click.echo(
            f"pithead: {len(made.missing)} results were lost before: the database knows them and the blob store has "
            f"not got them; the first is {made.missing[0]}, all are in the manifest",
            err=True,
        )


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@_place
def restore(source: Path, data: str | None, config: Path | None) -> None:
    """Restore the backup SOURCE into an empty folder, and check its ledger.

    On the coordinator's machine, with the settings that it is to have; a database that is set must be empty too. A
    damaged backup changes nothing. Ends with 1 if the ledger is not sound.
    """
    from pithead.backup import put_back

    settings = _settings(data, config)
    with _Teller() as told:
        found: Restored = _refused(lambda: put_back(settings, source, told))
    checked = found.checked
    emit(found, lambda: _show_restored(settings, found))
    if checked.faulty:
        first = checked.faults[0]
        fail(f"the ledger has {checked.faulty} faults; the first is of {first.kind} {first.subject}".rstrip(), 1)


def _show_restored(settings: Settings, found: Restored) -> None:
    facts(
        restored_into=str(settings.folder),
        state_of=moment(found.taken_at),
        results=found.results,
        missing=found.missing or None,
        migrations=found.migrated or None,
        ledger=_outcome(found.checked),
    )


def _outcome(checked: Checked) -> str:
    looked = f"{checked.accounts} accounts, {checked.jobs} jobs and {checked.transfers} transfers"
    return f"sound: {looked}" if not checked.faulty else f"{checked.faulty} faults in {looked}"


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_place
def migrate(dry_run: bool, data: str | None, config: Path | None) -> None:
    """Bring a coordinator's database up to date.

    `pithead serve` does so by itself when it starts; this does it before, under the same lock.
    """
    from pithead import upgrade

    settings = _settings(data, config)
    found = _refused(lambda: upgrade.plan(settings) if dry_run else upgrade.carry_out(settings))

    def show() -> None:
        if not found.migrations:
            click.echo(f"The database is at version {found.version}: there is nothing to do.")
        for name in found.migrations:
            click.echo(f"{'done' if found.done else 'to do'}: {name}")

    emit(found, show)


COMMANDS: Final = (backup, restore, migrate)


def _settings(data: str | None, config: Path | None) -> Settings:
    try:
        return load({"data": data}, file=config).settings
    except SettingsError as error:
        fail(str(error))


def _refused(work: Callable[[], Any]) -> Any:
    """What the work gives; what it refuses becomes a line."""
    from pithead.store.errors import StoreError

    try:
        return work()
    except StoreError as error:
        fail(str(error))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class _Teller:
    """Says on standard error how far it is: in place on a terminal, in lines elsewhere."""

    def __init__(self) -> None:
        self._status: Any = None
        self._step = ""
        self._said_at = 0.0

    def __enter__(self) -> _Teller:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        return self

    def step(self, what: str) -> None:
        self._step, self._said_at = what, time.monotonic()
        self._say(f"{what} ...")

    def done(self, files: int, size: int) -> None:
        if self._status is None:
            if time.monotonic() - self._said_at < _EVERY:
                return
            self._said_at = time.monotonic()
        self._say(f"{self._step}: {files} files, {_size(size)}")

    def _say(self, line: str) -> None:
        if self._status is not None:
            self._status.update(line)
        else:
            click.echo(line, err=True)

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
