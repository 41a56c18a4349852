"""What operations of a batch on PostgreSQL leave to be written at its end is there for whoever looks before."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.postgres import Server
from tests.store.scenes import miner
from tests.store.test_miners import found

from pithead.core.money import Transfer
from pithead.store.errors import StoreError
from pithead.store.postgres import PostgresTx, connect, write
from pithead.store.together import Together


@pytest.fixture
def connection(postgres: Server) -> Iterator[psycopg.Connection]:
    with postgres.lent() as name:
        connection = connect(postgres.url(name), "test")
        yield connection
        connection.close()


def test_counts_that_are_not_written_yet_are_in_the_miner_that_is_read(connection: psycopg.Connection) -> None:
    with connection.transaction():
        together = Together(connection.execute)
        first, second = (PostgresTx(connection.execute, {}, None, together) for _ in range(2))
        made = miner(first)
        for earned in (5, 7):
            first.count_ended(made.seq, "completed", wall=1.5, gpu_seconds=2.0, earned=earned)
        first.count_ended(made.seq, "lapsed")
        assert connection.execute("SELECT completed FROM miners").fetchone() == (0,)
        seen = found(second)
        assert (seen.completed, seen.lapsed, seen.failed, seen.earnings) == (2, 1, 0, 12)
        assert (seen.completion_seconds, seen.gpu_seconds) == (3.0, 4.0)
        assert second.miner_by_seq(made.seq) == seen


def test_transfers_are_numbered_as_they_were_made(connection: psycopg.Connection) -> None:
    amounts = [7, 3, 9, 1]

    def operation(tx: PostgresTx) -> None:
        for amount in amounts:
            tx.post(1.0, [Transfer("credit", 1, 2, amount, note=str(amount))])

    write(connection, operation)
    rows = connection.execute("SELECT amount, note, job, payout FROM transfers ORDER BY seq").fetchall()
    assert rows == [(amount, str(amount), None, None) for amount in amounts]
    assert connection.execute("SELECT balance FROM accounts WHERE balance <> 0 ORDER BY seq").fetchall() == [
        (-20,),
        (20,),
    ]


def test_a_transfer_to_an_account_that_there_is_not_is_none_at_all(connection: psycopg.Connection) -> None:
    with pytest.raises(StoreError, match=r"no such account: \[999\]"):
        write(connection, lambda tx: tx.post(1.0, [Transfer("credit", 1, 999, 5)]))
    assert connection.execute("SELECT count(*) FROM transfers").fetchone() == (0,)


def test_an_operation_knows_whether_it_changed_anything(connection: psycopg.Connection) -> None:
    """Only one that did has to be undone where it fails."""
    with connection.transaction():
        made = miner(PostgresTx(connection.execute, {}))

        def fresh() -> PostgresTx:
            return PostgresTx(connection.execute, {})

        looks, counts, posts = fresh(), fresh(), fresh()
        looks.miner_by_id(made.id)
        looks.held_count(made.seq)
        looks.job_by_id("job_none")
        looks.balance(1)
        counts.count_ended(made.seq, "failed")
        posts.move(1, 5)
        assert [tx.changed for tx in (looks, counts, posts)] == [False, True, True]
        takes = fresh()
        takes.use_enrollment_token(b"none", 1.0)
        assert takes.changed, "as far as is known without looking how many rows it found"
