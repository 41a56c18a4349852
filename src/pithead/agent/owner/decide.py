"""Whether the machine may take work now, and whether a job may be taken: the owner's rules, as plain functions.

Nothing here reads a clock or a sensor. `standing` judges the machine, `refusal` one offer; both say why in words that
the log, the dashboard and `pithead miner status` show as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from pithead.agent.owner.settings import DAYS, Owner
from pithead.agent.runners.base import About

_GIGABYTE: Final = 1e9


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One reading of a GPU; `None` where it does not tell."""

    index: int = 0
    name: str = "GPU"
    #: Per cent, in all and by processes other than ours.
    utilization: float | None = None
    others: float | None = None
    #: Per cent of its memory in use.
    memory: float | None = None
    #: Degrees Celsius, watts.
    temperature: float | None = None
    power: float | None = None


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What was measured."""

    gpus: Sequence[Gpu] = ()
    #: Bytes of the machine's memory that are free.
    free_memory: float | None = None
    #: Bytes of inputs and results today.
    data_today: float = 0.0
    #: What alerts ask for, with their reasons.
    throttle: str = ""
    pause: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Whether new work may be taken, and why not."""

    may: bool = True
    #: Empty where nothing speaks against it.
    why: str = ""
    #: How many at a time, whatever was registered; `None`: as many as that.
    at_once: int | None = None
    #: When a reading last spoke against it, in seconds of the caller's clock.
    last_over: float | None = None


def standing(owner: Owner, now: datetime, clock: float, readings: Readings, before: Standing | None = None) -> Standing:
    """How the machine stands at `now` (local time). `clock` is in seconds and only ever compared with itself.

    What the clock on the wall decides takes effect at once. Where a reading was over its limit, work is taken again only
    when none was for `settle` seconds.
    """
    at_once = 1 if readings.throttle else owner.max_concurrent
    last = None if before is None else before.last_over
    if why := _paused(owner, now) or _hours(owner, now):
        return Standing(may=False, why=why, at_once=at_once, last_over=last)
    if why := _over(owner, readings):
        return Standing(may=False, why=why, at_once=at_once, last_over=clock)
    if before is not None and last is not None and clock - last < owner.settle:
        left = owner.settle - (clock - last)
        limit = "a limit was passed lately" if before.may else before.why.partition("; ")[0]
        return Standing(may=False, why=f"{limit}; again in {left:.0f} s", at_once=at_once, last_over=last)
    return Standing(may=True, why=readings.throttle, at_once=at_once)


def withheld(owner: Owner, model: str, about: About | None) -> str | None:
    """Why this model is not offered; `None` where it is. `about`: what it is here, where that is known."""
    if owner.models is not None and model not in owner.models:
        return f"the model {model} is not offered"
    if owner.kinds is not None and (about is None or about.kind not in owner.kinds):
        return f"jobs of the kind {about.kind if about else 'unknown'} are not taken"
    if owner.images is not None and about is not None and about.image and about.image not in owner.images:
        return f"the image of {model} is not among those allowed"
    return None


def refusal(owner: Owner, *, model: str, client_id: str, price: float, about: About | None = None) -> str | None:
    """Why this job is not for us; `None` where it may be taken."""
    if why := withheld(owner, model, about):
        return why
    if owner.clients_allowed is not None and client_id not in owner.clients_allowed:
        return f"{client_id} is not among the clients allowed"
    if client_id in owner.clients_refused:
        return f"{client_id} is refused"
    if price < owner.minimum_price:
        return f"it pays {price:g}, less than {owner.minimum_price:g}"
    return None


def _paused(owner: Owner, now: datetime) -> str:
    if owner.pause is None or owner.pause == "no":
        return ""
    if owner.pause == "yes":
        return "paused by the owner"
    until = datetime.fromisoformat(owner.pause)
    local = now if until.tzinfo is not None and now.tzinfo is not None else now.replace(tzinfo=None)
    if local.tzinfo is None:
        until = until.replace(tzinfo=None) if until.tzinfo is None else until.astimezone().replace(tzinfo=None)
    return f"paused by the owner until {until:%Y-%m-%d %H:%M}" if local < until else ""


def _hours(owner: Owner, now: datetime) -> str:
    """Why it is no time to work. A range over midnight belongs to the day on which it begins."""
    today = now.date()
    for day in (today, today - timedelta(days=1)):
        if owner.days and DAYS[day.weekday()] not in owner.days:
            continue
        for begins, ends in map(_range, owner.hours or ["00:00-24:00"]):
            start = datetime.combine(day, time.min) + begins
            end = datetime.combine(day, time.min) + (ends if ends > begins else ends + timedelta(days=1))
            if start <= now.replace(tzinfo=None) < end:
                return ""
    when = ", ".join(owner.hours) or "all day"
    return f"outside the hours allowed ({when}{' on ' + ', '.join(owner.days) if owner.days else ''})"


def _range(text: str) -> tuple[timedelta, timedelta]:
    begins, _, ends = text.partition("-")
    return _clock(begins), _clock(ends)


def _clock(text: str) -> timedelta:
    hours, _, minutes = text.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def _over(owner: Owner, readings: Readings) -> str:
    """The first reading that is beyond its limit, in words."""
    limits = owner.limits
    if readings.pause:
        return readings.pause
    for gpu in readings.gpus:
        for value, limit, words in (
            (gpu.others, limits.others, "others use {:.0f} % of GPU {}, over the limit of {:g}"),
            (gpu.temperature, limits.temperature, "{:.0f} °C at GPU {}, over the limit of {:g}"),
            (gpu.power, limits.power, "{:.0f} W at GPU {}, over the limit of {:g}"),
            (gpu.memory, limits.gpu_memory, "{:.0f} % of GPU {}'s memory in use, over the limit of {:g}"),
        ):
            if value is not None and limit is not None and value > limit:
                return words.format(value, gpu.index, limit)
    if limits.free_memory is not None and readings.free_memory is not None:
        free = readings.free_memory / _GIGABYTE
        if free < limits.free_memory:
            return f"{free:.1f} GB of memory free, less than {limits.free_memory:g}"
    if limits.data_per_day is not None and readings.data_today / 1e6 >= limits.data_per_day:
        return f"{readings.data_today / 1e6:.0f} MB of data today, the limit is {limits.data_per_day:g}"
    return ""
