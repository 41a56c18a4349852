"""Templates, and how figures, times and states are written in them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pithead.web.static import Static

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def money(amount: Decimal | int) -> str:
    """An amount as people read it: at least two decimal places, and as many as it has."""
    text = f"{Decimal(amount):,.6f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None:
        return "–"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left, parts = int(seconds), list[str]()
    for size, unit in _UNITS:
        if left >= size or (parts and left):
            parts.append(f"{left // size} {unit}")
            left %= size
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def size(number: int | None) -> str:
    """Bytes."""
    if number is None:
        return "–"
    amount = float(number)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def instant(at: float) -> str:
    """A moment, to the second, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def since(at: float | None, now: float) -> Markup:
    """How long ago, or how soon, with the moment itself as a title."""
    if at is None:
        return Markup('<span class="quiet">never</span>')
    gap = now - at
    said = "now" if abs(gap) < 1 else f"{_one_unit(gap)} ago" if gap > 0 else f"in {_one_unit(-gap)}"
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, instant(at), said)


def _one_unit(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "1 s"


def percent(share: float) -> str:
    """A share of 1, in hundredths."""
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


class Pages:
    """Renders templates."""

    def __init__(self, static: Static) -> None:
        self._environment = Environment(
            loader=PackageLoader("pithead.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in (money, count, duration, size, instant, since, percent):
            self._environment.filters[name.__name__] = name
        self._environment.globals["static"] = static.url

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The page."""
        return self._environment.get_template(template).render(values)
