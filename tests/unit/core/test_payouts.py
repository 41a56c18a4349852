"""The table of a payout's states, and when the schedule's periods begin."""

from datetime import UTC, datetime
from itertools import product
from typing import get_args

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pithead.core.errors import Conflict
from pithead.core.payouts import OPEN, TRANSITIONS, Event, Payout, Schedule, State, apply, period_start
from pithead.wire.payouts import PayoutStatus

LEGAL = {
    (State.REQUESTED, Event.APPROVE): State.APPROVED,
    (State.REQUESTED, Event.REJECT): State.REJECTED,
    (State.APPROVED, Event.PAY): State.PAID,
    (State.APPROVED, Event.REJECT): State.REJECTED,
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_only_what_the_table_says_is_legal(state: State, event: Event) -> None:
    payout = Payout(1, "payout_1", 100, 5, "x", state, None, 0.0)
    if (state, event) in LEGAL:
        assert apply(payout, event) is LEGAL[state, event]
    else:
        with pytest.raises(Conflict):
            apply(payout, event)


def test_every_state_is_in_the_table_and_in_the_wire() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {State.REQUESTED, State.APPROVED} == OPEN
    assert set(get_args(PayoutStatus)) == {state.value for state in State}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "start"),
    [
        ("daily", "2026-03-01T00:00:00", "2026-03-01"),
        ("daily", "2026-02-28T23:59:59.999", "2026-02-28"),
        ("weekly", "2026-03-01T12:00:00", "2026-02-23"),  # a Sunday belongs to the Monday before
        ("weekly", "2026-03-02T00:00:00", "2026-03-02"),
        ("monthly", "2024-02-29T23:00:00", "2024-02-01"),
        ("monthly", "2026-01-01T00:00:00", "2026-01-01"),
    ],
)
def test_periods_begin_at_midnight(schedule: Schedule, now: str, start: str) -> None:
    assert period_start(schedule, at(now)) == at(start)


@given(now=st.floats(0, 4e9), schedule=st.sampled_from(["daily", "weekly", "monthly"]))
def test_a_period_contains_its_times_and_they_agree(now: float, schedule: Schedule) -> None:
    start = period_start(schedule, now)
    assert start is not None
    assert 0 <= now - start < 31 * 86_400
    assert period_start(schedule, start) == start


def test_off_has_no_periods() -> None:
    assert period_start("off", 1e9) is None
