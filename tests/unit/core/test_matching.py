"""Matching: each rule at its edge, and the words for why not."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.unit.core.examples import NOW, job, miner

from pithead.core.matching import ANY, RULES, avoids, misfit, resting, unready
from pithead.core.miners import Admission


@pytest.mark.parametrize(
    ("given_miner", "given_job", "words"),
    [
        ({}, {}, None),
        ({}, {"gpu_type": ANY}, None),
        ({"gpu_type": "cpu"}, {"gpu_type": ANY}, None),
        ({}, {"gpu_type": "a100"}, "the job wants a100, the miner has v100"),
        ({"gpu_count": 8}, {"gpu_count": 8, "price": 400_000}, None),
        ({"gpu_count": 8}, {"gpu_count": 1}, None),
        ({"gpu_count": 7}, {"gpu_count": 8}, "the job wants 8 GPUs, the miner has 7"),
        ({"models": frozenset({"gpt2"})}, {}, None),
        ({"models": frozenset({"llama", "gpt2-large"})}, {}, "the miner does not list the model gpt2"),
        ({"models": frozenset()}, {}, "the miner does not list the model gpt2"),
        ({"price_per_hour": 300_000}, {}, None),
        ({"price_per_hour": 300_001}, {}, "the job pays up to 0.3 per GPU and hour, the miner asks 0.300001"),
        ({"price_per_hour": 0}, {"price": 0}, None),
        ({"price_per_hour": 1}, {"price": 0}, "the job pays up to 0 per GPU and hour, the miner asks 0.000001"),
    ],
)
def test_a_pair(given_miner: dict[str, Any], given_job: dict[str, Any], words: str | None) -> None:
    assert misfit(miner(**given_miner), job(**given_job)) == words


def test_the_first_obstacle_is_the_one_that_is_named() -> None:
    """In the order of the rules: each further mend brings the next one to light."""
    bad: dict[str, Any] = {"gpu_type": "a100", "gpu_count": 2, "model": "llama", "price": 0}
    party = miner(models=frozenset({"gpt2"}))
    named = []
    for mended in ("gpu_type", "gpu_count", "model", "price"):
        named.append(misfit(party, job(**bad)))
        del bad[mended]
    assert [rule.name for rule in RULES] == ["gpu_type", "gpu_count", "model", "price"]
    assert [words and words.split(",")[0] for words in named] == [
        "the job wants a100",
        "the job wants 2 GPUs",
        "the miner does not list the model llama",
        "the job pays up to 0 per GPU and hour",
    ]
    assert misfit(party, job(**bad)) is None


@given(
    price=st.integers(0, 10**9),
    count=st.integers(1, 64),
    milliseconds=st.integers(1, 10**8),
    asked=st.integers(0, 10**9),
)
def test_the_price_rule_is_the_contract_s_formula(price: int, count: int, milliseconds: int, asked: int) -> None:
    """price >= price_per_hour * gpu_count * estimated_time / 3600, in whole numbers on both sides."""
    one = job(price=price, gpu_count=count, estimated_ms=milliseconds)
    fits = misfit(miner(gpu_count=64, price_per_hour=asked), one) is None
    assert fits == (price * 3_600_000 >= asked * count * milliseconds)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, None),
        ({"admission": Admission.PENDING}, "the miner is pending; only an active miner takes jobs"),
        ({"admission": Admission.SUSPENDED}, "the miner is suspended; only an active miner takes jobs"),
        ({"admission": Admission.RETIRED}, "the miner is retired; only an active miner takes jobs"),
        ({"online": False}, "the miner is offline; only an active miner takes jobs"),
        ({"draining": True}, "the miner is draining; only an active miner takes jobs"),
        ({"max_concurrent": 3}, "the miner holds 3 jobs, and takes 3 at a time"),
        ({"max_concurrent": 2}, "the miner holds 3 jobs, and takes 2 at a time"),
    ],
)
def test_who_can_take_nothing_at_all(state: dict[str, Any], words: str | None) -> None:
    assert unready(miner(**state), 3) == words


def test_a_job_that_rests() -> None:
    assert resting(job(), NOW) is None
    assert resting(job(not_before=NOW), NOW) is None
    assert resting(job(not_before=NOW + 7), NOW) == "the job waits 7 s more after a failed attempt"
    assert resting(job(deadline=NOW + 1), NOW) is None
    assert resting(job(deadline=NOW), NOW) == "the job's time is up"


def test_where_it_failed_it_is_not_offered_for_a_while() -> None:
    one = job(avoid_miner=200, avoid_until=NOW + 60)
    assert avoids(one, 200, NOW + 59)
    assert not avoids(one, 200, NOW + 60)
    assert not avoids(one, 201, NOW)
    assert not avoids(job(), 200, NOW)
