"""Opening a database file, plain or encrypted with SQLCipher, and finding out which it is without touching it."""

import shutil
import tempfile
from pathlib import Path
from typing import Final, Literal

from sqlcipher3 import dbapi2

from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey

#: What a plain SQLite file begins with; an encrypted one begins with a random salt.
_PLAIN: Final = b"SQLite format 3\0"

#: SQLCipher's size of a page.
_PAGE: Final = 4096

Kind = Literal["absent", "plain", "encrypted"]


class WrongKey(StoreError):
    """The key is not that of the database."""


def kind_of(path: Path) -> Kind:
    """What lies there. A file that is neither a database nor encrypted counts as encrypted: nobody can tell."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_PLAIN))
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        raise StoreError(f"cannot read the database {path}: {error.strerror}") from error
    return "plain" if start == _PLAIN else "encrypted" if start else "absent"


def check(path: Path, key: DatabaseKey | None) -> None:
    """Whether the database can be opened with this key, or without one. Reads, and changes nothing.

    Raises `StoreError`, and `WrongKey` where there is a key and it is another.
    """
    kind = kind_of(path)
    if kind == "plain" and key is not None:
        raise StoreError(
            f"cannot open the database {path}: it is not encrypted, and db_encryption_enabled is true; run 'pithead admin encrypt', or set it to false"
        )
    if kind == "encrypted" and key is None:
        raise StoreError(
            f"cannot open the database {path}: it is encrypted, or is none; set db_encryption_enabled and its key, "
            "or run 'pithead admin decrypt'"
        )
    if key is not None and kind == "encrypted" and not opens(path, key):
        raise WrongKey(
            f"the key does not open {path}, and nothing was changed; give the key that it was encrypted with"
        )


def opens(path: Path, key: DatabaseKey) -> bool:
    """Whether the key is right.

    A wrong one must not get as far as the write-ahead log: SQLite would take the log for a broken one, and delete it. So
    the file is opened as immutable, which looks at no log. Where that fails and there is a log, a power cut may have torn
    the first page while it was copied from there: then the log is looked at, beside a copy of that page.
    """
    if _reads(f"{path.resolve().as_uri()}?immutable=1", key):
        return True
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return False
    with tempfile.TemporaryDirectory(prefix="pithead-") as folder:
        copy = Path(folder, "copy.db")
        with path.open("rb") as file, copy.open("wb") as out:
            out.write(file.read(_PAGE))
            out.truncate(path.stat().st_size)
        shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
        return _reads(copy.as_uri(), key)


def _reads(uri: str, key: DatabaseKey) -> bool:
    connection = connect(uri, key, uri=True)
    try:
        connection.execute("PRAGMA user_version").fetchone()  # It is in the first page.
    except dbapi2.DatabaseError:
        return False
    finally:
        connection.close()
    return True


def connect(path: str, key: DatabaseKey | None, *, uri: bool = False) -> dbapi2.Connection:
    """A connection that commits only when told to, with the key set. That the key is right shows at the first read."""
    connection = dbapi2.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=10.0, uri=uri
    )
    if key is not None:
        # What goes wrong is raised, and need not be on standard error too.
        connection.execute("PRAGMA cipher_log_level = NONE")
        # A script, since the text of a single statement would stay in the connection's cache of statements.
        connection.executescript(f'PRAGMA key = "{key.raw()}"')
    return connection
