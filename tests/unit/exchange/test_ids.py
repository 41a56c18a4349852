"""Identifiers and secrets."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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
        bits_each = 4 if re.fullmatch("[0-9a-f]+", secret.removeprefix(prefix)) else 6
        assert len(secret.removeprefix(prefix)) * bits_each >= bits


def test_no_two_threads_are_given_the_same_secret() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_token("lease") for _ in range(2_000)], range(8)))
    assert len({secret for some in made for secret in some}) == 16_000


def test_a_process_that_is_forked_off_has_secrets_of_its_own() -> None:
    program = (
        "import os; from pithead.exchange.ids import new_token; new_token('x');"
        " child = os.fork(); child and os.wait(); print(new_token('x'), flush=True)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(printed)) == len(printed) == 2


@given(st.text(), st.text())
def test_a_digest_tells_any_two_apart(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert len(digest(one)) == 32
