"""What the lanes promise: an answer is true and durable, whatever happens to the connection."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.postgres import Server
from tests.proxy import Cut, Proxy

from pithead.core.errors import Conflict, Invalid
from pithead.core.jobs import Attempt
from pithead.exchange.events import Event, KeysChanged
from pithead.exchange.ports import Tx
from pithead.store import lanes
from pithead.store.clock import DatabaseClock
from pithead.store.errors import OutcomeUnknown, StoreError
from pithead.store.lanes import Lanes
from pithead.store.migrate import migrate_postgres
from pithead.store.postgres import PostgresTx


class Bench:
    """Lanes over a database whose wire can be broken."""

    def __init__(self, server: Server, name: str, proxy: Proxy, number: int = 2) -> None:
        self.proxy = proxy
        self.events: list[Event] = []
        self.doubts = 0
        self.clock = DatabaseClock()
        self.url = server.url(name)
        broken = server.tcp_url(name).replace(str(server.port), str(proxy.port))
        self.lanes = Lanes(broken, "bench", self.clock, self.events.extend, self._doubt, number)

    def _doubt(self) -> None:
        self.doubts += 1

    def count(self, action: str) -> int:
        """How often the operation was done, by the database."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM audit WHERE action = %s", (action,)).fetchone()
            assert row is not None
            return int(row[0])


def note(action: str) -> Callable[[Tx], str]:
    """An operation that can be counted."""

    def operation(tx: Tx) -> str:
        tx.audit(0.0, "test", action, "x")
        tx.emit(KeysChanged(action))
        return action

    return operation


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture(params=[False, True], ids=["near", "far"])
async def bench(request: pytest.FixtureRequest, postgres: Server, proxy: Proxy) -> AsyncIterator[Bench]:
    with postgres.lent() as name:
        bench = Bench(postgres, name, proxy)
        bench.lanes.far = request.param
        yield bench
        proxy.closed = False
        await bench.lanes.close()


@pytest.fixture(params=[False, True], ids=["near", "far"])
async def single(request: pytest.FixtureRequest, postgres: Server, proxy: Proxy) -> AsyncIterator[Bench]:
    """With one lane, so that the connection which is cut is the one that is used."""
    with postgres.lent() as name:
        bench = Bench(postgres, name, proxy, 1)
        bench.lanes.far = request.param
        yield bench
        proxy.closed = False
        await bench.lanes.close()


async def test_an_outcome_is_given_once_it_is_there_for_others(bench: Bench) -> None:
    assert await bench.lanes.run(note("one")) == "one"
    assert bench.count("one") == 1
    assert bench.events == [KeysChanged("one")]


async def test_one_that_fails_harms_no_other(bench: Bench) -> None:
    def refused(tx: Tx) -> None:
        tx.audit(0.0, "test", "refused", "x")
        raise Conflict("no")

    done = await asyncio.gather(
        *(bench.lanes.run(refused if n % 3 == 1 else note("good")) for n in range(90)), return_exceptions=True
    )
    assert [isinstance(outcome, Conflict) for outcome in done] == [n % 3 == 1 for n in range(90)]
    assert (bench.count("good"), bench.count("refused")) == (60, 0)
    assert bench.lanes.commits < 90, "they were committed together"


async def test_one_that_fails_before_it_changed_anything_costs_the_others_nothing(single: Bench) -> None:
    runs = 0

    def refused(tx: Tx) -> None:
        tx.meta("x")
        raise Conflict("no")

    def counted(tx: Tx) -> str:
        nonlocal runs
        runs += 1
        return note("good")(tx)

    done = await asyncio.gather(
        *(single.lanes.run(refused if n % 3 == 1 else counted) for n in range(90)), return_exceptions=True
    )
    assert [isinstance(outcome, Conflict) for outcome in done] == [n % 3 == 1 for n in range(90)]
    assert (single.count("good"), runs) == (60, 60)


