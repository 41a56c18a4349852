"""Payouts: their states, what moves one from one to another, and when the schedule makes some.

All that affects a transition is in TRANSITIONS; a payout's money is reserved when it is requested, and leaves or comes back
with its last step.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

import msgspec

from pithead.core.errors import Conflict

#: How often payouts are made by themselves. Days, weeks and months begin at midnight UTC, weeks on Mondays.
Schedule = Literal["off", "daily", "weekly", "monthly"]


class State(StrEnum):
    """Where a payout is."""

    REQUESTED = "requested"  #: The amount is reserved; an operator has to decide.
    APPROVED = "approved"  #: Ready for the bank or the wallet.
    PAID = "paid"  #: The money has left, under an external reference.
    REJECTED = "rejected"  #: The amount went back to the miner.


class Event(StrEnum):
    """What happens to a payout."""

    APPROVE = "approve"
    REJECT = "reject"
    PAY = "pay"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.REQUESTED: {Event.APPROVE: State.APPROVED, Event.REJECT: State.REJECTED},
    State.APPROVED: {Event.PAY: State.PAID, Event.REJECT: State.REJECTED},
    State.PAID: {},
    State.REJECTED: {},
}

#: The states in which the amount is reserved.
OPEN: Final = frozenset(state for state, out in TRANSITIONS.items() if out)


class Payout(msgspec.Struct, frozen=True):
    """A payout as it stands. Times are seconds since the epoch, money is millionths."""

    seq: int
    id: str
    miner: int  #: The miner's number, which is its account too.
    amount: int
    destination: str  #: As it was when the payout was requested: what the miner writes later does not redirect it.
    state: State
    period: float | None  #: When the period began whose schedule made it; `None`: the miner asked.
    requested_at: float
    decided_at: float | None = None  #: When it was approved or rejected.
    paid_at: float | None = None
    reference: str = ""  #: The bank's or the chain's name for the payment.
    note: str = ""


def apply(payout: Payout, event: Event) -> State:
    """The state after `event`. Raises `Conflict` where the table has no such transition."""
    try:
        return TRANSITIONS[payout.state][event]
    except KeyError:
        raise Conflict(f"payout {payout.id} is {payout.state}: it cannot {event} now") from None


def period_start(schedule: Schedule, now: float) -> float | None:
    """When the period that `now` lies in began; `None` with the schedule off."""
    if schedule == "off":
        return None
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if schedule == "weekly":
        day -= timedelta(days=day.weekday())
    elif schedule == "monthly":
        day = day.replace(day=1)
    return day.timestamp()
