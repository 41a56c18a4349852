"""Answers as CSV: one shape's fields are the columns."""

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from pithead.wire.base import encode

#: A spreadsheet takes a cell that begins so for a formula, and runs it.
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> str:
    """A value as a cell. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | dict | msgspec.Struct):
        # What has parts of its own is JSON within its cell.
        value = encode(value).decode()
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA_STARTS) else value
    return str(value)


def head(columns: Sequence[str]) -> str:
    """The first line."""
    return _line(columns)


def line(values: Iterable[Any]) -> str:
    """A line of these values."""
    return _line([cell(value) for value in values])


def lines(rows: Iterable[msgspec.Struct]) -> str:
    """A line for each of these (RFC 4180: CRLF, quotes where needed)."""
    return "".join(line(msgspec.structs.astuple(row)) for row in rows)


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