async def test_one_that_fails_takes_no_prepared_statement_from_those_after_it(single: Bench) -> None:
    """Psycopg has all of them forgotten where it sees that something was rolled back."""
    runs = 0
    (lane,) = single.lanes._lanes
    lane._wary = 10**6  # With a savepoint for each.

    def refused(tx: Tx) -> None:
        tx.audit(0.0, "test", "refused", "x")
        raise Conflict("no")

    def looks(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        tx.meta("x")
        tx.audit(0.0, "test", "looks", "x")
        tx.set_meta("x", 1)
        tx.balance(1)

    for _ in range(3):
        done = await asyncio.gather(
            *(single.lanes.run(refused if n % 4 == 1 else looks) for n in range(40)), return_exceptions=True
        )
        assert [type(outcome) for outcome in done] == [Conflict if n % 4 == 1 else type(None) for n in range(40)]
    assert (single.count("looks"), runs) == (90, 90), "no batch was begun anew"


async def test_a_connection_that_lost_what_was_prepared_on_it_is_left(single: Bench) -> None:
    """As where a pooler in between gives the server's session to somebody else."""
    forgot = False

    def forget(tx: Tx) -> str:
        nonlocal forgot
        tx.meta("x")
        if not forgot:
            forgot = True
            assert isinstance(tx, PostgresTx)
            # In its own session, and so that the client does not see it.
            tx._execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", {})
            tx.meta("x")
        return "done"

    assert await single.lanes.run(forget) == "done"
    assert await single.lanes.run(note("after")) == "after"
    assert single.count("after") == 1


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_that_is_lost_in_the_commit(bench: Bench, cut: Cut) -> None:
    """Nobody can tell from here whether it happened; the answer is right all the same, and it happened once."""
    await bench.lanes.run(note("first"))
    bench.proxy.cut_at_commit = cut
    done = await asyncio.gather(*(bench.lanes.run(note("lost")) for _ in range(20)))
    assert done == ["lost"] * 20
    assert bench.proxy.cuts == 1
    assert bench.count("lost") == 20
    assert bench.events.count(KeysChanged("lost")) == 20
    assert bench.doubts == 0


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_database_that_stays_away_after_a_commit_leaves_a_doubt_and_says_so(single: Bench, cut: Cut) -> None:
    single.lanes.patience = 0.5
    await single.lanes.run(note("first"))
    single.proxy.cut_at_commit, single.proxy.closed = cut, True
    with pytest.raises(OutcomeUnknown):
        await single.lanes.run(note("lost"))
    assert single.doubts == 1, "what is kept in memory may be wrong"
    assert single.count("lost") == (cut == "after")
    single.proxy.closed = False
    assert await single.lanes.run(note("again")) == "again"


async def test_a_connection_that_is_lost_before_the_commit_costs_nothing(bench: Bench) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx) -> str:
        tx.audit(0.0, "test", "slow", "x")
        first = not entered.is_set()
        entered.set()
        go_on.wait(10)
        return "first try" if first else "second try"

    running = bench.lanes.run(slow)
    await asyncio.to_thread(entered.wait, 10)
    bench.proxy.cut()
    go_on.set()
    assert await running == "second try"
    assert bench.count("slow") == 1


