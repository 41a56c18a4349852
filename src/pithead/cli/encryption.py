"""`pithead admin keygen`, `encrypt`, `decrypt`, `rekey`: done on the coordinator's machine, while it does not run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pithead.cli.output import emit, json_option
from pithead.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from pithead.offline import Done

F = TypeVar("F", bound=Callable[..., Any])

#: In a log, a line for each so many results.
_EVERY: Final = 1000


def _folder(function: F) -> F:
    data = click.option("--data", help="The coordinator's folder.")
    config = click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
    return data(config(json_option(function)))


def _keep(function: F) -> F:
    text = "Keep the old database as pithead.db.old; it is overwritten and deleted otherwise."
    return click.option("--keep-old", is_flag=True, help=text)(function)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def keygen(file: Path) -> None:
    """Make a database key, in a new file of its own.

    Only you can read the file. Keep a copy elsewhere: without the key, what it encrypts is lost.
    """
    from pithead.offline import make_key

    _refused(lambda: make_key(file))
    emit(
        {"path": str(file)},
        lambda: click.echo(
            f"Wrote a new key into {file}. Without it, what it encrypts is lost: keep a copy elsewhere."
        ),
    )


@click.command()
@_keep
@_folder
def encrypt(data: str | None, config: Path | None, keep_old: bool) -> None:
    """Encrypt all that a coordinator keeps.

    The database, the signing key and the results, with the coordinator stopped. The key is the one in the settings
    (db_encryption_key_path and its like). If it is interrupted, do it again.
    """
    from pithead import offline

    settings = _settings(data, config)
    done = _with_progress(lambda teller: offline.encrypt(settings, teller, keep_old=keep_old))
    _say(done, "encrypted", "set db_encryption_enabled = true before the next start")


@click.command()
@click.option("--give-up-missing", is_flag=True, help="Go on without results that are not in the blob store.")
@_keep
@_folder
def decrypt(data: str | None, config: Path | None, keep_old: bool, give_up_missing: bool) -> None:
    """Decrypt all that a coordinator keeps.

    With the coordinator stopped. If it is interrupted, do it again.
    """
    from pithead import offline

    settings = _settings(data, config)
    done = _with_progress(
        lambda teller: offline.decrypt(settings, teller, keep_old=keep_old, give_up_missing=give_up_missing)
    )
    _say(done, "decrypted", "set db_encryption_enabled = false before the next start")


@click.command()
@click.option("--new-key-path", default="", metavar="FILE", help="The file with the new key.")
@click.option("--new-key-command", default="", metavar="COMMAND", help="A command that prints the new key.")
@_keep
@_folder
def rekey(data: str | None, config: Path | None, keep_old: bool, new_key_path: str, new_key_command: str) -> None:
    """Give the database another key.

    With the coordinator stopped. If it is interrupted, do it again. The present key is the one in the settings. The new one may also be in PITHEAD_NEW_DB_ENCRYPTION_KEY. Results are not
    rewritten.
    """
    from pithead import offline

    settings = _settings(data, config)
    value = os.environ.get("PITHEAD_NEW_DB_ENCRYPTION_KEY", "")
    new = _refused(lambda: offline.find_new_key(new_key_path, new_key_command, value))
    done = _with_progress(lambda teller: offline.rekey(settings, new, teller, keep_old=keep_old))
    new.wipe()
    _say(done, "under the new key", "name the new key in the settings before the next start")


COMMANDS: Final = (keygen, encrypt, decrypt, rekey)


def _settings(data: str | None, config: Path | None) -> Settings:
    try:
        return load({"data": data}, file=config).settings
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


def _refused(work: Callable[[], Any]) -> Any:
    """What the work gives; what it refuses becomes a line."""
    from pithead.store.errors import StoreError

    try:
        return work()
    except StoreError as error:
        raise click.UsageError(str(error)) from error


def _with_progress(work: Callable[[Any], Done]) -> Done:
    """Do it, saying on standard error how far it is: in place on a terminal, in lines elsewhere."""
    from pithead.offline import Teller

    class Lines(Teller):
        def step(self, what: str) -> None:
            click.echo(f"{what} ...", err=True)

        def results(self, done: int, size: int) -> None:
            if done % _EVERY == 0:
                click.echo(f"{done} results, {size / 1e6:.0f} MB ...", err=True)

    if not sys.stderr.isatty():
        done: Done = _refused(lambda: work(Lines()))
        return done
    from rich.console import Console

    with Console(stderr=True).status("") as status:

        class InPlace(Teller):
            def step(self, what: str) -> None:
                status.update(f"{what} ...")

            def results(self, done: int, size: int) -> None:
                status.update(f"{done} results, {size / 1e6:.0f} MB ...")

        shown: Done = _refused(lambda: work(InPlace()))
        return shown


def _say(done: Done, state: str, then: str) -> None:
    def show() -> None:
        already = "" if done.rewritten or done.results else " already"
        click.echo(f"{done.database or 'What Pithead keeps beside the database'} is {state}{already}.")
        if done.results:
            click.echo(f"{done.results} results were rewritten.")
        if done.missing:
            click.echo(f"{done.missing} results are not in the blob store: check blob_store.")
        if not done.settings_fit:
            click.echo(f"Now {then}.")

    emit(done, show)
