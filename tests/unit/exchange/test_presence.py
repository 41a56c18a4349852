"""Heartbeats in memory: what they promise is kept once it is written down, and nothing is judged before that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import Exchange

from pithead.core.jobs import State
from pithead.core.leases import Policy
from pithead.core.miners import Status, status
from pithead.exchange import dispatch, miners
from pithead.exchange.events import Heard
from pithead.exchange.miners import Beat
from pithead.exchange.presence import BATCH, Presence, read, write_down
from pithead.exchange.rules import Rules

TTL, OFFLINE = 100.0, 200.0


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    exchange = Exchange(tmp_path, Rules(leases=Policy(lease_ttl=TTL), offline_after=OFFLINE))
    yield exchange
    exchange.close()


@pytest.fixture
def presence(exchange: Exchange) -> Presence:
    return Presence(exchange.rules)


def hear(
    exchange: Exchange, presence: Presence, miner: str, *names: str, telemetry: bytes | None = None
) -> Beat | None:
    """A heartbeat; what happened since the last one has been told."""
    presence.forget(exchange.events)
    exchange.events.clear()
    if presence.known(miner, exchange.now) is None:
        presence.keep(exchange.do(lambda tx, now: read(tx, now, miner)), presence.changes)
    return presence.beat(exchange.now, miner, names, telemetry)


def beat(exchange: Exchange, presence: Presence, miner: str, *names: str, telemetry: bytes | None = None) -> Beat:
    """A heartbeat that takes no operation."""
    answer = hear(exchange, presence, miner, *names, telemetry=telemetry)
    assert answer is not None
    return answer


def settle(exchange: Exchange, presence: Presence) -> None:
    """Write down what was heard and is due, and sweep."""
    for batch in presence.unwritten(exchange.now):
        exchange.do(lambda tx, now, batch=batch: write_down(tx, batch))  # type: ignore[misc]
    exchange.sweep()


def test_a_renewed_lease_does_not_lapse(exchange: Exchange, presence: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    exchange.accept(miner, job)
    for _ in range(5):
        exchange.now += TTL - 1
        [lease] = beat(exchange, presence, miner).held
        assert lease.lease_expires_at == exchange.now + TTL
        settle(exchange, presence)
        assert exchange.job(job).state is State.ASSIGNED
        assert exchange.job(job).lease_expires_at == exchange.now + TTL
    exchange.now += TTL
    settle(exchange, presence)
    assert exchange.job(job).state is State.QUEUED


def test_a_renewal_goes_no_further_than_the_attempt(exchange: Exchange, presence: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client(), attempt_timeout=TTL + 10)
    exchange.accept(miner, job)
    exchange.now += 50
    [lease] = beat(exchange, presence, miner).held
    settle(exchange, presence)
    assert lease.lease_expires_at == exchange.job(job).lease_expires_at == exchange.now - 50 + TTL + 10


def test_only_the_leases_that_are_named_are_renewed(exchange: Exchange, presence: Presence) -> None:
    miner, client = exchange.miner(), exchange.client()
    first, second = exchange.submit(client), exchange.submit(client)
    exchange.accept(miner, first)
    exchange.accept(miner, second)
    exchange.now += TTL - 1
    beat(exchange, presence, miner, first)
    exchange.now += 1
    settle(exchange, presence)
    assert exchange.job(first).state is State.ASSIGNED
    assert exchange.job(second).state is State.QUEUED


@pytest.mark.parametrize("order", [("first", "second"), ("first", None), (None, "second")])
def test_two_heartbeats_before_they_are_written_down_renew_what_both_named(
    exchange: Exchange, presence: Presence, order: tuple[str | None, ...]
) -> None:
    miner, client = exchange.miner(), exchange.client()
    jobs = {"first": exchange.submit(client), "second": exchange.submit(client)}
    for job in jobs.values():
        exchange.accept(miner, job)
    exchange.now += TTL - 1
    for name in order:
        beat(exchange, presence, miner, *([] if name is None else [jobs[name]]))
    exchange.now += 1
    settle(exchange, presence)
    assert {exchange.job(job).state for job in jobs.values()} == {State.ASSIGNED}


def test_a_lease_that_was_given_after_the_heartbeat_is_not_cut_short(exchange: Exchange, presence: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    other = exchange.submit(exchange.client())
    exchange.accept(miner, other)
    beat(exchange, presence, miner)
    exchange.now += 30
    exchange.accept(miner, job)
    settle(exchange, presence)
    assert exchange.job(job).lease_expires_at == exchange.now + TTL


def test_a_miner_that_is_heard_of_stays_online(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    exchange.now += OFFLINE - 1
    beat(exchange, presence, miner)
    exchange.now += 1
    found = exchange.do(lambda tx, now: miners.find(tx, miner))
    assert presence.seen(found).last_seen_at == exchange.now - 1
    settle(exchange, presence)
    found = exchange.do(lambda tx, now: miners.find(tx, miner))
    assert status(found) is Status.ACTIVE
    assert found.last_seen_at == exchange.now - 1
    exchange.now += OFFLINE
    settle(exchange, presence)
    assert status(exchange.do(lambda tx, now: miners.find(tx, miner))) is Status.OFFLINE


def test_coming_back_takes_an_operation(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    exchange.now += OFFLINE
    settle(exchange, presence)
    assert hear(exchange, presence, miner) is None
    # Nor does a heartbeat that was heard before bring back a miner that went offline meanwhile.
    exchange.beat(miner)
    beat(exchange, presence, miner)
    exchange.do(lambda tx, now: tx.mark_offline(now + 2 * OFFLINE))
    settle(exchange, presence)
    assert status(exchange.do(lambda tx, now: miners.find(tx, miner))) is Status.OFFLINE


def test_who_names_a_job_that_it_does_not_hold_is_answered_from_the_database(
    exchange: Exchange, presence: Presence
) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    assert hear(exchange, presence, miner, job) is None
    exchange.accept(miner, exchange.submit(exchange.client()))
    assert hear(exchange, presence, miner, job) is None


def test_what_happens_to_its_jobs_is_told_at_the_next_heartbeat(exchange: Exchange, presence: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    assert beat(exchange, presence, miner).held == []
    exchange.accept(miner, job)
    assert [lease.job_id for lease in beat(exchange, presence, miner).held] == [job]
    exchange.cancel(job)
    answer = beat(exchange, presence, miner)
    assert (answer.held, answer.stop) == ([], [(job, "cancelled")])


def test_what_an_operator_decides_holds_at_the_next_heartbeat(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    beat(exchange, presence, miner)
    exchange.do(lambda tx, now: miners.suspend(tx, now, "operator", miner, "why not"))
    assert status(beat(exchange, presence, miner).miner) is Status.SUSPENDED


def test_what_nobody_told_of_is_found_out_within_two_minutes(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    beat(exchange, presence, miner)
    exchange.do(lambda tx, now: miners.suspend(tx, now, "operator", miner, "told to another coordinator"))
    exchange.events.clear()
    exchange.now += 121
    assert status(beat(exchange, presence, miner).miner) is Status.SUSPENDED


def test_telemetry_is_kept_and_the_newest_counts(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    for sent in (b'{"a":1}', b'{"a":2}', None):
        beat(exchange, presence, miner, telemetry=sent)
    found = exchange.do(lambda tx, now: miners.find(tx, miner))
    assert presence.telemetry(found) == b'{"a":2}'
    exchange.now += 51
    settle(exchange, presence)
    assert presence.telemetry(found) is None
    assert exchange.do(lambda tx, now: tx.telemetry(found.seq)) == b'{"a":2}'


def test_what_could_not_be_written_down_is_tried_again(exchange: Exchange, presence: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    exchange.accept(miner, job)
    exchange.now += TTL - 1
    beat(exchange, presence, miner)
    [batch] = presence.unwritten()
    presence.not_written(batch)
    exchange.now += 1
    settle(exchange, presence)
    assert exchange.job(job).state is State.ASSIGNED


def test_many_are_written_down_in_batches(exchange: Exchange, presence: Presence) -> None:
    everybody = [exchange.miner() for _ in range(BATCH + 1)]
    for miner in everybody:
        beat(exchange, presence, miner)
    assert [len(batch) for batch in presence.unwritten()] == [BATCH, 1]
    assert list(presence.unwritten()) == []


def test_what_was_read_before_a_change_is_not_kept(exchange: Exchange, presence: Presence) -> None:
    miner, other, job = exchange.miner(), exchange.miner(), exchange.submit(exchange.client())
    since = presence.changes
    known = exchange.do(lambda tx, now: read(tx, now, miner))
    exchange.accept(miner, job)
    presence.forget(exchange.events)
    presence.keep(known, since)
    assert presence.known(miner, exchange.now) is None
    # What happened to this miner does not concern the other one.
    presence.keep(exchange.do(lambda tx, now: read(tx, now, other)), presence.changes)
    assert presence.known(other, exchange.now) is not None
    presence.forget_all()
    assert presence.known(other, exchange.now) is None


def test_what_it_takes_reports_and_delivers_is_followed_without_reading_anew(
    exchange: Exchange, presence: Presence
) -> None:
    miner, client = exchange.miner(), exchange.client()
    first, second = exchange.submit(client), exchange.submit(client)
    beat(exchange, presence, miner)
    known = presence.known(miner, exchange.now)
    exchange.accept(miner, first)
    exchange.accept(miner, second)
    exchange.do(
        lambda tx, now: dispatch.report_progress(
            tx, miner_id=miner, job_id=first, token=None, fraction=0.5, message="half"
        )
    )
    assert {lease.job_id for lease in beat(exchange, presence, miner).held} == {first, second}
    exchange.complete(miner, first)
    assert [lease.job_id for lease in beat(exchange, presence, miner).held] == [second]
    assert presence.known(miner, exchange.now) is known
    # A job that it lost and takes again is nothing to stop any more.
    exchange.now += TTL
    settle(exchange, presence)
    assert beat(exchange, presence, miner).stop == [(second, "lost")]
    exchange.now += 100
    exchange.accept(miner, second)
    answer = beat(exchange, presence, miner)
    assert ([lease.job_id for lease in answer.held], answer.stop) == ([second], [])


def test_few_of_many_heartbeats_are_written_down(exchange: Exchange, presence: Presence) -> None:
    """And what is stored of a miner, and of its leases, always has most of its time left."""
    everybody, client = [exchange.miner() for _ in range(20)], exchange.client()
    held = exchange.submit(client)
    exchange.accept(everybody[0], held)
    written = 0
    for _ in range(40):
        exchange.now += 15
        for miner in everybody:
            beat(exchange, presence, miner)
        for batch in presence.unwritten(exchange.now):
            written += len(batch)
            exchange.do(lambda tx, now, batch=batch: write_down(tx, batch))  # type: ignore[misc]
        lease = exchange.job(held).lease_expires_at
        assert lease is not None
        assert lease - exchange.now >= TTL * 3 / 4 - 15
        for miner in everybody:
            found = exchange.do(lambda tx, now, miner=miner: miners.find(tx, miner))  # type: ignore[misc]
            assert found.offline_at - exchange.now >= OFFLINE * 2 / 3 - 15
            assert presence.seen(found).last_seen_at == exchange.now
    assert 0 < written < 20 * 40 / 2


def test_what_is_due_is_so_for_the_lease_that_is_named_last(exchange: Exchange, presence: Presence) -> None:
    """A heartbeat that waits to be written down is not waited for by a lease that it did not name."""
    miner, client = exchange.miner(), exchange.client()
    first, second = exchange.submit(client), exchange.submit(client)
    for job in (first, second):
        exchange.accept(miner, job)
    exchange.now += 30
    beat(exchange, presence, miner, first)
    settle(exchange, presence)
    exchange.now += TTL - 31
    beat(exchange, presence, miner, second)
    exchange.now += 1
    settle(exchange, presence)
    assert exchange.job(second).state is State.ASSIGNED


def test_an_orderly_stop_writes_down_all_there_is(exchange: Exchange, presence: Presence) -> None:
    miner = exchange.miner()
    exchange.now += 1
    beat(exchange, presence, miner)
    assert list(presence.unwritten(exchange.now)) == []
    [[heard]] = presence.unwritten()
    assert heard.at == exchange.now


def test_a_heartbeat_that_came_while_another_could_not_be_written_counts(
    exchange: Exchange, presence: Presence
) -> None:
    miner = exchange.miner()
    exchange.now += OFFLINE - 1
    beat(exchange, presence, miner)
    [batch] = presence.unwritten(exchange.now)
    exchange.now += 10
    beat(exchange, presence, miner)
    presence.not_written(batch)
    settle(exchange, presence)
    assert exchange.do(lambda tx, now: miners.find(tx, miner)).last_seen_at == exchange.now


@pytest.fixture
def shared(exchange: Exchange) -> Presence:
    """Beside others on the same database."""
    presence = Presence(exchange.rules)
    presence.shared = True
    return presence


def test_with_others_that_judge_too_a_heartbeat_that_comes_late_is_an_operation(
    exchange: Exchange, shared: Presence
) -> None:
    """What is stored has to last until this one is written down."""
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    exchange.accept(miner, job)
    exchange.now += TTL / 2
    [lease] = beat(exchange, shared, miner).held
    exchange.now = lease.lease_expires_at - TTL / 2 + 1
    assert hear(exchange, shared, miner) is None


def test_with_others_a_heartbeat_that_the_database_did_not_take_is_followed_by_operations(
    exchange: Exchange, shared: Presence
) -> None:
    """They fail as long as it takes nothing, instead of promising what nobody else knows."""
    miner = exchange.miner()
    beat(exchange, shared, miner)
    [batch] = shared.unwritten()
    shared.not_written(batch)
    exchange.now = batch[0].due + 5
    beat(exchange, shared, miner)
    exchange.now += 1
    assert hear(exchange, shared, miner) is None
    settle(exchange, shared)
    assert hear(exchange, shared, miner) is not None


def test_with_others_a_lease_at_its_limit_is_no_reason_for_an_operation_before_it_is_over(
    exchange: Exchange, shared: Presence
) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client(), attempt_timeout=TTL)
    exchange.accept(miner, job)
    exchange.now += TTL - 1
    beat(exchange, shared, miner)
    exchange.now += 1
    assert hear(exchange, shared, miner) is None


def test_with_others_a_miner_that_was_silent_for_long_is_heard_by_an_operation(
    exchange: Exchange, shared: Presence
) -> None:
    miner = exchange.miner()
    exchange.now += OFFLINE / 2
    assert hear(exchange, shared, miner) is not None
    exchange.now += OFFLINE / 2 + 1
    assert hear(exchange, shared, miner) is None


def test_with_others_what_became_of_a_job_is_read_anew(exchange: Exchange, shared: Presence) -> None:
    """News come in any order: that a lease was given may be heard after it is known that it was taken away."""
    miner, rival, job = exchange.miner(), exchange.miner(), exchange.submit(exchange.client())
    beat(exchange, shared, miner)
    beat(exchange, shared, rival)
    exchange.accept(miner, job)
    given, exchange.events[:] = list(exchange.events), []
    exchange.release(miner, job)
    exchange.events.clear()
    beat(exchange, shared, miner)
    shared.forget(given)
    assert shared.known(miner, exchange.now) is None
    assert shared.known(rival, exchange.now) is not None, "it has nothing to do with this one"


def test_what_was_read_before_others_changed_it_is_not_kept(exchange: Exchange, shared: Presence) -> None:
    miner, job = exchange.miner(), exchange.submit(exchange.client())
    since, known = shared.changes, exchange.do(lambda tx, now: read(tx, now, miner))
    exchange.accept(miner, job)
    shared.hear(Heard(jobs=[exchange.job(job)]))
    shared.keep(known, since)
    assert shared.known(miner, exchange.now) is None


def test_a_heartbeat_that_was_an_operation_leaves_in_memory_what_is_known(exchange: Exchange, shared: Presence) -> None:
    """With others; alone it is read anew, at no cost."""
    miner = exchange.miner()
    beat(exchange, shared, miner)
    exchange.beat(miner)
    shared.forget(exchange.events)
    assert shared.known(miner, exchange.now) is not None
