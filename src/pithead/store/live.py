"""What those who watch are told from: the store's side of it (see `exchange.ports.Tx`)."""

from typing import Any


class Live:
    """Mixed into a transaction."""

    def _one(self, query: str, **values: Any) -> Any:
        raise NotImplementedError

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def _do(self, query: str, **values: Any) -> int:
        raise NotImplementedError

    def _put(self, query: str, **values: Any) -> None:
        raise NotImplementedError

    def output_size(self, job: int, attempt: int) -> int:
        return int(self._one("output_size", job=job, attempt=attempt)[0])

    def add_output(self, job: int, attempt: int, start: int, text: str, now: float) -> None:
        self._put("add_output", job=job, attempt=attempt, start=start, size=len(text), at=now, body=text)

    def output_from(self, job: int, attempt: int, place: int) -> tuple[int, str]:
        rows = self._all("output_from", job=job, attempt=attempt, place=place)
        if not rows:
            return place, ""
        first = int(rows[0][0])
        begin = max(place, first)
        return begin, "".join(row[1] for row in rows)[begin - first :]

    def prune_outputs(self, before: float, limit: int) -> int:
        return self._do("prune_outputs", before=before, limit=limit)

    def keep_trace(self, job: int, context: str) -> None:
        self._put("keep_trace", job=job, context=context)

    def trace(self, job: int) -> str | None:
        row = self._one("trace", job=job)
        return str(row[0]) if row else None
