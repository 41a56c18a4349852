"""`pithead settings`: every setting, its value, and where the value comes from."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pithead.cli.output import csv_option, emit, fail, json_option, print_csv, wants_csv, wants_json
from pithead.settings import SECRETS, URLS, SettingsError, load, options, value_of, without_password


@click.command()
@click.option("--data", help="The coordinator's folder, where a pithead.toml may lie.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
@json_option
@csv_option
def settings(data: str | None, config: Path | None) -> None:
    """Print every setting of the coordinator: its value, where that comes from, and what it means."""
    try:
        loaded = load({"data": data}, file=config)
    except SettingsError as error:
        fail(str(error))
    rows = []
    for option in options():
        value = value_of(loaded.settings, option.name)
        if option.name == "data":
            value = str(loaded.settings.folder)
        if option.name in SECRETS:
            value = "(set)" if value else ""
        if option.name in URLS:
            value = without_password(value)
        rows.append(
            {
                "name": option.name,
                "value": value,
                "source": loaded.sources.get(option.name, "default"),
                "variable": option.variable,
                "meaning": option.meaning,
            }
        )
    if wants_csv():
        print_csv(rows, tuple(rows[0]))
    else:
        emit({"settings": rows, "warnings": loaded.warnings}, lambda: _show(rows))
    if wants_json():
        return
    for warning in loaded.warnings:
        click.echo(f"pithead: {warning}", err=True)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("setting", "value", "source", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for row in rows:
        table.add_row(row["name"], str(row["value"]), row["source"], row["meaning"])
    Console().print(table)
