"""What the operations on input files need of a store; part of `ports.Tx`."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pithead.core.needs import Needs


class InputFile(msgspec.Struct, frozen=True):
    """A client's file. Two clients with the same bytes have two."""

    seq: int
    #: What its blobs are named by.
    id: str
    client: int
    #: SHA-256 of its bytes, in hex: what the client calls it.
    sha256: str
    created_at: float
    #: When it was last uploaded, or named by a new job.
    touched_at: float
    #: The bytes, once they are there: how many, and the blob's name.
    size: int | None = None
    blob: str | None = None
    #: What came of an upload that broke off, likewise.
    part_size: int | None = None
    part_blob: str | None = None

    @property
    def blobs(self) -> list[str]:
        """The names of the blobs that it has."""
        return [name for name in (self.blob, self.part_blob) if name is not None]


class InputsTx(Protocol):
    """One transaction, as far as input files go."""

    def input_file(self, client: int, sha256: str) -> InputFile | None:
        """The client's file of this hash, which may not be whole."""

    def add_input_file(self, file: InputFile) -> InputFile:
        """Store a new one; the same with its number."""

    def save_input_file(self, file: InputFile) -> None:
        """Its bytes, its part, and when it was touched."""

    def touch_input_file(self, client: int, sha256: str, now: float) -> InputFile | None:
        """The client's file of this hash, if it is whole: a new job names it, so that it is kept."""

    def drop_input_file(self, file: int) -> None:
        """Forget it."""

    def input_files_page(self, client: int, before: int | None, limit: int) -> list[InputFile]:
        """Some of a client's files, parts included; the newest first."""

    def input_files_used(self, client: int) -> tuple[int, int]:
        """How many files and parts of files a client has, and their bytes together."""

    def input_file_in_use(self, file: int) -> bool:
        """Whether a job that is not finished names it."""

    def input_files_due(self, before: float, limit: int) -> list[InputFile]:
        """Some files that were last touched before this instant and that no unfinished job names, the oldest first."""

    def input_parts_due(self, before: float, limit: int) -> list[InputFile]:
        """Some files that are not whole and were last touched before this instant, likewise."""

    def add_needs(self, job: int, needs: Needs, files: Sequence[int]) -> None:
        """Keep what a job needs, and the numbers of the files among it."""

    def needs(self, job: int) -> Needs | None:
        """What a job needs beside its input."""

    def job_work(self, job: int) -> tuple[bytes, Needs | None]:
        """A job's input, and what it needs beside it."""
