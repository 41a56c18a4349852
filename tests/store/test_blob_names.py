"""Which blob is whose: results, the parts that became of uploads, orphans, and the keys that they are encrypted under."""

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core.jobs import FINISHED, Attempt, Job, State
from pithead.exchange.ports import Tx, WrappedKey


def taken(tx: Tx) -> tuple[Job, Attempt]:
    return lease(tx, job(tx, client(tx)), miner(tx))


def newest(tx: Tx, attempt: Attempt) -> Attempt:
    found = tx.newest_attempt(attempt.job, attempt.miner, None)
    assert found is not None
    return found


def test_the_last_part_counts_until_the_whole_is_there(tx: Tx) -> None:
    held, attempt = taken(tx)
    assert (newest(tx, attempt).part_blob, newest(tx, attempt).part_size) == (None, None)
    for size in (2**20, 2**40):
        tx.set_part(held.seq, 1, size, f"part-{size}")
    found = newest(tx, attempt)
    assert (found.part_blob, found.part_size, found.blob) == (f"part-{2**40}", 2**40, None)
    tx.set_upload(held.seq, 1, "ab", 7, "whole")
    found = newest(tx, attempt)
    assert (found.part_blob, found.part_size, found.blob) == (None, None, "whole")
    tx.set_part(held.seq, 1, 3, "again")
    assert (newest(tx, attempt).blob, newest(tx, attempt).part_blob) == ("whole", "again")


@pytest.mark.parametrize("state", list(State))
def test_of_a_finished_job_all_is_an_orphan_but_what_completed_it(tx: Tx, state: State) -> None:
    held, _ = taken(tx)
    tx.set_upload(held.seq, 1, "ab", 7, "result")
    tx.set_part(held.seq, 1, 3, "part")
    moved(tx, held, state, completed_attempt=1 if state is State.COMPLETED else None)
    over = state in FINISHED
    assert tx.is_orphan("job_1", "result") == (over and state is not State.COMPLETED)
    assert tx.is_orphan("job_1", "part") == over
    assert tx.is_orphan("job_1", "other") == over


def test_a_blob_of_a_job_that_is_not_there_is_an_orphan(tx: Tx) -> None:
    held, _ = taken(tx)
    tx.set_upload(held.seq, 1, "ab", 7, "result")
    assert tx.is_orphan("job_2", "result")


def test_a_blob_is_renamed_where_it_is_named(tx: Tx) -> None:
    held, attempt = taken(tx)
    other, other_attempt = lease(tx, job(tx, client(tx, "client_2"), "job_2"), miner(tx, "miner_2"))
    tx.set_upload(held.seq, 1, "ab", 7, "result")
    tx.set_part(held.seq, 1, 3, "part")
    tx.set_upload(other.seq, 1, "ab", 7, "result")
    assert tx.names_blob("job_1", "result")
    assert tx.names_blob("job_1", "part")
    assert not tx.names_blob("job_1", "other")
    assert not tx.names_blob("job_3", "result")
    tx.rename_blob("job_1", "result", "result.sealed")
    tx.rename_blob("job_1", "part", "part.sealed")
    tx.rename_blob("job_1", "other", "other.sealed")
    found = newest(tx, attempt)
    assert (found.blob, found.part_blob) == ("result.sealed", "part.sealed")
    assert newest(tx, other_attempt).blob == "result"


def test_the_blobs_of_one_form_are_counted(tx: Tx) -> None:
    assert tx.count_blobs(".sealed") == (0, 0)
    held, _ = taken(tx)
    tx.set_upload(held.seq, 1, "ab", 7, "result.sealed")
    tx.set_part(held.seq, 1, 3, "part")
    assert tx.count_blobs(".sealed") == (2, 1)
    tx.rename_blob("job_1", "part", "part.sealed")
    assert tx.count_blobs(".sealed") == (2, 2)


def test_the_keys_of_blobs_come_the_oldest_first(tx: Tx) -> None:
    assert tx.data_keys() == []
    keys = [WrappedKey(bytes([n]) * 16, b"wrapped" * n, NOW - n) for n in (1, 3, 2)]
    for key in keys:
        tx.add_data_key(key)
    assert tx.data_keys() == [keys[1], keys[2], keys[0]]
    tx.save_data_key(msgspec.structs.replace(keys[0], wrapped=b"anew"))
    assert [key.wrapped for key in tx.data_keys()] == [b"wrapped" * 3, b"wrapped" * 2, b"anew"]
    with pytest.raises(Exception, match=r"(?i)unique"):
        tx.add_data_key(keys[0])
    tx.delete_data_keys()
    assert tx.data_keys() == []
