"""`pithead miner set`, `settings`, `pause` and `resume`: what the owner of the machine decides, without a restart."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pithead.agent import registration
from pithead.agent.owner import settings as owners
from pithead.agent.owner.settings import Owner, Unreadable
from pithead.cli.identity import profile_option
from pithead.cli.output import csv_option, emit, fail, json_option, print_csv, table, wants_csv


# A value may be a negative number, or look like an option otherwise.
@click.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Remove the setting: what is the default holds again.")
@profile_option
@json_option
def set_(key: str, value: str | None, unset: bool, profile: str) -> None:
    """Decide something for this machine's miners; one that runs goes by it within seconds.

    Lists are words with commas between them. With --profile, it holds for that miner alone. 'pithead miner settings'
    lists what can be set.
    """
    if unset == (value is not None):
        fail(f"there is no value for {key}, or one and --unset; give a value, or --unset to remove the setting")
    owner = changed(key, value, profile)
    found = owners.value_of(owner, key)
    emit({"key": key, "value": found, "path": str(file())}, lambda: click.echo(f"{key} is {_word(found)} now."))


@click.command()
@profile_option
@json_option
@csv_option
def settings(profile: str) -> None:
    """What the owner may decide, what holds now, and what it means."""
    owner = loaded(profile)
    rows: list[dict[str, Any]] = [
        {"key": one.name, "value": owners.value_of(owner, one.name), "default": one.default, "meaning": one.meaning}
        for one in owners.options()
    ]

    def show() -> None:
        table(("KEY", "VALUE", "MEANING"), ((row["key"], _word(row["value"]), row["meaning"]) for row in rows))
        click.echo(f"Kept in {file()}.")

    if wants_csv():
        print_csv(rows, ("key", "value", "default", "meaning"))
    else:
        emit({"path": str(file()), "settings": rows}, show)


@click.command()
@click.option("--for", "length", metavar="TIME", help="For so long, such as 90s, 15m, 2h, 1d.")
@click.option("--until", type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]), help="Until.")
@profile_option
@json_option
def pause(length: str | None, until: datetime | None, profile: str) -> None:
    """Take no new job, for a time or until 'pithead miner resume'; what runs goes on."""
    if length is not None and until is not None:
        fail("there are two ends, --for and --until; give one of them, not both")
    if length is not None:
        try:
            until = datetime.now().astimezone().replace(tzinfo=None) + timedelta(seconds=owners.duration(length))
        except (ValueError, OverflowError) as error:
            fail(f"{error}; for ever is without --for")
    text = "yes" if until is None else until.isoformat(timespec="seconds")
    changed("pause", text, profile)
    words = "until 'pithead miner resume'" if until is None else f"until {until:%Y-%m-%d %H:%M:%S}"
    emit({"pause": text}, lambda: click.echo(f"Paused {words}; what runs is finished."))


@click.command()
@profile_option
@json_option
def resume(profile: str) -> None:
    """Take jobs again."""
    owner = changed("pause", None, profile)
    if owner.pause is not None:
        owner = changed("pause", "no", profile)
    emit({"pause": owner.pause}, lambda: click.echo("Taking jobs again, as far as the other settings allow."))


def file() -> Path:
    """Where the settings are."""
    return registration.settings_file()


def loaded(profile: str) -> Owner:
    """The settings of that miner; ends the command where they cannot be read."""
    try:
        return owners.load(file(), profile)
    except Unreadable as error:
        fail(str(error))


def changed(key: str, value: str | None, profile: str) -> Owner:
    """Change one of them: for all miners, or for one that is not the default alone."""
    try:
        return owners.put(file(), key, value, None if profile == "default" else profile)
    except Unreadable as error:
        fail(str(error))


def _word(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "–"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={kind}" for name, kind in value.items())
    return str(value)
