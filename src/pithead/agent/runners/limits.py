"""What programs and images are held to by their owner, and within that by what a job asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pithead.agent.runners.base import RunFailed
from pithead.agent.sandbox import Limits
from pithead.wire.miners import JobLimits

MIB: Final = 1 << 20
_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]

#: The field of `Limits`, that of `JobLimits`, and what it is in words.
_FIELDS: Final = (
    ("seconds", "wall_clock_seconds", "s of time"),
    ("memory", "memory_bytes", "bytes of memory"),
    ("scratch", "scratch_bytes", "bytes of scratch folder"),
    ("output", "output_bytes", "bytes of result"),
    ("processes", "pids", "processes"),
)


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the owner writes of a program or an image in `runners.toml`, whatever it is."""

    #: Variables.
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    #: Megabytes of memory, of each scratch folder, and of answer.
    memory: _Count = 2048
    scratch: _Count = 256
    output: _Count = 16
    #: Processes and threads at a time, and processors to keep busy.
    processes: _Count = 128
    cpus: _Positive = 1.0
    #: Seconds.
    seconds: _Positive = 600.0
    #: The input of a job by which `pithead miner try` finds out whether it works.
    trial: Any = None

    def limits(self) -> Limits:
        """For one job."""
        return Limits(
            memory=self.memory * MIB,
            scratch=self.scratch * MIB,
            output=self.output * MIB,
            processes=self.processes,
            cpus=self.cpus,
            seconds=self.seconds,
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
