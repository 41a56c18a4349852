"""The span that a job was submitted within: kept for those that have one, and gone with the job."""

from tests.store.scenes import NOW, client, job, moved

from pithead.core.jobs import State
from pithead.exchange.ports import Tx


def test_a_trace_is_kept_with_its_job_and_goes_with_it(tx: Tx) -> None:
    owner = client(tx)
    traced, plain = job(tx, owner), job(tx, owner, "job_2")
    tx.keep_trace(traced.seq, "00-a-b-01")
    assert (tx.trace(traced.seq), tx.trace(plain.seq)) == ("00-a-b-01", None)
    moved(tx, traced, State.CANCELLED, finished_at=NOW)
    tx.archive_job(traced.seq)
    assert tx.trace(traced.seq) is None
