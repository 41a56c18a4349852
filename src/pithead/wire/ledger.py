"""The ledger as it is read: statements of accounts, earnings, and the check."""

from typing import Annotated, Literal

from msgspec import Meta

from pithead.wire.base import MAX_AMOUNT, Amount, Answer, Instant, StrictRequest

#: What a posting is for. `hold`: a job's price is set aside. `payment`: it goes to the miner. `fee`: the operator's share of
#: it. `refund`: it goes back to the client. `credit`: the operator changed a balance. `payout`: a miner's earnings are
#: reserved for one. `payout_returned`: it was rejected. `payout_paid`: it has left.
Cause = Literal["credit", "hold", "payment", "fee", "refund", "payout", "payout_returned", "payout_paid"]
#: What earnings are added up by.
EarningsBy = Literal["day", "model", "client"]


class SetCreditLine(StrictRequest):
    """How far below 0 a client's balance may go."""

    amount: Annotated[float, Meta(ge=0, le=MAX_AMOUNT)]


class LedgerEntry(Answer):
    """One posting, as one account sees it."""

    #: Its number in the ledger.
    entry: int
    at: Instant
    cause: Cause
    #: Negative where it left the account.
    amount: Amount
    #: What the account held after it.
    balance: Amount
    job_id: str | None
    payout_id: str | None
    note: str


class Statement(Answer):
    """Some of an account's postings, the newest first."""

    #: What the account holds now.
    balance: Amount
    entries: list[LedgerEntry]
    #: Ask for the next page with `?cursor=`; `null` on the last.
    next_cursor: str | None


class TransferView(Answer):
    """One posting of the whole ledger. An account is named by its owner and its class."""

    entry: int
    at: Instant
    cause: Cause
    amount: Amount
    from_account: str
    from_class: str
    to_account: str
    to_class: str
    job_id: str | None
    payout_id: str | None
    note: str


class LedgerPage(Answer):
    """Some of the whole ledger, the newest first."""

    entries: list[TransferView]
    next_cursor: str | None


class EarningsRow(Answer):
    """What a miner was paid under one heading."""

    #: A day of UTC as `YYYY-MM-DD`, a model, or a client's id.
    key: str
    #: How many jobs paid something.
    jobs: int
    earned: Amount


class Earnings(Answer):
    """What a miner was paid, added up."""

    by: EarningsBy
    jobs: int
    earned: Amount
    rows: list[EarningsRow]


class LedgerFault(Answer):
    """Something that is wrong with the ledger."""

    kind: Literal["ledger", "account", "job", "payout", "posting"]
    #: The account's owner, the job's or the payout's id, or the posting's number.
    subject: str
    message: str


class LedgerCheck(Answer):
    """What a check of the ledger looked at, and what it found."""

    #: Whether there is no fault.
    sound: bool
    accounts: int
    jobs: int
    payouts: int
    transfers: int
    #: How many faults there are.
    faulty: int
    #: The first hundred of them.
    faults: list[LedgerFault]


class CheckProgress(Answer):
    """How far a check is: a line of its `application/x-ndjson`, whose last line is the `LedgerCheck`."""

    part: Literal["accounts", "jobs", "payouts", "postings"]
    done: int
    total: int
