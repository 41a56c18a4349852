"""The files that clients upload for their jobs, and which jobs name them: a part of a transaction."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pithead.core.needs import Needs
from pithead.exchange.input_ports import InputFile
from pithead.store.ledger import TOP

_needs: Final = msgspec.json.Decoder(Needs)


def needs_of(content: Any) -> Needs | None:
    """What a job needs, as it is stored."""
    return None if content is None else _needs.decode(content)


class InputsSql:
    """Mixed into a transaction. Implements `exchange.input_ports.InputsTx`."""

    def _one(self, query: str, **values: Any) -> Any:
        raise NotImplementedError

    def _all(self, query: str, **values: Any) -> list[Any]:
        raise NotImplementedError

    def _put(self, query: str, **values: Any) -> None:
        raise NotImplementedError

    def input_file(self, client: int, sha256: str) -> InputFile | None:
        row = self._one("input_file", client=client, sha256=sha256)
        return InputFile(*row) if row else None

    def add_input_file(self, file: InputFile) -> InputFile:
        row = msgspec.structs.asdict(file)
        del row["seq"]
        return msgspec.structs.replace(file, seq=int(self._one("add_input_file", **row)[0]))

    def save_input_file(self, file: InputFile) -> None:
        names = ("seq", "touched_at", "size", "blob", "part_size", "part_blob")
        self._put("save_input_file", **{name: getattr(file, name) for name in names})

    def touch_input_file(self, client: int, sha256: str, now: float) -> InputFile | None:
        row = self._one("touch_input_file", client=client, sha256=sha256, now=now)
        return InputFile(*row) if row else None

    def drop_input_file(self, file: int) -> None:
        self._put("drop_input_file", file=file)

    def input_files_page(self, client: int, before: int | None, limit: int) -> list[InputFile]:
        rows = self._all("input_files_page", client=client, before=before or TOP, limit=limit)
        return [InputFile(*row) for row in rows]

    def input_files_used(self, client: int) -> tuple[int, int]:
        count, size = self._one("input_files_used", client=client)
        return int(count), int(size)

    def input_file_in_use(self, file: int) -> bool:
        return bool(self._one("input_file_in_use", file=file)[0])

    def input_files_due(self, before: float, limit: int) -> list[InputFile]:
        return [InputFile(*row) for row in self._all("input_files_due", before=before, limit=limit)]

    def input_parts_due(self, before: float, limit: int) -> list[InputFile]:
        return [InputFile(*row) for row in self._all("input_parts_due", before=before, limit=limit)]

    def add_needs(self, job: int, needs: Needs, files: Sequence[int]) -> None:
        self._put("add_needs", job=job, needs=msgspec.json.encode(needs))
        for file in files:
            self._put("name_input_file", file=file, job=job)

    def needs(self, job: int) -> Needs | None:
        row = self._one("needs", job=job)
        return needs_of(row[0]) if row else None

    def job_work(self, job: int) -> tuple[bytes, Needs | None]:
        body, needs = self._one("job_work", job=job)
        return bytes(body), needs_of(needs)

    def input_is_orphan(self, id: str, blob: str) -> bool:
        return bool(self._one("input_file_is_orphan", id=id, blob=blob)[0])

    def names_input_blob(self, id: str, blob: str) -> bool:
        return bool(self._one("names_input_blob", id=id, blob=blob)[0])

    def rename_input_blob(self, id: str, before: str, after: str) -> None:
        self._put("rename_input_blob", id=id, before=before, after=after)
        self._put("rename_input_part", id=id, before=before, after=after)
