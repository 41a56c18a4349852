"""What commands print, and how they end.

    @click.command()
    @json_option                      # or `profiles.connection_options`, which has it too
    def show() -> None:
        if not found: fail("there is no such thing; see 'pithead … list'")
        emit(view, lambda: facts(name=view.name, balance=view.balance))

With `--json`, stdout has exactly one JSON document. Whatever another party wrote goes through `clean` on its way to the
terminal; `table` and `facts` do so themselves. Exit codes: 0 done; 1 the work itself came to nothing; 2 it could not be
done, with one line on stderr; 130 interrupted.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, Final, Literal, NoReturn, TypeVar

import click
import msgspec

from pithead.wire import tables
from pithead.wire.base import encode

F = TypeVar("F", bound=Callable[..., Any])

_JSON = "pithead.json"
_CSV = "pithead.csv"


class Failure(click.ClickException):
    """Ends the command with one line on stderr: what is wrong, and what to do."""

    exit_code = 2

    def show(self, file: IO[str] | None = None) -> None:
        click.echo(f"pithead: {clean(self.message)}", file=file, err=file is None)


class Fruitless(Failure):
    """The command did what it was asked, but the work itself came to nothing."""

    exit_code = 1


def fail(message: str, code: Literal[1, 2] = 2) -> NoReturn:
    """End the command: `pithead: <what is wrong>; <what to do>` on stderr, and the exit code."""
    raise (Failure if code == 2 else Fruitless)(message)


def _note_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_JSON] = True


#: What `click.option("--json", …)` is given.
JSON_OPTION: Final[dict[str, Any]] = {
    "is_flag": True,
    "expose_value": False,
    "callback": _note_json,
    "help": "Print one JSON document.",
}


def json_option(command: F) -> F:
    """Gives the function of a command (or group, for all within) `--json`."""
    return click.option("--json", **JSON_OPTION)(command)


def _note_csv(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_CSV] = True


def csv_option(command: F) -> F:
    """Gives the function of a command `--csv`."""
    option = click.option(
        "--csv", is_flag=True, expose_value=False, callback=_note_csv, help="Print a table for a spreadsheet."
    )
    return option(command)


def wants_csv() -> bool:
    """Whether `--csv` was given. Ends the command where `--json` was, too."""
    asked = bool(click.get_current_context().meta.get(_CSV))
    if asked and wants_json():
        fail("there are --json and --csv; give one of them")
    return asked


def wants_json() -> bool:
    """Whether `--json` was given, to the command or to a group above it."""
    return bool(click.get_current_context().meta.get(_JSON))


def emit(value: Any, show: Callable[[], None]) -> None:
    """Print the value: as one JSON document with `--json`, else by calling `show`. Decimals are numbers in JSON."""
    if wants_json():
        click.echo(msgspec.json.format(encode(value), indent=2))
    else:
        show()


def print_csv(rows: Iterable[Any], columns: Sequence[str]) -> None:
    """Print rows as CSV, each as it comes: structs of that many fields, or mappings that have these keys."""
    click.echo(tables.head(columns), nl=False)
    for row in rows:
        cells = [row[name] for name in columns] if isinstance(row, Mapping) else msgspec.structs.astuple(row)
        click.echo(tables.line(cells), nl=False)


def clean(text: str) -> str:
    """The text on one line and without control characters: what others wrote must not steer the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a column whose name begins with `>` is set right. Colour and cutting to width only on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Elsewhere than on a terminal nothing is cut: the reader is a program.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000)
    out = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        out.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=right or column.endswith("ID"))
    for row in rows:
        out.add_row(*(Text(word(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    console.print(out)


def facts(**values: object) -> None:
    """Print names and values, a line each; names in the order given, `_` as a blank. `None` is left out."""
    shown = {name.replace("_", " "): word(value) for name, value in values.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {value}".rstrip())


def word(value: object) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return clean(str(value))


def moment(at: float | None) -> str | None:
    """An instant (seconds since the epoch) in local time, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def result_as_json(data: bytes | None) -> dict[str, Any]:
    """A result for a JSON document: as JSON if it is some, else as text, else in base64; `result_encoding` says which."""
    if data is None:
        return {"result": None, "result_encoding": None}
    try:
        msgspec.json.decode(data)
        return {"result": msgspec.Raw(data), "result_encoding": "json"}
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return {"result": data.decode(), "result_encoding": "text"}
    except UnicodeDecodeError:
        return {"result": base64.b64encode(data).decode(), "result_encoding": "base64"}


_STYLES = {
    **dict.fromkeys(("completed", "active"), "green"),
    **dict.fromkeys(("failed", "expired", "suspended", "offline"), "red"),
    **dict.fromkeys(("assigned", "running", "uploading", "pending", "draining"), "yellow"),
    **dict.fromkeys(("cancelled", "retired"), "dim"),
}
