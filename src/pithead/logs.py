"""Lines of the log, for people and for machines: with the request that each is about, and never with a key.

No key is ever handed to the log. That one is blotted out all the same, should a library or a fault carry it there, is the
second lock on the door.
"""

import contextlib
import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, Final

import msgspec

#: The id of the request that is being answered, in the tasks that do so.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: Keys and tokens of ours, what stands behind `Bearer`, and passwords in URLs.
_SECRET: Final = re.compile(
    r"\b((?:key|lease|enroll|session|whsec)_)[A-Za-z0-9_\-+/=]{6,}|(\bBearer )[^\s'\",]+|(://[^\s:/@]*:)[^\s@/]+(?=@)"
)


def blotted(text: str) -> str:
    """The text without secrets."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}…", text)


class Lines(logging.Formatter):
    """A readable line; a traceback has its own below it."""

    def format(self, record: logging.LogRecord) -> str:
        about = request_id.get()
        line = super().format(record)
        first, newline, rest = line.partition("\n")
        return blotted(f"{first} [{about}]{newline}{rest}" if about and about not in first else line)


class JsonLines(logging.Formatter):
    """A JSON object a line: `at`, `level`, `logger`, `message`, and where there is one `request_id`, `error`, what was given
    as `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if about := request_id.get():
            line["request_id"] = about
        line |= getattr(record, "fields", {})
        with contextlib.suppress(IndexError, TypeError):
            if record.exc_info and record.exc_info[0] is not None:
                line["error"] = self.formatException(record.exc_info)
        return blotted(msgspec.json.encode(line, enc_hook=str).decode())


def set_up(level: str, form: logging.Formatter) -> None:
    """Log to standard error, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    logging.basicConfig(level=level.upper(), handlers=[handler])
