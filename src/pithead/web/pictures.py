"""Pictures that are drawn here and need no script."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from pithead.core.money import units
from pithead.exchange.ports import Earned


class Column(msgspec.Struct, frozen=True):
    """One day's column: its day, what it stands for, and its height in hundredths of the highest."""

    key: str
    jobs: int
    amount: Decimal
    height: float


def columns(days: Sequence[Earned]) -> Sequence[Column]:
    """A column for each day."""
    top = max((day.amount for day in days), default=0) or 1
    return [Column(day.key, day.jobs, units(day.amount), round(100 * day.amount / top, 1)) for day in days]
