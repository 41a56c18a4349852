"""A miner's state, and its figures by the contract's formulas."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.unit.core.examples import miner

from pithead.core.miners import Admission, Stats, Status, billable_gpu_seconds, stats, status


@pytest.mark.parametrize(
    ("admission", "online", "draining"), list(itertools.product(Admission, (False, True), (False, True)))
)
def test_the_state_that_everybody_sees(admission: Admission, online: bool, draining: bool) -> None:
    seen = status(miner(admission=admission, online=online, draining=draining))
    if admission is not Admission.ADMITTED:
        assert seen.value == admission.value, "the operator's word counts first"
    elif not online:
        assert seen is Status.OFFLINE
    else:
        assert seen is (Status.DRAINING if draining else Status.ACTIVE)


def test_every_state_can_be_seen() -> None:
    seen = {
        status(miner(admission=admission, online=online, draining=draining))
        for admission, online, draining in itertools.product(Admission, (False, True), (False, True))
    }
    assert seen == set(Status)


def test_one_that_has_done_nothing_has_zeros() -> None:
    assert stats(miner()) == Stats(0, 0.0, 0.0, 0, 0.0)


def test_the_figures_of_the_contract_s_example() -> None:
    hundred = miner(
        completed=98, failed=1, lapsed=1, completion_seconds=58_800.0, gpu_seconds=3_636_000.0, earnings=50_500_000
    )
    assert stats(hundred) == Stats(100, 0.98, 600.0, 50_500_000, 0.05)


@given(
    completed=st.integers(0, 10**6),
    failed=st.integers(0, 10**6),
    lapsed=st.integers(0, 10**6),
    wall=st.floats(0, 1e9),
    gpu=st.floats(0, 1e9).filter(lambda s: s == 0 or s > 1e-3),
    earned=st.integers(0, 10**12),
)
def test_the_figures_by_their_formulas(
    completed: int, failed: int, lapsed: int, wall: float, gpu: float, earned: int
) -> None:
    figures = stats(
        miner(
            completed=completed, failed=failed, lapsed=lapsed, completion_seconds=wall, gpu_seconds=gpu, earnings=earned
        )
    )
    assert figures.total_jobs == completed + failed + lapsed
    assert 0 <= figures.success_rate <= 1
    assert figures.success_rate * figures.total_jobs == pytest.approx(completed)
    if completed:
        assert figures.average_completion_time * completed == pytest.approx(wall)
    else:
        assert figures.average_completion_time == 0
    assert figures.earnings == earned
    if gpu:
        assert figures.earnings_per_gpu_hour * (gpu / 3600) == pytest.approx(earned / 1_000_000)
    else:
        assert figures.earnings_per_gpu_hour == 0


@given(reported=st.none() | st.floats(0, 1e12), count=st.integers(1, 1024), wall=st.floats(0, 1e9))
def test_reported_gpu_time_counts_up_to_what_was_possible(reported: float | None, count: int, wall: float) -> None:
    counted = billable_gpu_seconds(reported, count, wall)
    assert 0 <= counted <= count * wall
    if reported is None:
        assert counted == 0
    elif reported <= count * wall:
        assert counted == reported
