"""What the pages of the dashboard ask of the database beside what the API asks: the part of a transaction for them."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pithead.exchange.ports import Earned, Flow, Posted, Try

_TAKEN: Final[Mapping[Literal["day", "model"], str]] = {"day": "taken_by_day", "model": "taken_by_model"}
_GIVEN: Final[Mapping[Literal["day", "model"], str]] = {"day": "given_by_day", "model": "given_by_model"}


class PageReads:
    """Mixed into a transaction."""

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def attempts_of_job(self, job: int, limit: int) -> list[Try]:
        return [Try(*row) for row in self._all("attempts_of_job", job=job, limit=limit)]

    def transfers_of_job(self, job: int, limit: int) -> list[Posted]:
        return [Posted(*row) for row in self._all("transfers_of_job", job=job, limit=limit)]

    def finished_by_minute(self, since: float, limit: int) -> list[tuple[int, str, int]]:
        return [(int(m), state, int(n)) for m, state, n in self._all("finished_by_minute", since=since, limit=limit)]

    def flows(self, since: float, limit: int) -> list[Flow]:
        return [Flow(*row) for row in self._all("flows", since=since, limit=limit)]

    def taken(self, account: int, by: Literal["day", "model"], since: float, limit: int) -> list[Earned]:
        return self._added_up(_TAKEN[by], account, since, limit)

    def given(self, account: int, by: Literal["day", "model"], since: float, limit: int) -> list[Earned]:
        return self._added_up(_GIVEN[by], account, since, limit)

    def _added_up(self, query: str, account: int, since: float, limit: int) -> list[Earned]:
        rows = self._all(query, account=account, since=since, limit=limit)
        return [Earned(str(key), int(jobs), int(amount)) for key, jobs, amount in rows]