async def test_without_a_database_everybody_is_told_and_nothing_happened(bench: Bench) -> None:
    bench.lanes.patience = 0.5
    bench.proxy.closed = True
    bench.proxy.cut()
    done = await asyncio.gather(*(bench.lanes.run(note("away")) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in done} == {StoreError}
    bench.proxy.closed = False
    assert await bench.lanes.run(note("back")) == "back"
    assert (bench.count("away"), bench.count("back")) == (0, 1)


async def test_two_that_want_the_same_rows_in_opposite_orders_do_not_wait_for_each_other(bench: Bench) -> None:
    def both(first: str, second: str) -> Callable[[Tx], None]:
        def operation(tx: Tx) -> None:
            tx.set_meta(first, 1)
            tx.set_meta(second, 1)

        return operation

    async with asyncio.timeout(lanes.PATIENCE):
        await asyncio.gather(*(bench.lanes.run(both("a", "b") if n % 2 else both("b", "a")) for n in range(300)))


async def test_a_row_that_stays_locked_is_given_up_on(bench: Bench) -> None:
    bench.lanes.patience = 0.5
    await bench.lanes.run(lambda tx: tx.set_meta("a", 1))
    with psycopg.connect(bench.url) as holder:
        holder.execute("UPDATE meta SET value = 2 WHERE key = 'a'")
        with pytest.raises(StoreError, match=r"others keep changing the same|lock timeout$"):
            await bench.lanes.run(lambda tx: tx.set_meta("a", 3))
        assert await bench.lanes.run(note("beside")) == "beside"


async def test_what_cannot_be_stored_is_refused_and_not_a_fault_of_the_database(bench: Bench) -> None:
    with pytest.raises(Invalid):
        await bench.lanes.run(lambda tx: tx.audit(0.0, "test", "nul", "\x00"))


async def test_what_is_wrong_with_a_write_is_its_own_operation_s_matter(bench: Bench) -> None:
    """Also where that shows while another one runs."""

    def wrong(tx: Tx) -> None:
        tx.add_attempt(Attempt(999, 1, 999, "of a job that there is not", 0.0))

    done = await asyncio.gather(
        *(bench.lanes.run(wrong if n == 7 else note("good")) for n in range(20)), return_exceptions=True
    )
    assert [type(outcome) for outcome in done] == [StoreError if n == 7 else str for n in range(20)]
    assert bench.count("good") == 19


async def test_the_same_stored_twice_at_once_is_seen_by_the_second(bench: Bench) -> None:
    def once(tx: Tx) -> bool:
        if tx.meta("once") is not None:
            return False
        tx.add_enrollment_token(b"once", 1, 1.0)
        tx.set_meta("once", 1)
        return True

    done = await asyncio.gather(*(bench.lanes.run(once) for _ in range(150)))
    assert done.count(True) == 1


async def test_the_clock_is_the_database_s(bench: Bench) -> None:
    bench.clock.saw(5_000.0, 0.0, 0.0)
    await bench.lanes.run(note("x"))
    with psycopg.connect(bench.url) as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::FLOAT8").fetchone()
    assert row is not None
    assert abs(bench.clock() - row[0]) < 1


async def test_after_an_orderly_end_nothing_of_the_lanes_is_left(postgres: Server) -> None:
    with postgres.lent() as name:
        clock = DatabaseClock()
        some = Lanes(postgres.url(name), "gone", clock, lambda events: None, lambda: None, 2)
        await asyncio.gather(*(some.run(note("x")) for _ in range(100)))
        await some.close()
        with pytest.raises(StoreError, match="stopping"):
            await some.run(note("late"))
        with psycopg.connect(postgres.url(name)) as connection:
            row = connection.execute("SELECT count(*) FROM writers").fetchone()
        assert row == (0,)


def test_migrations_run_once_however_many_start(postgres: Server) -> None:
    name = postgres.create()
    ran: list[int] = []
    threads = [threading.Thread(target=lambda: ran.append(migrate_postgres(postgres.url(name)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ran)[:3] == [0, 0, 0]
    assert max(ran) > 0


def test_a_database_of_a_newer_program_is_refused(postgres: Server) -> None:
    with postgres.lent() as name:
        with postgres.connect(name) as connection:
            connection.execute("UPDATE meta SET value = 9999 WHERE key = 'schema'")
        with pytest.raises(StoreError, match=r"at version 9999 .* run the newer program"):
            migrate_postgres(postgres.url(name))


def _said(url: str) -> str:
    with pytest.raises(StoreError) as refused:
        migrate_postgres(url)
    return str(refused.value)


def test_what_is_wrong_with_the_setting_is_said_in_one_line_without_the_password(postgres: Server) -> None:
    wrong = postgres.tcp_url("postgres", "s3cret-but-wrong")
    cases: dict[str, Any] = {
        wrong: "refuses the user postgres: wrong or no password",
        postgres.tcp_url("nowhere"): "has no database nowhere; create it",
        "postgresql://postgres:s3cret@127.0.0.1:1/x": "cannot reach the database at 127.0.0.1:1",
        "postgresql://postgres:s3cret@[127.0.0.1/x": "not of the form postgresql://",
        "postgresql://postgres@127.0.0.1/x?pass=s3cret": "not of the form postgresql://",
    }
    for url, expected in cases.items():
        said = _said(url)
        assert expected in said
        assert "\n" not in said
        assert "s3cret" not in said
        assert postgres.PASSWORD not in said
