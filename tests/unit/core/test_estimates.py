"""How long a job should take, by what miners measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.core.estimates import OVERHEAD, TOKENS, UNKNOWN, seconds, start_in

_speeds = st.lists(st.floats(1e-6, 1e9), min_size=1)


@pytest.mark.parametrize(
    ("tokens", "speeds", "takes"),
    [
        (100, [], UNKNOWN),
        (100, [10], OVERHEAD + 10),
        (None, [TOKENS / 4], OVERHEAD + 4),
        (100, [1, 10, 100, 1000], OVERHEAD + 10),
        (100, [float("inf"), float("nan"), 0, 50], OVERHEAD + 2),
        (1_000_000, [1e-6], 31_536_000),
    ],
)
def test_examples(tokens: int | None, speeds: list[float], takes: float) -> None:
    assert seconds(tokens, speeds) == takes


@given(st.integers(1, 10**6), _speeds)
def test_three_quarters_of_the_miners_keep_to_it(tokens: int, speeds: list[float]) -> None:
    estimate = seconds(tokens, speeds)
    in_time = sum(tokens / speed <= estimate or estimate == 31_536_000 for speed in speeds)
    assert in_time >= 0.75 * len(speeds)
    assert 0.001 <= estimate <= 31_536_000


@given(st.integers(1, 10**6), _speeds)
def test_more_tokens_never_take_less(tokens: int, speeds: list[float]) -> None:
    assert seconds(tokens, speeds) <= seconds(tokens + 1, speeds)


def test_when_a_job_should_begin() -> None:
    assert start_in(0, 0, 0, 60) is None, "nobody works on such jobs"
    assert start_in(0, 1, 4, 60) == 0.0
    assert start_in(3, 4, 4, 60) == 0.0
    assert start_in(0, 0, 4, 60) == 15.0, "the next of four places falls empty"
    assert start_in(10, 2, 4, 60) == 135.0
