"""What the pages and the check of the ledger ask of the database: the part of a transaction that only reads it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from pithead.core.bookkeeping import Account, Posting, Priced
from pithead.core.payouts import Payout, State
from pithead.exchange.ports import Earned, Entry, Extent, Grouping, Moved

T = TypeVar("T")

#: Beyond every row number.
TOP: Final = 2**62
#: How many rows are read at a time where all of them are looked at.
_BATCH: Final = 2000

_EARNINGS: Final[Mapping[Grouping, str]] = {
    "day": "earnings_by_day",
    "model": "earnings_by_model",
    "client": "earnings_by_client",
}


_STATE: Final = {str(s): s for s in State}
_STATE_AT: Final = Payout.__struct_fields__.index("state")


def payout_of(row: Sequence[Any]) -> Payout:
    """A payout of its row."""
    fields = list(row)
    fields[_STATE_AT] = _STATE[fields[_STATE_AT]]
    return Payout(*fields)


class LedgerReads:
    """Mixed into a transaction."""

    def _one(self, query: str, **values: Any) -> Any:
        raise NotImplementedError

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def statement(self, account: int, before: int | None, limit: int) -> list[Entry]:
        rows = self._all("statement", account=account, before=before or TOP, limit=limit)
        return [
            Entry(seq, at, cause, amount if credit == account else -amount, job_id, payout_id, note)
            for seq, at, cause, _, credit, amount, job_id, payout_id, note in rows
        ]

    def transfers_page(self, before: int | None, limit: int) -> list[Moved]:
        return [Moved(*row) for row in self._all("transfers_page", before=before or TOP, limit=limit)]

    def earnings(self, account: int, by: Grouping, since: float, until: float) -> list[Earned]:
        rows = self._all(_EARNINGS[by], account=account, since=since, until=until)
        return [Earned(str(key), jobs, amount) for key, jobs, amount in rows]

    def ledger_extent(self) -> Extent:
        return Extent(*self._one("ledger_extent"))

    def ledger_sum(self) -> int:
        return int(self._one("ledger_sum")[0])

    def accounts_to_check(self) -> Iterator[Account]:
        after = 0
        while rows := self._all("accounts_to_check", after=after, limit=_BATCH):
            yield from (Account(*row) for row in rows)
            after = rows[-1][0]

    def jobs_to_check(self) -> Iterator[tuple[Priced | None, list[Posting]]]:
        return self._with_postings(
            "jobs_to_check", "postings_of_jobs", lambda row: Priced(*row), lambda posting: posting.job
        )

    def payouts_to_check(self) -> Iterator[tuple[Payout | None, list[Posting]]]:
        return self._with_postings("payouts_to_check", "postings_of_payouts", payout_of, lambda posting: posting.payout)

    def _with_postings(
        self, some: str, postings_of: str, read: Callable[[Any], T], home: Callable[[Posting], int | None]
    ) -> Iterator[tuple[T | None, list[Posting]]]:
        """Every job or payout with its postings, and the postings of those that are not there."""
        after = 0
        while True:
            rows = self._all(some, after=after, limit=_BATCH)
            last = rows[-1][0] if rows else TOP
            found: dict[int | None, list[Posting]] = {}
            for row in self._all(postings_of, after=after, last=last):
                posting = Posting(*row)
                found.setdefault(home(posting), []).append(posting)
            for row in rows:
                yield read(row), found.pop(row[0], [])
            yield from ((None, postings) for postings in found.values())
            if not rows:
                return
            after = last

    def loose_postings(self) -> Iterator[tuple[Posting, str | None, str | None]]:
        after = 0
        while rows := self._all("loose_postings", after=after, limit=_BATCH):
            yield from ((Posting(*row[:-2]), row[-2], row[-1]) for row in rows)
            after = rows[-1][0]
