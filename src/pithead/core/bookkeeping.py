"""What a sound ledger looks like: from a job or an account and its postings to what is wrong with them, if anything.

The rules are stated a second time here, from the outside, and not taken from what made the postings: `ledger check` is to
find what those got wrong. No I/O; money is whole millionths.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pithead.core import jobs
from pithead.core.money import FEES, ISSUED, PAYOUTS, escrow_of, units
from pithead.core.payouts import Payout, State


class Posting(msgspec.Struct, frozen=True):
    """One transfer as it lies in the ledger."""

    seq: int
    at: float
    cause: str
    debit: int  #: The account it takes from,
    credit: int  #: and the one it gives to.
    amount: int
    job: int | None
    payout: int | None
    note: str


class Priced(msgspec.Struct, frozen=True):
    """What a job says of its own money."""

    seq: int
    id: str
    client: int
    price: int
    state: str
    #: Who completed it; `None` unless it is completed.
    miner: int | None
    #: What its completion recorded as earned; `None` unless it is completed and this is still known.
    earned: int | None


class Account(msgspec.Struct, frozen=True):
    """An account, and what its balance has to agree with."""

    seq: int
    owner: str
    kind: str
    balance: int
    #: The sum of its transfers.
    moved: int
    #: Of an escrow: the prices of the client's unfinished jobs. Of a miner: the earnings that its statistics show. Of
    #: the payouts: the amounts of those that are open.
    expected: int
    #: Of a miner: the sum of the payments to it.
    paid: int


#: The causes of postings that belong to a job, and of those that belong to a payout.
JOB_CAUSES: Final = ("hold", "payment", "fee", "refund")
PAYOUT_CAUSES: Final = ("payout", "payout_returned", "payout_paid")
#: The classes of account whose balance is never negative.
_NEVER_NEGATIVE: Final = frozenset({"escrow", "miner", "fees", "payouts"})


def name_of(account: Account) -> str:
    """How a finding names an account: by its owner, an escrow and the operator's own by their class too."""
    return account.owner if account.kind in ("client", "miner") else f"{account.owner} ({account.kind})"


def account_faults(account: Account) -> Iterator[str]:
    """What is wrong with an account."""
    if account.balance != account.moved:
        yield f"its balance is {units(account.balance)}, and its transfers add up to {units(account.moved)}"
    if account.kind in _NEVER_NEGATIVE and account.balance < 0:
        yield f"its balance is {units(account.balance)}, which is below 0"
    if account.kind == "escrow" and account.balance != account.expected:
        yield f"it holds {units(account.balance)}, and the unfinished jobs cost {units(account.expected)}"
    if account.kind == "payouts" and account.balance != account.expected:
        yield f"it holds {units(account.balance)}, and the open payouts are over {units(account.expected)}"
    if account.kind == "miner" and account.paid != account.expected:
        yield f"its earnings are shown as {units(account.expected)}, and it was paid {units(account.paid)}"


def job_faults(job: Priced, postings: Sequence[Posting]) -> Iterator[str]:
    """What is wrong with a job's postings: a price is set aside once, and then paid out in full once or given back once."""
    escrow = escrow_of(job.client)
    routes = {
        "hold": (job.client, escrow),
        "refund": (escrow, job.client),
        "payment": (escrow, job.miner),
        "fee": (escrow, FEES),
    }
    times = dict.fromkeys(JOB_CAUSES, 0)
    sums = dict.fromkeys(JOB_CAUSES, 0)
    for posting in postings:
        if posting.cause not in routes:
            yield f"posting {posting.seq} has the cause {posting.cause}, which is none of a job's"
            continue
        times[posting.cause] += 1
        sums[posting.cause] += posting.amount
        if (posting.debit, posting.credit) != routes[posting.cause] and not (
            posting.cause == "payment" and job.miner is None
        ):
            yield f"posting {posting.seq} ({posting.cause}) is between the wrong accounts"
    yield from _wrong_number("set aside", times["hold"], sums["hold"], job.price)
    if job.state == jobs.State.COMPLETED:
        yield from _wrong_payment(job, times, sums)
    elif job.state in jobs.FINISHED:
        yield from _wrong_number("given back", times["refund"], sums["refund"], job.price)
    elif times["refund"]:
        yield f"it is {job.state}, and its price was given back"
    if job.state != jobs.State.COMPLETED and (times["payment"] or times["fee"]):
        yield f"it is {job.state}, and was paid all the same"


def _wrong_payment(job: Priced, times: dict[str, int], sums: dict[str, int]) -> Iterator[str]:
    if times["refund"]:
        yield "it is completed, and its price was given back all the same"
    if times["payment"] > 1 or times["fee"] > 1:
        yield f"it was paid {max(times['payment'], times['fee'])} times"
    elif sums["payment"] + sums["fee"] != job.price:
        paid = f"{units(sums['payment'])} and a fee of {units(sums['fee'])}"
        yield f"its price is {units(job.price)}, and it was paid with {paid}"
    elif job.earned is not None and job.earned != sums["payment"]:
        yield f"its completion says {units(job.earned)}, and {units(sums['payment'])} was paid"


def _wrong_number(what: str, times: int, amount: int, price: int) -> Iterator[str]:
    if times > 1:
        yield f"its price was {what} {times} times"
    elif not times and price:
        yield f"its price, {units(price)}, was never {what}"
    elif amount != price:
        yield f"its price is {units(price)}, and {units(amount)} was {what}"


def payout_faults(payout: Payout, postings: Sequence[Posting]) -> Iterator[str]:
    """What is wrong with a payout's postings: its amount is reserved once, and then leaves or comes back once, or waits."""
    routes = {
        "payout": (payout.miner, PAYOUTS),
        "payout_returned": (PAYOUTS, payout.miner),
        "payout_paid": (PAYOUTS, ISSUED),
    }
    times = dict.fromkeys(PAYOUT_CAUSES, 0)
    for posting in postings:
        if posting.cause not in routes:
            yield f"posting {posting.seq} has the cause {posting.cause}, which is none of a payout's"
            continue
        times[posting.cause] += 1
        if (posting.debit, posting.credit) != routes[posting.cause]:
            yield f"posting {posting.seq} ({posting.cause}) is between the wrong accounts"
        if posting.amount != payout.amount:
            yield f"posting {posting.seq} ({posting.cause}) is over {units(posting.amount)}, not {units(payout.amount)}"
    wanted = {
        "payout": ("reserved", 1),
        "payout_paid": ("sent", int(payout.state is State.PAID)),
        "payout_returned": ("given back", int(payout.state is State.REJECTED)),
    }
    for cause, (what, number) in wanted.items():
        if times[cause] != number:
            yield f"it is {payout.state}, and its amount was {what} {times[cause]} times instead of {number}"


def loose_fault(posting: Posting, debit_kind: str | None, credit_kind: str | None) -> str | None:
    """What is wrong with a posting that belongs to no job and no payout."""
    if posting.cause in JOB_CAUSES:
        return f"it has the cause {posting.cause}, and names no job"
    if posting.cause in PAYOUT_CAUSES:
        return f"it has the cause {posting.cause}, and names no payout"
    if posting.cause != "credit":
        return f"it has the cause {posting.cause}, which there is not"
    other = credit_kind if posting.debit == ISSUED else debit_kind
    if ISSUED not in (posting.debit, posting.credit) or other != "client":
        return "a credit goes between the operator and a client, and this one does not"
    return None
