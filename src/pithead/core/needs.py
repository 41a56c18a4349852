"""What a job needs beside its input: files by their hashes, and what it is to be held to."""

import msgspec


class NamedFile(msgspec.Struct, frozen=True):
    """A file of the client's, under the name that the job gives it."""

    name: str
    #: SHA-256 of its bytes, in hex.
    sha256: str
    size: int


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job is to be held to; of what is `None`, what the miner's owner allows. Bytes and seconds."""

    wall_clock_seconds: float | None = None
    memory_bytes: int | None = None
    scratch_bytes: int | None = None
    output_bytes: int | None = None
    pids: int | None = None


class Needs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Both. Most jobs have neither, and then nothing is kept of it."""

    files: tuple[NamedFile, ...] = ()
    limits: Limits | None = None

    def find(self, sha256: str) -> NamedFile | None:
        """The file of this hash, under one of its names."""
        return next((file for file in self.files if file.sha256 == sha256), None)
