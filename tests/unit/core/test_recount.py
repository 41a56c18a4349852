"""Setting the board's counts right."""

from tests.unit.core import examples

from pithead.core.board import Board, Kind, kind_of

MINER = examples.miner(models=None, price_per_hour=0, gpu_count=1024)


def board(here: int, more: int = 0) -> tuple[Board, Kind]:
    """So many jobs of one kind, and so many more that are only counted."""
    jobs = [examples.job(seq=n, id=f"job_{n}") for n in range(1, here + 1)]
    kind = kind_of(jobs[0])
    made = Board(jobs, 0.0)
    if more:
        made.expect(kind, more)
    return made, kind


def test_what_was_miscounted_is_set_right() -> None:
    for believed in (0, 5, 90):
        made, kind = board(30, believed)
        made.recount({kind: 40})
        assert (len(made), made.count(MINER)) == (40, 40)
        assert made.has_all_of(kind) is False


def test_jobs_that_are_here_stay_whatever_the_count_says() -> None:
    """News of them is on its way."""
    made, kind = board(3, 7)
    for counts in ({kind: 1}, {}):
        made.recount(counts)
        assert len(made) == 3
        assert [job.seq for job in made.best(MINER, 0.0, 10)] == [1, 2, 3]


def test_a_kind_that_nobody_told_of_is_read() -> None:
    made, kind = board(1)
    other = kind._replace(model="another")
    made.recount({kind: 1, other: 2})
    assert made.hungry() == [other]
    assert len(made) == 3


def test_a_kind_that_is_being_read_is_left_alone() -> None:
    made, kind = board(1, 5)
    made.begin_fill(kind)
    made.recount({kind: 100})
    assert len(made) == 6
