"""What miners report of themselves, as plots: whatever figures the reports have, since their shape is the owner's to choose."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

#: Plots on a page, and lines in one of them.
_PLOTS, _LINES = 6, 8

#: What figures of our own agent are called, and how high their axes go at the least.
_KNOWN: Final = {
    "utilization_percent": ("GPU utilisation, %", 100),
    "temperature_celsius": ("GPU temperature, °C", 90),
    "memory_used_bytes": ("GPU memory in use, GiB", 0),
    "power_watts": ("GPU power, W", 0),
    "others_percent": ("GPU used by others, %", 100),
}
_GIB: Final = 2**30


class Plot(msgspec.Struct, frozen=True):
    """One picture: its title, the lines' names, and the figures, first of them the times."""

    title: str
    top: float
    series: list[str]
    data: list[list[float | None]]

    @property
    def json(self) -> str:
        """For the script that draws it."""
        return json.dumps({"top": self.top, "series": self.series, "data": self.data}, separators=(",", ":"))

    @property
    def last(self) -> list[tuple[str, float | None]]:
        """Each line's newest figure."""
        return [(name, values[-1]) for name, values in zip(self.series, self.data[1:], strict=True)]


def plots(samples: Sequence[tuple[float, Any]]) -> list[Plot]:
    """Plots of these reports, the oldest first."""
    times = [at for at, _ in samples]
    lines: dict[str, dict[str, list[float | None]]] = {}
    for at, (_, report) in enumerate(samples):
        for group, name, value in _figures(report):
            line = lines.setdefault(group, {}).setdefault(name, [None] * len(samples))
            line[at] = value
    ordered = sorted(lines.items(), key=lambda one: (list(_KNOWN).index(one[0]) if one[0] in _KNOWN else 99, one[0]))
    found = []
    for group, named in ordered[:_PLOTS]:
        title, top = _KNOWN.get(group, (group.replace("_", " ").capitalize(), 0))
        some = dict(list(named.items())[:_LINES])
        found.append(Plot(title, top, list(some), [list(times), *some.values()]))
    return found


def _figures(report: Any) -> list[tuple[str, str, float]]:
    """Which plot, which line, and the figure."""
    found: list[tuple[str, str, float]] = []
    if not isinstance(report, dict):
        return found
    for name, value in report.items():
        if isinstance(value, list):
            for index, gpu in enumerate(value):
                if isinstance(gpu, dict):
                    found += [
                        (str(key), f"GPU {index}", _scaled(key, n))
                        for key, n in gpu.items()
                        if key in _KNOWN and _is_number(n)
                    ]
        elif _is_number(value):
            found.append((str(name), str(name), float(value)))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(name: str, value: float) -> float:
    return round(value / _GIB, 2) if name.endswith("_bytes") else float(value)
