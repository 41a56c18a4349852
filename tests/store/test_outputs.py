"""What attempts bring forth: pieces that join up, read from any place, forgotten after the job."""

from tests.store.scenes import NOW, client, job, moved

from pithead.core.jobs import State
from pithead.exchange.ports import Tx


def test_pieces_are_read_from_any_place(tx: Tx) -> None:
    one = job(tx, client(tx))
    assert tx.output_size(one.seq, 1) == 0
    assert tx.output_from(one.seq, 1, 5) == (5, "")
    tx.add_output(one.seq, 1, 0, "Once ", NOW)
    tx.add_output(one.seq, 1, 5, "\N{GRINNING FACE} upon", NOW)
    tx.add_output(one.seq, 2, 0, "again", NOW)
    assert (tx.output_size(one.seq, 1), tx.output_size(one.seq, 2)) == (11, 5)
    assert tx.output_from(one.seq, 1, 0) == (0, "Once \N{GRINNING FACE} upon")
    assert tx.output_from(one.seq, 1, 3) == (3, "e \N{GRINNING FACE} upon")
    assert tx.output_from(one.seq, 1, 6) == (6, " upon")
    assert tx.output_from(one.seq, 1, 11) == (11, "")


def test_what_is_old_is_forgotten_once_its_job_is_finished_or_gone(tx: Tx) -> None:
    owner = client(tx)
    running, finished, recent = job(tx, owner), job(tx, owner, "job_2"), job(tx, owner, "job_3")
    for one in (running, finished, recent):
        tx.add_output(one.seq, 1, 0, "x", NOW)
    tx.add_output(99, 1, 0, "x", NOW)
    moved(tx, finished, State.CANCELLED)
    moved(tx, recent, State.CANCELLED, finished_at=NOW + 500)
    assert tx.prune_outputs(NOW, 10) == 0
    assert tx.prune_outputs(NOW + 100, 10) == 2
    assert [tx.output_size(one.seq, 1) for one in (running, finished, recent)] == [1, 0, 1]
