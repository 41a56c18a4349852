"""What a job asks to be held to, within what the owner allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pithead.agent.runners.base import RunFailed
from pithead.agent.sandbox import Limits
from pithead.wire.miners import JobLimits

#: The field of `Limits`, that of `JobLimits`, and what it is in words.
_FIELDS: Final = (
    ("seconds", "wall_clock_seconds", "s of time"),
    ("memory", "memory_bytes", "bytes of memory"),
    ("scratch", "scratch_bytes", "bytes of scratch folder"),
    ("output", "output_bytes", "bytes of result"),
    ("processes", "pids", "processes"),
)


def bounded(own: Limits, asked: JobLimits | None) -> Limits:
    """The owner's limits, lowered to what the job asks for.

    Raises `RunFailed` of kind `over_limit` where it asks for more: another miner may have more to give.
    """
    if asked is None:
        return own
    given: dict[str, int | float] = {}
    for name, field, words in _FIELDS:
        wanted: int | float | None = getattr(asked, field)
        most: int | float = getattr(own, name)
        if wanted is None:
            continue
        if wanted > most:
            raise RunFailed("over_limit", f"the job asks for {wanted:.15g} {words}; this miner gives {most:.15g}")
        given[name] = wanted
    return replace(own, **given)  # type: ignore[arg-type]
