"""The inputs that language models take: OpenAI's chat and completion shapes, as far as they are deterministic and safe.

An option that is not here is refused rather than dropped: a client must not be paid work for that ignores what it asked.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pithead.agent.runners.base import RunFailed

#: llama.cpp takes the largest value of 32 bits for "a random one".
_MAX_SEED: Final = 2**32 - 2
#: A known job: long enough to measure, short enough to wait for.
TRIAL: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": "Count from one to one hundred, in words."}],
    "max_tokens": 64,
    "temperature": 0,
}
_Text = Annotated[str, Meta(min_length=1)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both shapes take beside their text."""

    #: 0: the same answer every time.
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    seed: Annotated[int, Meta(ge=0, le=_MAX_SEED)] = 0
    #: At most; the model's context bounds it too.
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    stop: _Text | Annotated[list[_Text], Meta(max_length=16)] = []


class Chat(Options, frozen=True, kw_only=True):
    """Messages, to be answered."""

    messages: Annotated[list[Message], Meta(min_length=1)]


class Completion(Options, frozen=True, kw_only=True):
    """A text, to be continued."""

    prompt: _Text


def parse(raw: bytes | msgspec.Raw) -> Chat | Completion:
    """The input of a job. Raises `RunFailed` of kind `bad_input`, with the field and what is wrong with it."""
    try:
        given: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFailed("bad_input", f"the input is not JSON: {error}") from None
    except RecursionError:
        raise RunFailed("bad_input", "the input is nested too deeply") from None
    if not isinstance(given, dict):
        raise RunFailed("bad_input", "the input must be an object, with messages or with a prompt")
    if ("messages" in given) == ("prompt" in given):
        raise RunFailed("bad_input", "the input must have one of messages and prompt")
    try:
        return msgspec.convert(given, Chat) if "messages" in given else msgspec.convert(given, Completion)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.max_tokens`": the field first, without msgspec's own notation.
        what, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        raise RunFailed("bad_input", f"{field}: {what}" if field else what) from None
