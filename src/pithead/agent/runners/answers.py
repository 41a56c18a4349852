"""What runners answer with: a language model's result, and reasons that may be told."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pithead.agent.runners.inputs import Chat, Completion


def document(model: str, request: Chat | Completion, answer: dict[str, Any]) -> bytes:
    """The result, in the shape of OpenAI's answers less what differs from run to run (`id`, `created`), as canonical JSON."""
    if isinstance(request, Chat):
        kind = "chat.completion"
        said: dict[str, Any] = {"message": {"role": "assistant", "content": answer["text"]}}
    else:
        kind, said = "text_completion", {"text": answer["text"]}
    document = {
        "object": kind,
        "model": model,
        "choices": [{"index": 0, "finish_reason": answer["finish_reason"]} | said],
        "usage": answer["usage"],
    }
    return msgspec.json.encode(document, order="deterministic")


def presentable(text: str) -> str:
    """A reason without the machine's paths: it goes to the client."""
    return re.sub(r"(?<![\w.])/[^\s'\"`]+", "…", text)[:500]
