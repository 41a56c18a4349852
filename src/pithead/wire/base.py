"""What every shape is made of: the struct bases, the scalars with their bounds, and the JSON codec."""

from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

#: The most that one price or amount may be, in currency units. Fifteen digits in all: exact in a JSON double too.
MAX_AMOUNT: Final = 100_000_000

#: The longest time that a request may name, in seconds: a year.
MAX_SECONDS: Final = 31_536_000

# `\n` is kept out by the look-ahead: `$` alone would let one trailing newline through.
_SLUG = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
_LINE = r"^[^\u0000-\u001f\u007f]*$(?!\n)"
# Job and model names are compared byte for byte, so blanks at the ends, which nobody sees, are refused.
_WORDS = r"^[^\u0000-\u0020\u007f]([^\u0000-\u001f\u007f]*[^\u0000-\u0020\u007f])?$(?!\n)"

Slug = Annotated[str, Meta(pattern=_SLUG, description="A short name, compared without case.", examples=["v100"])]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_WORDS, description="One line of text.")]
Line = Annotated[str, Meta(max_length=500, pattern=_LINE, description="One line of text; may be empty.")]
Model = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=_WORDS,
        description="The model's name, exactly as the miner lists it.",
        examples=["gpt2"],
    ),
]
#: A price as it comes in: any JSON number; the core turns it into whole millionths and refuses what is finer.
PriceIn = Annotated[float, Meta(ge=0, le=MAX_AMOUNT, description="A price in currency units, exact to the millionth.")]
#: An amount as it goes out: exact, and a JSON number (the encoder below writes decimals as numbers).
Amount = Annotated[
    Decimal,
    Meta(
        description="An amount in currency units, exact to the millionth.",
        extra_json_schema={"type": "number", "format": "decimal"},
    ),
]
#: Where money is to be sent. Not to begin like a formula, so that an export has it exactly as it was written.
Destination = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^([^=+@\-\u0000-\u0020\u007f][^\u0000-\u001f\u007f]*)?$(?!\n)",
        description="Where money is to be sent, in one line: an account, an address, a name; may be empty.",
    ),
]
GpuCount = Annotated[int, Meta(ge=1, le=1024)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="A length of time in seconds.")]
Instant = Annotated[float, Meta(description="Seconds since the Unix epoch, by the coordinator's clock.")]
Number = int | float
#: `sha256:` and the digest. While the coordinator holds the bytes it compares all 64 hex digits; where only the hash
#: is delivered, what follows the prefix is taken as the miner wrote it.
ResultHash = Annotated[
    str,
    Meta(pattern=r"^sha256:[0-9A-Za-z.]{1,128}$(?!\n)", description="`sha256:` and the digest of the result."),
]


class Answer(msgspec.Struct, kw_only=True):
    """Base of what the coordinator sends. Readers must ignore keys that they do not know: new ones may be added."""


class OpenRequest(msgspec.Struct, kw_only=True):
    """Base of a request whose unknown keys are ignored: the Miner API, which other people's software speaks."""


class StrictRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of a request in which an unknown key is an error: a misspelt option must not be dropped in silence."""


class Fault(Answer):
    """One fault of a request."""

    #: Where it is: the field's name, with a path for nested ones (`jobs[3].price`), or `` for the whole body.
    field: str
    #: What is wrong with it.
    message: str


class Problem(Answer, omit_defaults=True):
    """An error, as `application/problem+json` (RFC 9457)."""

    #: A URI reference that names the kind of problem, e.g. `/problems/job-not-available`.
    type: str
    #: The kind in a few words.
    title: str
    #: The HTTP status.
    status: int
    #: What went wrong this time, and what to do.
    detail: str = ""
    #: With a 422: every fault found.
    errors: list[Fault] | None = None
    #: The request's id, as in the `X-Request-Id` header and the coordinator's log.
    request_id: str = ""


_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """JSON for `value`, decimals as numbers."""
    return _encoder.encode(value)
