"""What a `Range` asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.http.ranges import spans


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("bytes=0-0", [(0, 1)]), ("bytes=3-", [(3, 10)]), ("bytes=-3", [(7, 10)]), ("bytes=-30", [(0, 10)]),
        ("bytes=0-99", [(0, 10)]), ("BYTES=0-1", [(0, 2)]), ("bytes= 0-1 , 5-6", [(0, 2), (5, 7)]),
        ("bytes=5-6,0-1", [(0, 2), (5, 7)]), ("bytes=0-4,3-6,7-8", [(0, 9)]), ("bytes=0-1,50-60", [(0, 2)]),
        ("bytes=10-", []), ("bytes=-0", []), ("bytes=99-", []),
        # What cannot be read is ignored, and so is what would cost more than it saves.
        ("bytes=5-3", None), ("bytes", None), ("bytes=", None), ("bytes=-", None), ("lines=1-2", None), ("bytes=a-b", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(33)), None),
    ],
)  # fmt: skip
def test_spans(wanted: str, found: list[tuple[int, int]] | None) -> None:
    assert spans(wanted, 10) == found


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8), st.integers(0, 30))
def test_what_is_sent_is_what_was_asked_for_and_is_there(asked: list[tuple[int, int]], size: int) -> None:
    asked = [(min(pair), max(pair)) for pair in asked]
    found = spans("bytes=" + ",".join(f"{first}-{last}" for first, last in asked), size)
    assert found is not None
    wanted = {byte for first, last in asked for byte in range(first, last + 1) if byte < size}
    assert [byte for start, end in found for byte in range(start, end)] == sorted(wanted)


def test_nothing_of_an_empty_result_is_a_range() -> None:
    assert spans("bytes=0-", 0) == []
