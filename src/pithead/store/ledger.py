"""What the pages and the check of the ledger ask of the database: the part of a transaction that only reads it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pithead.core.bookkeeping import Account, Posting, Priced
from pithead.exchange.ports import Earned, Entry, Extent, Grouping, Moved

#: Beyond every row number.
TOP: Final = 2**62
#: How many rows are read at a time where all of them are looked at.
_BATCH: Final = 2000

_EARNINGS: Final[Mapping[Grouping, str]] = {
    "day": "earnings_by_day",
    "model": "earnings_by_model",
    "client": "earnings_by_client",
}


class LedgerReads:
    """Mixed into a transaction."""

    def _one(self, query: str, **values: Any) -> Any:
        raise NotImplementedError

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def statement(self, account: int, before: int | None, limit: int) -> list[Entry]:
        rows = self._all("statement", account=account, before=before or TOP, limit=limit)
        return [
            Entry(seq, at, cause, amount if credit == account else -amount, job_id, note)
            for seq, at, cause, _, credit, amount, job_id, note in rows
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
        after = 0
        while True:
            jobs = [Priced(*row) for row in self._all("jobs_to_check", after=after, limit=_BATCH)]
            last = jobs[-1].seq if jobs else TOP
            found: dict[int, list[Posting]] = {}
            for row in self._all("postings_of_jobs", after=after, last=last):
                posting = Posting(*row)
                found.setdefault(posting.job or 0, []).append(posting)
            for job in jobs:
                yield job, found.pop(job.seq, [])
            # What is left belongs to jobs that are not there.
            yield from ((None, postings) for postings in found.values())
            if not jobs:
                return
            after = last

    def loose_postings(self) -> Iterator[tuple[Posting, str | None, str | None]]:
        after = 0
        while rows := self._all("postings_of_no_job", after=after, limit=_BATCH):
            yield from ((Posting(*row[:-2]), row[-2], row[-1]) for row in rows)
            after = rows[-1][0]
