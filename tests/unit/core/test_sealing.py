"""A sealed answer opens for the same key, caller and request, and for nothing else."""

import hypothesis.strategies as st
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given

from pithead.core.sealing import NONCE, seal, unseal

ANSWER = b'{"api_key":"key_secret"}'


@given(
    answer=st.binary(max_size=200),
    key=st.text(min_size=1, max_size=40),
    nonce=st.binary(min_size=NONCE, max_size=NONCE),
)
def test_what_was_sealed_opens(answer: bytes, key: str, nonce: bytes) -> None:
    sealed = seal(answer, key, "operator", b"request", nonce)
    assert unseal(sealed, key, "operator", b"request") == answer


def test_it_hides_the_answer() -> None:
    assert b"key_secret" not in seal(ANSWER, "k", "operator", b"request", bytes(NONCE))


@pytest.mark.parametrize(
    ("key", "owner", "request_"), [("other", "o", b"r"), ("k", "other", b"r"), ("k", "o", b"other"), ("k ", "o", b"r")]
)
def test_it_opens_for_nobody_else(key: str, owner: str, request_: bytes) -> None:
    with pytest.raises(InvalidTag):
        unseal(seal(ANSWER, "k", "o", b"r", bytes(NONCE)), key, owner, request_)


@pytest.mark.parametrize("at", [0, NONCE, -1])
def test_a_changed_byte_is_noticed(at: int) -> None:
    sealed = bytearray(seal(ANSWER, "k", "o", b"r", bytes(NONCE)))
    sealed[at] ^= 1
    with pytest.raises(InvalidTag):
        unseal(bytes(sealed), "k", "o", b"r")
