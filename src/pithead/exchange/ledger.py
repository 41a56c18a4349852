"""Reading the ledger: statements, earnings, and the proof that it is whole."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from pithead.core import bookkeeping
from pithead.core.bookkeeping import Posting
from pithead.core.errors import NotFound
from pithead.core.money import FEES, ISSUED, PAYOUTS, escrow_of, units
from pithead.exchange.ports import Earned, Entry, Extent, Grouping, Tx

#: The accounts that are nobody's, by the names under which the operator asks for them.
_OPERATORS: Final = {"issued": ISSUED, "fees": FEES, "payouts": PAYOUTS}
#: Faults that a check names; of more it gives the number.
MOST_FAULTS: Final = 100
#: How many things are looked at between two reports of progress.
_STEP: Final = 5000
_DAY: Final = 86_400


class Place(msgspec.Struct, frozen=True):
    """Where a page of a statement ends: the last entry, and the balance before it."""

    before: int
    balance: int


class Line(msgspec.Struct, frozen=True):
    """An entry of a statement."""

    entry: Entry
    balance: int  #: What the account held after it.


class Statement(msgspec.Struct, frozen=True):
    """Some of an account's entries, the newest first."""

    balance: int  #: What the account holds now.
    lines: list[Line]
    following: Place | None


def account(tx: Tx, account_id: str, *, held: bool = False) -> int:
    """The number of a client's or a miner's account, or of `issued`, `fees` or `payouts`. `held`: a client's escrow.

    Raises `NotFound`.
    """
    if account_id in _OPERATORS and not held:
        return _OPERATORS[account_id]
    if client := tx.client_by_id(account_id):
        return escrow_of(client.seq) if held else client.seq
    if not held and (miner := tx.miner_by_id(account_id)):
        return miner.seq
    raise NotFound(f"there is no account {account_id}" + (" with money set aside" if held else ""))


def statement(tx: Tx, number: int, place: Place | None, limit: int) -> Statement:
    """The account's entries from `place` on, each with the balance after it.

    Balances are counted back from today's, so none need be stored; `place` carries the balance on to the next page.
    """
    today = tx.balance(number)
    found = tx.statement(number, place.before if place else None, limit + 1)
    balance = place.balance if place else today
    lines = []
    for entry in found[:limit]:
        lines.append(Line(entry, balance))
        balance -= entry.amount
    following = Place(found[limit - 1].seq, balance) if len(found) > limit else None
    return Statement(today, lines, following)


def earnings(tx: Tx, miner: int, by: Grouping, since: float | None, until: float | None) -> list[Earned]:
    """What the miner was paid, added up under headings: days of UTC as `YYYY-MM-DD`, models, or clients' ids."""
    found = tx.earnings(miner, by, since or 0.0, float("inf") if until is None else until)
    if by != "day":
        return found
    return [
        msgspec.structs.replace(one, key=datetime.fromtimestamp(int(one.key) * _DAY, UTC).date().isoformat())
        for one in found
    ]


class Fault(msgspec.Struct, frozen=True):
    """Something that is wrong with the ledger."""

    kind: Literal["ledger", "account", "job", "payout", "posting"]
    #: The account's owner, the job's or the payout's id, or the posting's number.
    subject: str
    message: str


Part = Literal["accounts", "jobs", "payouts", "postings"]


class Progress(msgspec.Struct, frozen=True):
    """How far a check is."""

    part: Part
    done: int
    total: int


class Checked(msgspec.Struct, frozen=True):
    """What a check looked at, and what it found."""

    accounts: int
    jobs: int
    payouts: int
    transfers: int
    #: How many faults there are; `faults` has the first of them.
    faulty: int
    faults: list[Fault]


def check(tx: Tx, tell: Callable[[Progress], None] = lambda _: None) -> Checked:
    """Prove the whole history, in one transaction that sees one state of it, holding little of it in memory.

    All balances sum to 0; each is the sum of its transfers; each escrow is what the client's unfinished jobs cost; each
    completed job was paid once and in full, every other finished one was refunded once; what miners are shown as earned
    is what they were paid; each payout was reserved once and left or came back once; no posting is without a cause and a home.
    """
    extent = tx.ledger_extent()
    faulty = 0
    faults: list[Fault] = []
    for fault in _faults(tx, _Steps(extent, tell)):
        faulty += 1
        if len(faults) < MOST_FAULTS:
            faults.append(fault)
    return Checked(extent.accounts, extent.jobs, extent.payouts, extent.transfers, faulty, faults)


class _Steps:
    """Counts what was looked at, and tells of it now and then."""

    def __init__(self, extent: Extent, tell: Callable[[Progress], None]) -> None:
        self._totals: dict[Part, int] = {
            "accounts": extent.accounts, "jobs": extent.jobs, "payouts": extent.payouts, "postings": extent.loose
        }  # fmt: skip
        self._done = dict.fromkeys(self._totals, 0)
        self._tell = tell

    def one(self, part: Part) -> None:
        """One more was looked at."""
        self._done[part] += 1
        if self._done[part] % _STEP == 0 or self._done[part] == self._totals[part]:
            self._tell(Progress(part, self._done[part], self._totals[part]))


def _faults(tx: Tx, steps: _Steps) -> Iterator[Fault]:
    total = tx.ledger_sum()
    if total:
        yield Fault("ledger", "", f"all balances together are {units(total)}, and not 0")
    for account in tx.accounts_to_check():
        steps.one("accounts")
        for message in bookkeeping.account_faults(account):
            yield Fault("account", bookkeeping.name_of(account), message)
    for job, postings in tx.jobs_to_check():
        if job is None:
            yield from _homeless(postings, "job")
            continue
        steps.one("jobs")
        for message in bookkeeping.job_faults(job, postings):
            yield Fault("job", job.id, message)
    for payout, postings in tx.payouts_to_check():
        if payout is None:
            yield from _homeless(postings, "payout")
            continue
        steps.one("payouts")
        for message in bookkeeping.payout_faults(payout, postings):
            yield Fault("payout", payout.id, message)
    for posting, debit, credit in tx.loose_postings():
        steps.one("postings")
        if fault := bookkeeping.loose_fault(posting, debit, credit):
            yield Fault("posting", str(posting.seq), fault)


def _homeless(postings: Sequence[Posting], what: Literal["job", "payout"]) -> Iterator[Fault]:
    for posting in postings:
        number = posting.job if what == "job" else posting.payout
        yield Fault("posting", str(posting.seq), f"it belongs to {what} number {number}, which there is not")
