"""The storage of rate limits in PostgreSQL, as the `limits` library asks for it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from tests.postgres import Server

from pithead.store.rates import RateStorage


class Counted:
    """A storage, and its database to look into."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.storage = RateStorage(url)
        self.storage.open()

    def age(self, seconds: float) -> None:
        """Let all that was counted be so much older."""
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "UPDATE rate_windows SET hits = ARRAY(SELECT h - %s FROM unnest(hits) AS h),"
                " ends_at = ends_at - make_interval(secs => %s)",
                (seconds, seconds),
            )

    def rows(self) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM rate_windows").fetchone()
            assert row is not None
            return int(row[0])


@pytest.fixture
def counted(postgres: Server) -> Iterator[Counted]:
    with postgres.lent() as name:
        counted = Counted(postgres.url(name))
        yield counted
        counted.storage.close()


def test_no_more_than_the_limit_is_admitted_however_many_ask_at_once(counted: Counted) -> None:
    window, item = MovingWindowRateLimiter(counted.storage), RateLimitItemPerMinute(25)
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda _: window.hit(item, "requests", "miner"), range(100)))
    assert sum(admitted) == 25
    assert window.get_window_stats(item, "requests", "miner").remaining == 0
    assert window.hit(item, "requests", "another")


def test_the_window_moves(counted: Counted) -> None:
    window, item = MovingWindowRateLimiter(counted.storage), RateLimitItemPerMinute(3)
    assert window.hit(item, "x")
    counted.age(30)
    assert window.hit(item, "x", cost=2)
    assert not window.test(item, "x")
    assert not window.hit(item, "x")
    stats = window.get_window_stats(item, "x")
    assert stats.remaining == 0
    assert 25 < stats.reset_time - time.time() <= 30, "the first of them is over then"
    counted.age(31)
    assert window.get_window_stats(item, "x").remaining == 1
    assert window.hit(item, "x")
    assert not window.hit(item, "x")


def test_a_window_that_nobody_used_is_whole(counted: Counted) -> None:
    window, item = MovingWindowRateLimiter(counted.storage), RateLimitItemPerMinute(3)
    stats = window.get_window_stats(item, "x")
    assert stats.remaining == 3
    assert abs(stats.reset_time - time.time() - 60) < 5
    assert not window.hit(item, "x", cost=4)
    assert window.test(item, "x", cost=3)
    assert counted.rows() == 0


def test_windows_that_begin_with_the_first_request(counted: Counted) -> None:
    window, item = FixedWindowRateLimiter(counted.storage), RateLimitItemPerMinute(2)
    assert [window.hit(item, "x") for _ in range(3)] == [True, True, False]
    assert not window.test(item, "x")
    assert 50 < window.get_window_stats(item, "x").reset_time - time.time() <= 60
    counted.age(61)
    assert window.get_window_stats(item, "x").remaining == 2
    assert window.hit(item, "x", cost=2)
    assert not window.hit(item, "x")


def test_what_was_counted_can_be_forgotten(counted: Counted) -> None:
    window, item = MovingWindowRateLimiter(counted.storage), RateLimitItemPerSecond(1, 60)
    for who in ("x", "y", "z"):
        assert window.hit(item, who)
    window.clear(item, "x")
    assert window.hit(item, "x")
    assert not window.hit(item, "y")
    assert counted.storage.reset() == 3
    assert counted.rows() == 0


def test_a_database_that_does_not_answer(postgres: Server) -> None:
    assert postgres.port
    storage = RateStorage("postgresql://nobody@127.0.0.1:1/x")
    window = MovingWindowRateLimiter(storage)
    with pytest.raises(StorageError):
        window.hit(RateLimitItemPerMinute(1), "x")
    assert not storage.check()


def test_it_says_that_it_answers(counted: Counted) -> None:
    assert counted.storage.check()
