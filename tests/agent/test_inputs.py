"""The shapes of inputs: what is taken, and that a refusal names the field."""

import json
from typing import Any

import pytest

from pithead.agent.runners.base import RunFailed
from pithead.agent.runners.inputs import Chat, Completion, Message, parse

ASK = [{"role": "user", "content": "Hi"}]


def test_a_chat() -> None:
    given = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Why, “naïve” 🙂?"},
        ],
        "temperature": 1,
        "seed": 2**32 - 2,
        "max_tokens": 5,
        "top_p": 0.5,
        "stop": ["\n", "END"],
    }
    chat = parse(json.dumps(given).encode())
    assert chat == Chat(
        messages=[
            Message("system", "Be brief."),
            Message("user", "Hi"),
            Message("assistant", "Yes?"),
            Message("user", "Why, “naïve” 🙂?"),
        ],
        temperature=1.0,
        seed=2**32 - 2,
        max_tokens=5,
        top_p=0.5,
        stop=["\n", "END"],
    )


def test_a_completion_and_what_holds_where_nothing_is_said() -> None:
    assert parse(b'{"prompt": "Once"}') == Completion(
        prompt="Once", temperature=0.0, seed=0, max_tokens=256, top_p=1.0, stop=[]
    )
    assert parse(b'{"prompt": "Once", "stop": "."}') == Completion(prompt="Once", stop=".")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "the input is not JSON"),
        (b"{", "the input is not JSON"),
        (b"\xff\xfe", "the input is not JSON"),
        (rb'{"prompt": "\ud800"}', "the input is not JSON"),
        (b"null", "the input must be an object"),
        (b'"Hi"', "the input must be an object"),
        ([], "the input must be an object"),
        ({}, "one of messages and prompt"),
        ({"messages": ASK, "prompt": "Hi"}, "one of messages and prompt"),
        ({"messages": []}, "messages: "),
        ({"messages": "Hi"}, "messages: "),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role: "),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content: "),
        ({"messages": [{"role": "user"}]}, "messages[0]: "),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, "messages[0].content: "),
        ({"messages": [{"role": "user", "content": "Hi", "name": "me"}]}, "messages[0]: "),
        ({"prompt": ""}, "prompt: "),
        ({"prompt": ["a", "b"]}, "prompt: "),
        ({"prompt": "Hi", "temperature": -0.1}, "temperature: "),
        ({"prompt": "Hi", "temperature": 2.1}, "temperature: "),
        ({"prompt": "Hi", "temperature": "0"}, "temperature: "),
        ({"prompt": "Hi", "seed": -1}, "seed: "),
        ({"prompt": "Hi", "seed": 2**32 - 1}, "seed: "),
        ({"prompt": "Hi", "seed": True}, "seed: "),
        ({"prompt": "Hi", "max_tokens": 0}, "max_tokens: "),
        ({"prompt": "Hi", "max_tokens": 1.5}, "max_tokens: "),
        ({"prompt": "Hi", "top_p": 0}, "top_p: "),
        ({"prompt": "Hi", "stop": ""}, "stop: "),
        ({"prompt": "Hi", "stop": [""]}, "stop[0]: "),
        ({"prompt": "Hi", "stop": ["x"] * 17}, "stop: "),
        # Refused rather than dropped: what it asks would be ignored.
        ({"prompt": "Hi", "n": 3}, "unknown field `n`"),
        ({"prompt": "Hi", "stream": True}, "unknown field `stream`"),
        ({"messages": ASK, "tools": []}, "unknown field `tools`"),
        ({"messages": ASK, "model": "gpt-4"}, "unknown field `model`"),
    ],
)
def test_what_is_refused_and_why(given: Any, says: str) -> None:
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    with pytest.raises(RunFailed) as refused:
        parse(raw)
    assert refused.value.kind == "bad_input"
    assert says in refused.value.reason
    assert "$" not in refused.value.reason


def test_an_input_that_is_nested_without_end_is_refused_too() -> None:
    with pytest.raises(RunFailed) as refused:
        parse(b'{"messages": ' + b"[" * 100_000)
    assert refused.value.kind == "bad_input"
