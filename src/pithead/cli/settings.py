"""`pithead settings`: every setting, its value, and where the value comes from."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from pithead.cli.output import fail
from pithead.settings import SECRETS, URLS, SettingsError, load, options, value_of, without_password


@click.command()
@click.option("--data", help="The coordinator's folder, where a pithead.toml may lie.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def settings(data: str | None, config: Path | None, as_json: bool) -> None:
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
    if as_json:
        click.echo(msgspec.json.encode({"settings": rows, "warnings": loaded.warnings}))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("setting", "value", "source", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for row in rows:
        table.add_row(row["name"], str(row["value"]), row["source"], row["meaning"])
    Console().print(table)
    for warning in loaded.warnings:
        click.echo(f"pithead: {warning}", err=True)
