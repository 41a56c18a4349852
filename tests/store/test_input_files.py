"""Files that clients upload for their jobs."""

from typing import Any

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core.jobs import State
from pithead.core.needs import Limits, NamedFile, Needs
from pithead.exchange.input_ports import InputFile
from pithead.exchange.ports import Client, Tx

A, B = "a" * 64, "b" * 64


def file(tx: Tx, owner: Client, sha256: str = A, id: str = "file_1", **over: Any) -> InputFile:
    given: dict[str, Any] = {"size": 5, "blob": f"ab/{id}-0-x"} | over
    return tx.add_input_file(InputFile(0, id, owner.seq, sha256, NOW, given.pop("touched_at", NOW), **given))


def test_a_file_is_its_clients_and_found_by_its_hash(tx: Tx) -> None:
    one, other = client(tx), client(tx, "client_2")
    mine = file(tx, one)
    theirs = file(tx, other, id="file_2")
    assert (tx.input_file(one.seq, A), tx.input_file(other.seq, A)) == (mine, theirs)
    assert tx.input_file(one.seq, B) is None
    assert mine.seq != theirs.seq
    with pytest.raises(Exception, match=r"(?i)unique"):
        file(tx, one, id="file_3")


def test_what_arrives_of_it_is_kept(tx: Tx) -> None:
    owner = client(tx)
    made = file(tx, owner, size=None, blob=None)
    part = msgspec.structs.replace(made, part_size=3, part_blob="p", touched_at=NOW + 1)
    tx.save_input_file(part)
    assert tx.input_file(owner.seq, A) == part
    assert tx.touch_input_file(owner.seq, A, NOW + 2) is None, "a job can name what is whole only"
    whole = msgspec.structs.replace(part, part_size=None, part_blob=None, size=7, blob="w")
    tx.save_input_file(whole)
    touched = tx.touch_input_file(owner.seq, A, NOW + 2)
    assert touched == msgspec.structs.replace(whole, touched_at=NOW + 2) == tx.input_file(owner.seq, A)
    tx.drop_input_file(made.seq)
    assert tx.input_file(owner.seq, A) is None
    assert tx.touch_input_file(owner.seq, A, NOW) is None


def test_pages_and_sums(tx: Tx) -> None:
    owner, other = client(tx), client(tx, "client_2")
    assert (tx.input_files_page(owner.seq, None, 5), tx.input_files_used(owner.seq)) == ([], (0, 0))
    made = [
        file(tx, owner),
        file(tx, owner, B, "file_2", size=None, blob=None, part_size=10, part_blob="p"),
        file(tx, owner, "c" * 64, "file_3", size=None, blob=None),
    ]
    file(tx, other, id="file_4")
    assert tx.input_files_used(owner.seq) == (3, 15)
    assert tx.input_files_page(owner.seq, None, 2) == [made[2], made[1]]
    assert tx.input_files_page(owner.seq, made[1].seq, 2) == [made[0]]


def test_a_job_keeps_what_it_needs_and_most_need_nothing(tx: Tx) -> None:
    owner = client(tx)
    plain, needy = job(tx, owner), job(tx, owner, "job_2", b"work")
    made = file(tx, owner)
    needs = Needs((NamedFile("in", A, 5), NamedFile("again", A, 5)), Limits(memory_bytes=7, wall_clock_seconds=1.5))
    tx.add_needs(needy.seq, needs, [made.seq])
    assert (tx.needs(plain.seq), tx.needs(needy.seq)) == (None, needs)
    assert tx.job_work(plain.seq) == (b"{}", None)
    assert tx.job_work(needy.seq) == (b"work", needs)
    assert (tx.job_details(plain).needs, tx.job_details(needy).needs) == (None, needs)
    assert tx.needs(12345) is None


@pytest.mark.parametrize("state", State)
def test_a_file_is_in_use_while_a_job_that_names_it_is_not_finished(tx: Tx, state: State) -> None:
    owner, holder = client(tx), miner(tx)
    made, unused = file(tx, owner), file(tx, owner, B, "file_2", touched_at=NOW - 1)
    named = job(tx, owner)
    tx.add_needs(named.seq, Needs((NamedFile("in", A, 5),)), [made.seq])
    if state is not State.QUEUED:
        named, _ = lease(tx, named, holder)
        named = moved(tx, named, state)
    over = named.finished_at is not None
    assert tx.input_file_in_use(made.seq) != over
    assert not tx.input_file_in_use(unused.seq)
    due = [unused, made] if over else [unused]
    assert tx.input_files_due(NOW + 1, 10) == due
    assert tx.input_files_due(NOW + 1, 1) == due[:1]
    assert tx.input_files_due(NOW, 10) == [unused]
    assert tx.input_files_due(NOW - 1, 10) == []


def test_what_is_not_whole_is_due_apart(tx: Tx) -> None:
    owner = client(tx)
    whole, part = file(tx, owner), file(tx, owner, B, "file_2", size=None, blob=None, part_blob="p", part_size=1)
    assert tx.input_parts_due(NOW + 1, 10) == [part]
    assert tx.input_parts_due(NOW, 10) == []
    assert tx.input_files_due(NOW + 1, 10) == [whole]


def test_an_archived_job_takes_its_names_with_it(tx: Tx) -> None:
    owner = client(tx)
    made, old = file(tx, owner), job(tx, owner)
    tx.add_needs(old.seq, Needs((NamedFile("in", A, 5),)), [made.seq])
    moved(tx, old, State.CANCELLED)
    job(tx, owner, "job_2")
    tx.archive_job(old.seq)
    assert tx.needs(old.seq) is None
    assert not tx.input_file_in_use(made.seq)


def test_its_blobs_are_named_until_it_is_gone(tx: Tx) -> None:
    owner = client(tx)
    whole = file(tx, owner, blob="whole")
    part = file(tx, owner, B, "file_2", size=None, blob=None, part_blob="part", part_size=1)
    assert [tx.is_orphan("file_1", name) for name in ("whole", "other")] == [False, True]
    assert not tx.is_orphan("file_2", "other"), "it may be on its way"
    assert tx.is_orphan("file_3", "whole")
    assert [tx.names_blob("file_1", name) for name in ("whole", "part")] == [True, False]
    assert tx.names_blob("file_2", "part")
    assert tx.count_blobs(".sealed") == (2, 0)
    tx.rename_blob("file_1", "whole", "whole.sealed")
    tx.rename_blob("file_2", "part", "part.sealed")
    tx.rename_blob("file_2", "other", "other.sealed")
    assert tx.count_blobs(".sealed") == (2, 2)
    assert (whole.blobs, part.blobs) == (["whole"], ["part"])
    tx.drop_input_file(whole.seq)
    assert tx.is_orphan("file_1", "whole.sealed")
