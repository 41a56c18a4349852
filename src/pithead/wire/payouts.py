"""Payouts: what a miner asks for, what the operator decides, and the export for a bank or a wallet."""

from typing import Annotated, Literal

from msgspec import Meta

from pithead.wire.base import MAX_AMOUNT, Amount, Answer, Destination, Instant, Line, OpenRequest, StrictRequest

PayoutStatus = Literal["requested", "approved", "paid", "rejected"]
#: The bank's or the chain's name for a payment.
Reference = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\u0000-\u001f\u007f]*$(?!\n)")]


class RequestPayout(OpenRequest):
    """What is to be paid out."""

    #: Absent: all that is there.
    amount: Annotated[float, Meta(gt=0, le=MAX_AMOUNT)] | None = None


class CreatePayout(StrictRequest):
    """A payout that the operator makes for a miner, as for one that is retired."""

    #: Absent: all that is there.
    amount: Annotated[float, Meta(gt=0, le=MAX_AMOUNT)] | None = None
    #: Absent: the miner's own.
    destination: Destination | None = None


class PayoutView(Answer):
    """A payout as it stands. The fields, in this order, are the columns of the export."""

    payout_id: str
    miner_id: str
    miner_name: str
    amount: Amount
    #: As the miner had written it when the payout was requested.
    destination: str
    status: PayoutStatus
    #: Whether the operator's schedule made it, and not the miner.
    scheduled: bool
    requested_at: Instant
    #: When it was approved or rejected.
    decided_at: Instant | None
    paid_at: Instant | None
    reference: str
    note: str


class PayoutPage(Answer):
    """Some payouts, the newest first."""

    payouts: list[PayoutView]
    next_cursor: str | None


class MinerPayouts(PayoutPage):
    """Some of a miner's payouts, the newest first."""

    #: What it earned and has not asked for yet.
    balance: Amount


class RejectPayout(StrictRequest):
    """Why; the miner reads it."""

    note: Line = ""


class MarkPaid(StrictRequest):
    """How it was paid; the miner reads it."""

    reference: Reference
    note: Line = ""
