"""What is due by when, renewal, and the time in which no coordinator was up."""

from typing import Any

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner, moved

from pithead.core.jobs import FINISHED, HELD, Job, State
from pithead.exchange.ports import Tx


def leased(tx: Tx, count: int, **over: Any) -> list[Job]:
    """Jobs whose leases end one second after the other, in an order that is not that of their submission."""

    owner, worker = client(tx), miner(tx, max_concurrent=100)
    order = [*range(count)][::2] + [*range(count)][1::2]
    held = {n: lease(tx, job(tx, owner, f"job_{n}", **over), worker, NOW + n)[0] for n in order}
    return [held[n] for n in range(count)]


def now_as(tx: Tx, jobs: list[Job]) -> list[Job]:
    found = [tx.job_by_id(one.id) for one in jobs]
    return [one for one in found if one]


def test_leases_that_have_run_out_the_earliest_first(tx: Tx) -> None:
    jobs = leased(tx, 5)
    assert tx.lapsed(NOW + 119.9, 9) == []
    assert tx.lapsed(NOW + 120, 9) == jobs[:1]
    assert tx.lapsed(NOW + 122.5, 9) == jobs[:3]
    assert tx.lapsed(NOW + 999, 2) == jobs[:2]


@pytest.mark.parametrize("state", [State.QUEUED, *FINISHED])
def test_only_a_held_job_s_lease_lapses(tx: Tx, state: State) -> None:
    (held,) = leased(tx, 1)
    moved(tx, held, state)
    assert tx.lapsed(NOW + 999, 9) == []


def test_jobs_whose_time_is_up_the_earliest_first(tx: Tx) -> None:
    owner = client(tx)
    jobs = [job(tx, owner, f"job_{n}", deadline=NOW + n) for n in (3, 1, 2)]
    jobs = sorted(jobs, key=lambda one: one.deadline)
    assert tx.overdue(NOW + 0.5, 9) == []
    assert tx.overdue(NOW + 2, 9) == jobs[:2]
    assert tx.overdue(NOW + 9, 2) == jobs[:2]


@pytest.mark.parametrize("state", State)
def test_whatever_is_unfinished_can_be_overdue(tx: Tx, state: State) -> None:
    made = moved(tx, job(tx, client(tx), deadline=NOW), state)
    assert tx.overdue(NOW, 9) == ([] if state in FINISHED else [made])


def test_renewing_all_or_the_named(tx: Tx) -> None:
    jobs = leased(tx, 3)
    other = lease(tx, job(tx, client(tx, "client_2"), "other"), miner(tx, "miner_2"))[0]
    holder = jobs[0].miner
    assert holder is not None

    def ends() -> list[float | None]:
        return [one.lease_expires_at for one in now_as(tx, [*jobs, other])]

    tx.renew(holder, [jobs[1].id, other.id, "job_unknown"], NOW + 300)
    assert ends() == [NOW + 120, NOW + 300, NOW + 122, NOW + 120], "another's lease is not renewed, named or not"
    tx.renew(holder, [], NOW + 400)
    assert ends() == [NOW + 120, NOW + 300, NOW + 122, NOW + 120]
    tx.renew(holder, None, NOW + 400)
    assert ends() == [NOW + 400, NOW + 400, NOW + 400, NOW + 120]
    # A renewal that comes late cuts none short.
    for names in (None, [jobs[1].id]):
        tx.renew(holder, names, NOW + 390)
        assert ends() == [NOW + 400, NOW + 400, NOW + 400, NOW + 120]


@pytest.mark.parametrize("names", [None, ["job_0"]])
def test_a_renewal_ends_at_the_lease_s_limit(tx: Tx, names: list[str] | None) -> None:
    (held,) = leased(tx, 1, attempt_timeout=200.0)
    assert held.miner is not None
    for until, wanted in ((NOW + 199, NOW + 199), (NOW + 500, NOW + 200)):
        tx.renew(held.miner or 0, names, until)
        assert [one.lease_expires_at for one in now_as(tx, [held])] == [wanted]


def test_nothing_is_renewed_that_is_held_no_more(tx: Tx) -> None:
    (held,) = leased(tx, 1)
    done = moved(tx, held, State.COMPLETED)
    for names in (None, [held.id]):
        tx.renew(held.miner or 0, names, NOW + 500)
    assert now_as(tx, [held]) == [done]


def test_when_a_coordinator_was_last_up(tx: Tx) -> None:
    assert tx.alive_at() is None
    for at in (NOW, NOW + 5.25):
        tx.set_alive(at)
        assert tx.alive_at() == at


def test_an_outage_moves_every_end_that_it_would_count_against(tx: Tx) -> None:
    owner, worker = client(tx), miner(tx, max_concurrent=100)
    jobs = [moved(tx, lease(tx, job(tx, owner, f"job_{s}"), worker)[0], s) for s in (*HELD, *FINISHED)]
    before = [*jobs, job(tx, owner, "queued")]
    silent = miner(tx, "silent", online=False)
    assert tx.extend(50.0) == len(HELD)
    after = now_as(tx, before)
    for was, now in zip(before, after, strict=True):
        if was.state not in HELD:
            assert now == was
            continue
        later = {end: (getattr(was, end) or 0.0) + 50 for end in ("lease_expires_at", "lease_limit_at", "deadline")}
        assert now == msgspec.structs.replace(was, **later)
    offline = [tx.miner_by_id(id) for id in ("miner_1", "silent")]
    assert [one and one.offline_at for one in offline] == [NOW + 230, silent.offline_at]
