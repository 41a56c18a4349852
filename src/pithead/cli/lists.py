"""Lists: how many there are to be, and as a table, as JSON or as CSV.

@command(things, "list")
@listing
def list_(limit: int | None) -> None:
    with connection().client() as client:
        found = some(client.iter_things(page_size=page_size(limit)), limit)
        listed("things", found, Thing, ("NAME", ">PRICE"), lambda one: (one.name, one.price))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import click
import msgspec

from pithead.cli.output import csv_option, emit, print_csv, table, wants_csv

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MOST = 50


def listing(function: F) -> F:
    """Gives a command `--limit` and `--csv`."""
    limit = click.option(
        "--limit", type=click.IntRange(1), help=f"How many at the most; {_MOST} unless --csv, which has them all."
    )
    return limit(csv_option(function))


def some(found: Iterable[T], limit: int | None) -> Iterable[T]:
    """As many as were asked for: all of them only for a spreadsheet."""
    return found if wants_csv() and limit is None else islice(found, limit or _MOST)


def page_size(limit: int | None) -> int:
    """How many to fetch at a time."""
    return 200 if limit is None and wants_csv() else min(limit or _MOST, 200)


def listed(
    name: str,
    found: Iterable[T],
    shape: type[msgspec.Struct] | Sequence[str],
    columns: Sequence[str],
    row: Callable[[T], Sequence[object]],
) -> None:
    """Print a list: as a table, which has a row of these columns for each; with `--json` under this name; with `--csv` each
    as it comes, with all its fields, which are those of the shape, or a mapping's keys."""
    if wants_csv():
        print_csv(found, shape.__struct_fields__ if isinstance(shape, type) else shape)
        return
    whole = list(found)
    emit({name: whole}, lambda: table(columns, map(row, whole)))
