"""The owner's rules, as plain functions."""
# ruff: noqa: DTZ001 (what hours and days mean is the local time, whatever the zone)

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.agent.owner.decide import Gpu, Readings, Standing, refusal, standing
from pithead.agent.owner.settings import DAYS, Limits, Owner
from pithead.agent.runners.base import About

#: A Saturday.
NOON = datetime(2026, 1, 31, 12, 0)
_times = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59))
_hours = st.lists(st.builds(lambda a, b: f"{a}-{b}", _times, _times | st.just("24:00")), max_size=3)
_days = st.lists(st.sampled_from(DAYS), max_size=4, unique=True)
_moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31))
_values = st.none() | st.floats(0, 200)
_gpus = st.lists(st.builds(Gpu, others=_values, temperature=_values, power=_values, memory=_values), max_size=3)
_limit = st.none() | st.floats(0.1, 100)
_limits = st.builds(Limits, temperature=_limit, power=_limit, gpu_memory=_limit, others=_limit, free_memory=_limit)
_readings = st.builds(Readings, gpus=_gpus, free_memory=st.none() | st.floats(0, 2e11), data_today=st.floats(0, 1e9))
_owners = st.builds(
    Owner, hours=_hours, days=_days, limits=_limits, settle=st.floats(0, 1000), pause=st.none() | st.just("yes")
)


def judged(
    owner: Owner, now: datetime = NOON, clock: float = 0, before: Standing | None = None, **read: Any
) -> Standing:
    return standing(owner, now, clock, Readings(**read), before)


def test_an_owner_who_said_nothing_lets_it_work() -> None:
    assert judged(Owner(), gpus=[Gpu(temperature=99, others=100)]) == Standing()


@given(_owners, _moments, st.floats(0, 1e6), _readings)
def test_it_says_why_exactly_where_it_may_not(owner: Owner, now: datetime, clock: float, readings: Readings) -> None:
    found = standing(owner, now, clock, readings)
    assert found.may is (found.why == "")


@given(_owners, _moments, st.floats(0, 1e6), _readings)
def test_a_pause_stops_everything(owner: Owner, now: datetime, clock: float, readings: Readings) -> None:
    assert not standing(msgspec.structs.replace(owner, pause="yes"), now, clock, readings).may


@given(_limits, _gpus, st.floats(0, 1e6))
def test_no_reading_over_its_limit_lets_it_work(limits: Limits, gpus: list[Gpu], clock: float) -> None:
    pairs = [
        (getattr(gpu, name), limit)
        for gpu in gpus
        for name, limit in (
            ("others", limits.others),
            ("temperature", limits.temperature),
            ("power", limits.power),
            ("memory", limits.gpu_memory),
        )
    ]
    over = any(value is not None and limit is not None and value > limit for value, limit in pairs)
    assert judged(Owner(limits=limits), clock=clock, gpus=gpus).may is not over


@given(_hours, _days, _moments)
def test_hours_and_days_hold_to_the_minute(hours: list[str], days: list[str], now: datetime) -> None:
    """Against a calendar of minutes: every minute that a range covers, from the day on which it begins."""
    allowed = set()
    for back in (0, 1, 2):
        midnight = datetime(now.year, now.month, now.day) - timedelta(days=back)
        if days and DAYS[midnight.weekday()] not in days:
            continue
        for text in hours or ["00:00-24:00"]:
            begins, ends = (int(word[:2]) * 60 + int(word[3:]) for word in text.split("-"))
            length = (ends - begins) if ends > begins else (ends - begins + 24 * 60)
            start = midnight + timedelta(minutes=begins)
            if start <= now < start + timedelta(minutes=length):
                allowed.add(text)
    assert judged(Owner(hours=hours, days=days), now).may is bool(allowed)  # type: ignore[arg-type]


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    nights = Owner(hours=["22:00-07:00"], days=["sat"])
    assert judged(nights, datetime(2026, 1, 31, 23)).may
    assert judged(nights, datetime(2026, 2, 1, 6, 59)).may
    assert not judged(nights, datetime(2026, 2, 1, 7)).may
    assert not judged(nights, datetime(2026, 1, 31, 6)).may, "Friday's night"
    assert judged(nights, NOON).why == "outside the hours allowed (22:00-07:00 on sat)"


