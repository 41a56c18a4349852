"""Pieces of output join up, whatever is lost, late or told twice."""

from hypothesis import given
from hypothesis import strategies as st

from pithead.core.outputs import fresh


@given(whole=st.text(max_size=60), cuts=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=30))
def test_whatever_pieces_are_told_what_is_there_is_the_beginning_of_the_whole(
    whole: str, cuts: list[tuple[int, int]]
) -> None:
    there = ""
    for begin, end in cuts:
        there += fresh(len(there), begin, whole[begin:end], most=40)
        assert there == whole[: len(there)].replace("\x00", "\N{REPLACEMENT CHARACTER}")
        assert len(there) <= 40
        if begin <= len(there):
            assert len(there) >= min(end, len(whole), 40)


def test_what_is_missing_something_before_it_is_not_taken() -> None:
    assert fresh(3, 4, "x") == ""
    assert fresh(3, -1, "xxxxxx") == ""
