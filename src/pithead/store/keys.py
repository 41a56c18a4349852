"""The database key: where it comes from, what is derived of it, and how it goes again.

A key is 256 random bits, written as 64 hexadecimal digits. The embedded database is opened with the key itself, as
SQLCipher's raw key, so that any SQLCipher tool can open it too. Everything else is encrypted under keys derived from it
by HKDF (RFC 5869), each with a label of its own.
"""

import os
import re
import secrets
import shlex
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pithead.store.errors import StoreError

#: Bytes of a key.
SIZE: Final = 32
#: Seconds that a key command may take.
COMMAND_TIMEOUT: Final = 30.0
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{64}")
#: More than any file with a key has.
_MOST: Final = 4096


class DatabaseKey:
    """A key in memory, until `wipe`.

    It is kept in a `bytearray`, which can be overwritten. Each use makes a short-lived copy that Python does not let us
    overwrite (the text of a `PRAGMA`, the input of HKDF), and SQLCipher and OpenSSL have theirs, which they clear.
    """

    def __init__(self, key: bytes) -> None:
        assert len(key) == SIZE
        self._key = bytearray(key)

    def raw(self) -> str:
        """The key as SQLCipher takes a raw one. Raises `StoreError` after `wipe`."""
        return f"x'{self._bytes().hex()}'"

    def derive(self, label: str, size: int = SIZE) -> bytes:
        """A key for the purpose that `label` names. Raises `StoreError` after `wipe`."""
        return HKDF(algorithm=SHA256(), length=size, salt=None, info=label.encode()).derive(self._bytes())

    def wipe(self) -> None:
        """Overwrite the key; it cannot be used any more."""
        self._key[:] = bytes(len(self._key))
        self._key.clear()

    def same(self, other: "DatabaseKey") -> bool:
        """Whether the two are one."""
        return secrets.compare_digest(self._bytes(), other._bytes())

    def _bytes(self) -> bytes:
        if not self._key:
            raise StoreError("the database key has been dropped: the coordinator is stopping")
        return bytes(self._key)

    def __repr__(self) -> str:
        return "DatabaseKey(…)"


def new_key() -> str:
    """A new key, as a file holds it."""
    return secrets.token_hex(SIZE)


def parse_key(text: bytes, where: str) -> DatabaseKey:
    """The key that `text` holds, white space around it aside. Raises `StoreError`, which says nothing of the text."""
    found = text.strip()
    if not _HEX.fullmatch(found):
        raise StoreError(
            f"{where} holds no key, which is 64 hexadecimal digits; make one with 'pithead admin keygen FILE'"
        )
    return DatabaseKey(bytes.fromhex(found.decode()))


def find_key(path: str, command: str, value: str, *, names: Mapping[str, str]) -> DatabaseKey:
    """The key from the one place that is set: a file, a command's output, or the value itself.

    `names` says how the three are called, for messages. Raises `StoreError`.
    """
    given = [name for name, setting in (("path", path), ("command", command), ("value", value)) if setting]
    if not given:
        raise StoreError(f"there is no key; set {names['path']}, {names['command']} or {names['value']}")
    if len(given) > 1:
        raise StoreError(f"{' and '.join(names[one] for one in given)} are set; keep one, the key comes from one place")
    if path:
        return _from_file(Path(path))
    if command:
        return _from_command(command, names["command"])
    return parse_key(value.encode(), names["value"])


def _from_file(file: Path) -> DatabaseKey:
    try:
        with file.open("rb") as opened:
            # Of the file that is read, whatever its name leads to by now.
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{file} is no file; name the one that holds the key")
            if status.st_mode & 0o077:
                raise StoreError(
                    f"others than its owner may read {file}; chmod 600 it, and consider whether its key is known"
                )
            text = opened.read(_MOST)
    except OSError as error:
        raise StoreError(
            f"cannot read the key in {file}: {error.strerror}; check the path and your rights to it"
        ) from error
    return parse_key(text, str(file))


def _from_command(command: str, name: str) -> DatabaseKey:
    """What the command prints. It is run without a shell, and nothing that it prints is ever shown."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise StoreError(f"{name} cannot be read as a command: {error}; check its quotes") from None
    if not words:
        raise StoreError(f"{name} is empty; name a command that prints the key")
    try:
        done = subprocess.run(  # noqa: S603 (the operator's own command, without a shell)
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise StoreError(f"{name} took longer than {COMMAND_TIMEOUT:g} s; it must print the key and end") from None
    except OSError as error:
        raise StoreError(f"{name} cannot be run: {words[0]}: {error.strerror}; check its path") from None
    if done.returncode:
        how = f"ended with {done.returncode}" if done.returncode > 0 else f"was ended by signal {-done.returncode}"
        raise StoreError(f"{name} {how}; run it by hand to see why")
    return parse_key(done.stdout, f"what {name} printed")
