"""Identifiers and secrets."""

import re

import hypothesis.strategies as st
import pytest
import time_machine
from hypothesis import given

from pithead.exchange.ids import digest, new_id, new_key, new_token


def test_an_identifier_has_its_prefix_and_letters_that_are_not_mistaken() -> None:
    for prefix in ("miner", "job", "client"):
        assert re.fullmatch(rf"{prefix}_[0-9abcdefghjkmnpqrstvwxyz]{{20}}", new_id(prefix))


def test_identifiers_sort_by_age_to_the_millisecond() -> None:
    made = []
    with time_machine.travel(1_800_000_000, tick=False) as now:
        for _ in range(500):
            made.append(new_id("job"))
            now.shift(0.001)
    assert made == sorted(made)


def test_no_two_are_the_same() -> None:
    with time_machine.travel(1_800_000_000, tick=False):
        assert len({new_id("job") for _ in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    ("make", "prefix", "bits"), [(new_key, "key_", 256), (lambda: new_token("lease"), "lease_", 128)]
)
def test_a_secret_is_long_and_can_be_sent_in_a_header(make: object, prefix: str, bits: int) -> None:
    assert callable(make)
    made = {make() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert re.fullmatch(r"[\w-]+", secret, re.ASCII)
        assert secret.startswith(prefix)
        assert len(secret.removeprefix(prefix)) * 6 >= bits


@given(st.text(), st.text())
def test_a_digest_tells_any_two_apart(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert len(digest(one)) == 32
