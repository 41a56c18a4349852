"""What the writer remembers: a late failure, somebody else's change, and that nothing changes rows behind its back."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from sqlcipher3 import dbapi2
from tests.store import scenes
from tests.store.conftest import Remembering

from pithead.core.miners import Miner
from pithead.core.money import ISSUED, Transfer
from pithead.exchange.ports import Client, Tx
from pithead.store import memory
from pithead.store.batches import Item
from pithead.store.memory import MIRRORED, OF_FINISHED_JOBS
from pithead.store.queries import SQLITE


def test_every_query_that_changes_what_is_remembered_is_known() -> None:
    """Who adds one has to let `RememberingTx` make the same change, or forget the row."""
    changes = re.compile(r"(?:UPDATE|INTO|DELETE FROM)\s+(?:accounts|clients|miners|jobs|attempts|inputs)\b")
    found = {name for name, sql in SQLITE.items() if changes.search(sql)}
    assert found == MIRRORED | OF_FINISHED_JOBS


def batch(store: Remembering, *operations: Callable[[Tx], Any]) -> list[Item]:
    """Run these in one transaction."""
    items = [Item(operation) for operation in operations]
    store.store.writing.execute("BEGIN IMMEDIATE")
    store.batches.run(items)
    store.store.writing.execute("COMMIT")
    return items


def credit(client: int, amount: int) -> Callable[[Tx], None]:
    return lambda tx: tx.post(1.0, [Transfer("credit", ISSUED, client, amount)])


def balance(client: int) -> Callable[[Tx], int]:
    return lambda tx: tx.balance(client)


def stored(store: Remembering, account: int) -> int:
    """The balance as another connection sees it."""
    return store.store.read(lambda tx: tx.balance(account))


def test_moves_of_a_batch_are_seen_at_once_and_stored_with_its_commit(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    items = batch(remembering, credit(client.seq, 5), balance(client.seq), credit(client.seq, 7), balance(client.seq))
    assert [item.outcome for item in items] == [None, 5, None, 12]
    assert stored(remembering, client.seq) == 12
    assert remembering.do(lambda tx: tx.ledger_sum()) == 0


def test_a_sum_over_balances_has_the_moves_of_its_own_batch(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    items = batch(remembering, credit(client.seq, 5), lambda tx: tx.balances_by_kind())
    assert items[1].outcome["client"] == 5
    assert items[1].outcome["issued"] == -5


def test_one_that_fails_late_harms_no_other_of_its_batch(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)

    def late(tx: Tx) -> None:
        tx.post(1.0, [Transfer("credit", ISSUED, client.seq, 100)])
        scenes.job(tx, client, "job_late")
        raise LookupError("too late")

    def after(tx: Tx) -> Any:
        return tx.balance(client.seq), tx.job_by_id("job_late")

    items = batch(remembering, credit(client.seq, 5), late, after, credit(client.seq, 7))
    assert [type(item.failure) for item in items] == [type(None), LookupError, type(None), type(None)]
    assert items[2].outcome == (5, None)
    assert stored(remembering, client.seq) == 12
    assert remembering.do(lambda tx: tx.job_by_id("job_late")) is None


def test_what_is_written_later_is_there_for_whoever_looks(remembering: Remembering) -> None:
    client, holder = remembering.do(scenes.client), remembering.do(scenes.miner)
    job = remembering.do(lambda tx: scenes.job(tx, client))

    def counted(tx: Tx) -> None:
        tx.count_ended(holder.seq, "completed", wall=2.0, earned=5)

    items = batch(
        remembering,
        credit(client.seq, 5),
        lambda tx: len(tx.statement(client.seq, None, 10)),
        lambda tx: scenes.lease(tx, job, holder),
        lambda tx: tx.newest_attempt(job.seq, holder.seq, "lease_of-nobody"),
        lambda tx: tx.attempts_of_job(job.seq, 10),
        counted,
        lambda tx: [miner.completed for miner in tx.miners_page(None, 10, None)],
    )
    assert [item.failure for item in items] == [None] * 7
    assert items[1].outcome == 1
    assert items[3].outcome is None
    assert len(items[4].outcome) == 1
    assert items[6].outcome == [1]


def test_rows_that_are_alike_are_written_by_one_statement(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    at_once, one_by_one = remembering.batches._execute_many, remembering.batches._execute
    statements: list[tuple[str, int]] = []

    def many(sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
        statements.append((sql.split()[2 if sql.startswith("INSERT") else 1], len(rows)))
        return at_once(sql, rows)

    def one(sql: str, values: Mapping[str, Any]) -> Any:
        statements.append((sql, 1))
        return one_by_one(sql, values)

    remembering.batches._execute_many, remembering.batches._execute = many, one
    batch(remembering, *[credit(client.seq, n) for n in range(1, 6)])
    assert statements == [("transfers", 5), ("accounts", 2)]
    assert stored(remembering, client.seq) == 15


def test_one_whose_rows_the_database_does_not_take_fails_alone(remembering: Remembering) -> None:
    """It shows only when they are written, after other operations."""
    client = remembering.do(scenes.client)
    nowhere = 9_999_999
    items = batch(
        remembering, credit(client.seq, 5), credit(nowhere, 7), lambda tx: len(tx.statement(client.seq, None, 10)),
        credit(client.seq, 9),
    )  # fmt: skip
    assert [type(item.failure) for item in items] == [type(None), dbapi2.IntegrityError, type(None), type(None)]
    assert items[2].outcome == 1
    items = batch(remembering, credit(client.seq, 1), credit(nowhere, 7))
    assert [type(item.failure) for item in items] == [type(None), dbapi2.IntegrityError]
    assert stored(remembering, client.seq) == 15
    assert remembering.do(lambda tx: tx.ledger_sum()) == 0


def test_a_refusal_is_not_blamed_for_rows_of_others_that_it_wrote(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    runs: list[str] = []

    def refused(tx: Tx) -> None:
        runs.append("refused")
        raise LookupError(str(len(tx.statement(client.seq, None, 10))))

    items = batch(remembering, credit(client.seq, 5), refused)
    assert str(items[1].failure) == "1"
    assert runs == ["refused"]


def test_a_refusal_that_changed_nothing_does_not_run_the_batch_again(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    runs: list[str] = []

    def counted(tx: Tx) -> None:
        runs.append("counted")
        credit(client.seq, 5)(tx)

    def refused(tx: Tx) -> None:
        runs.append("refused")
        raise LookupError(str(tx.balance(client.seq)))

    items = batch(remembering, counted, refused)
    assert runs == ["counted", "refused"]
    assert str(items[1].failure) == "5"
    assert stored(remembering, client.seq) == 5


def test_what_somebody_else_changed_is_read_anew(remembering: Remembering) -> None:
    miner = remembering.do(scenes.miner)
    assert remembering.do(lambda tx: tx.miner_by_id(miner.id)) == miner
    other = remembering.store.connect()
    other.execute("UPDATE miners SET name = 'renamed'")
    other.close()
    found = remembering.do(lambda tx: tx.miner_by_id(miner.id))
    assert found is not None
    assert found.name == "renamed"


def test_what_a_failed_commit_undid_is_forgotten(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    remembering.do(balance(client.seq))
    connection = remembering.store.writing
    connection.execute("BEGIN IMMEDIATE")
    remembering.batches.run([Item(credit(client.seq, 5))])
    connection.execute("ROLLBACK")
    remembering.batches.memory.forget()
    assert remembering.do(balance(client.seq)) == 0


def test_a_row_is_asked_for_once(remembering: Remembering) -> None:
    miner = remembering.do(scenes.miner)
    remembering.do(lambda tx: tx.miner_by_id(miner.id))
    asked: list[str] = []
    remembering.store.writing.set_trace_callback(asked.append)
    assert remembering.do(lambda tx: tx.miner_by_id(miner.id)) == miner
    remembering.store.writing.set_trace_callback(None)
    assert not [sql for sql in asked if "FROM miners" in sql]


def _taken(store: Remembering, client: Client, holder: Miner, name: str) -> None:
    job = store.do(lambda tx: scenes.job(tx, client, name))
    store.do(lambda tx: scenes.lease(tx, job, holder))


def _looked_at(store: Remembering, miner: Miner) -> None:
    store.do(lambda tx: (tx.miner_by_id(miner.id), tx.balance(miner.seq), tx.held_count(miner.seq)))


def test_what_is_remembered_is_bounded(remembering: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", 3)
    client, holder = remembering.do(scenes.client), remembering.do(scenes.miner)
    for number in range(6):
        _taken(remembering, client, holder, f"job_{number}")
        _looked_at(remembering, remembering.do(partial(scenes.miner, id=f"miner_x{number}")))
    known = remembering.batches.memory
    assert list(known.jobs) == ["job_3", "job_4", "job_5"]
    assert len(known.attempts) == len(known.jobs)
    assert known.holders == {holder.seq: {"job_3", "job_4", "job_5"}}
    assert max(len(known.miners), len(known.miner_ids), len(known.balances), len(known.counts)) <= 3
    assert remembering.do(lambda tx: tx.held_count(holder.seq)) == 6


def test_the_inputs_that_are_remembered_are_bounded(remembering: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LONGEST_INPUT", 10)
    monkeypatch.setattr(memory, "MOST_INPUTS", 25)
    client, holder = remembering.do(scenes.client), remembering.do(scenes.miner)
    known, jobs = remembering.batches.memory, []
    for number, length in enumerate((10, 11, 10, 10, 3)):
        body = b"%d" % number * length
        job = remembering.do(lambda tx, body=body, name=f"job_{number}": scenes.job(tx, client, name, body=body))  # type: ignore[misc]
        jobs.append((job, body))
        assert known.input_size == sum(map(len, known.inputs.values())) <= 35
    assert known.inputs == {jobs[4][0].seq: b"444"}
    for job, body in jobs:
        assert remembering.do(lambda tx, job=job: tx.job_work(job.seq)) == (body, None)  # type: ignore[misc]
    leased = remembering.do(lambda tx: scenes.lease(tx, jobs[4][0], holder))
    assert leased is not None
    known.drop_job("job_4")
    assert (known.inputs, known.input_size) == ({}, 0)


def test_a_value_of_any_kind_is_bound_without_a_search_for_an_adapter(remembering: Remembering) -> None:
    for value in (None, b"bytes", True, 1, 1.5, "text"):
        assert (type(value), dbapi2.PrepareProtocol) in dbapi2.adapters or type(value) in (int, float, str)


def test_leases_that_are_extended_in_a_batch_cost_no_move_of_it(remembering: Remembering) -> None:
    client = remembering.do(scenes.client)
    batch(remembering, credit(client.seq, 5), lambda tx: tx.extend(10.0), credit(client.seq, 7))
    assert stored(remembering, client.seq) == 12