@pytest.mark.parametrize("zone", ["", "+00:00"])
def test_a_pause_until_an_instant_ends_by_itself(zone: str) -> None:
    owner = Owner(pause="2026-01-31T12:00:00" + zone)
    now = NOON.astimezone() if not zone else datetime.fromisoformat("2026-01-31T12:00:00+00:00").astimezone()
    assert "until 2026-01-31" in judged(owner, now - timedelta(seconds=1)).why
    assert judged(owner, now).may


def test_a_limit_must_hold_again_for_a_while_before_work_is_taken() -> None:
    owner = Owner(limits=Limits(temperature=80), settle=60)
    hot, cool = [Gpu(index=1, temperature=81)], [Gpu(index=1, temperature=79)]
    first = judged(owner, clock=100, gpus=hot)
    assert first.why == "81 °C at GPU 1, over the limit of 80"
    second = judged(owner, clock=130, before=first, gpus=cool)
    assert (second.may, second.why) == (False, "81 °C at GPU 1, over the limit of 80; again in 30 s")
    assert judged(owner, clock=159, before=second, gpus=cool).why.endswith("again in 1 s")
    again = judged(owner, clock=159, before=second, gpus=hot)
    assert not judged(owner, clock=218, before=again, gpus=cool).may, "it counts from the last time that it was over"
    assert judged(owner, clock=219, before=again, gpus=cool).may


def test_memory_and_data_have_limits_too() -> None:
    owner = Owner(limits=Limits(free_memory=8, data_per_day=100))
    assert judged(owner, free_memory=7.9e9).why == "7.9 GB of memory free, less than 8"
    assert judged(owner, free_memory=8.1e9, data_today=99e6).may
    assert judged(owner, data_today=100e6).why == "100 MB of data today, the limit is 100"


def test_alerts_throttle_and_pause() -> None:
    throttled = judged(Owner(max_concurrent=4), throttle="alert: hot")
    assert (throttled.may, throttled.at_once, throttled.why) == (True, 1, "alert: hot")
    assert judged(Owner(), pause="alert: it burns").why == "alert: it burns"
    assert judged(Owner(max_concurrent=4)).at_once == 4


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        (Owner(), None),
        (Owner(models=["gpt2"]), None),
        (Owner(models=["llama"]), "the model gpt2 is not offered"),
        (Owner(clients_allowed=["client_1"]), None),
        (Owner(clients_allowed=["client_2"]), "client_1 is not among the clients allowed"),
        (Owner(clients_refused=["client_1"]), "client_1 is refused"),
        (Owner(clients_allowed=["client_1"], clients_refused=["client_1"]), "client_1 is refused"),
        (Owner(kinds=["llama"]), None),
        (Owner(kinds=["command", "whisper"]), "jobs of the kind llama are not taken"),
        (Owner(kinds=[]), "jobs of the kind llama are not taken"),
        (Owner(images=[]), "the image of gpt2 is not among those allowed"),
        (Owner(images=["sha256:" + "1" * 64]), None),
        (Owner(minimum_price=0.05), None),
        (Owner(minimum_price=0.06), "it pays 0.05, less than 0.06"),
    ],
)
def test_which_jobs_are_passed_by(owner: Owner, why: str | None) -> None:
    about = About("llama", "sha256:" + "1" * 64)
    assert refusal(owner, model="gpt2", client_id="client_1", price=0.05, about=about) == why


def test_what_is_of_no_known_kind_is_taken_only_where_all_kinds_are() -> None:
    def why(owner: Owner) -> str | None:
        return refusal(owner, model="gpt2", client_id="client_1", price=0.05)

    assert why(Owner()) is None
    assert why(Owner(kinds=["llama"])) == "jobs of the kind unknown are not taken"


def test_readings_that_are_not_told_limit_nothing() -> None:
    strict = Limits(temperature=1, power=1, gpu_memory=1, others=0, free_memory=1000)
    assert judged(Owner(limits=strict), gpus=[replace(Gpu(), index=2)]).may
