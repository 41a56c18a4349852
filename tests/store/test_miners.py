"""Miners: what each write touches, and the state that the database computes."""

import itertools
from typing import Any

import msgspec
import pytest
from tests.store.scenes import NOW, client, job, lease, miner

from pithead.core.miners import Admission, Miner, status
from pithead.exchange.ports import Tx

EVERYTHING: dict[str, Any] = {
    "name": "n", "gpu_type": "a100", "gpu_count": 8, "location": "attic", "price_per_hour": 10**14,
    "max_concurrent": 10_000, "models": frozenset({"gpt2", "llama"}), "admission": Admission.SUSPENDED,
    "draining": True, "online": False, "offline_at": NOW + 5, "requests_per_minute": 7,
    "job_operations_per_minute": 0,
}  # fmt: skip


def found(tx: Tx, id: str = "miner_1") -> Miner:
    one = tx.miner_by_id(id)
    assert one is not None
    return one


def test_a_miner_comes_back_as_it_was_stored(tx: Tx) -> None:
    counted: dict[str, Any] = {
        "completed": 1,
        "failed": 2,
        "lapsed": 3,
        "completion_seconds": 0.1,
        "gpu_seconds": 0.2,
        "earnings": 10**14,
    }
    made = miner(tx, **EVERYTHING, **counted)
    assert found(tx) == made
    bare = miner(tx, "miner_2", last_seen_at=None)
    assert found(tx, "miner_2") == bare
    assert bare.models is None
    none = miner(tx, "miner_3", models=frozenset())
    assert found(tx, "miner_3").models == none.models == frozenset()
    assert tx.miner_by_id("miner_4") is None


def test_saving_a_miner_leaves_alone_what_others_write(tx: Tx) -> None:
    """A heartbeat or a count between its being read and saved is not lost."""
    made = miner(tx)
    tx.beat(made.seq, NOW + 50, NOW + 230)
    tx.count_ended(made.seq, "completed", wall=10.5, gpu_seconds=20.25, earned=5)
    tx.save_miner(msgspec.structs.replace(made, **EVERYTHING))
    assert found(tx) == msgspec.structs.replace(
        made, **EVERYTHING, last_seen_at=NOW + 50, completed=1, completion_seconds=10.5, gpu_seconds=20.25, earnings=5
    )


def test_a_heartbeat_brings_it_online(tx: Tx) -> None:
    made = miner(tx, online=False, last_seen_at=None, offline_at=0.0)
    tx.beat(made.seq, NOW + 1, NOW + 181)
    assert found(tx) == msgspec.structs.replace(made, online=True, last_seen_at=NOW + 1, offline_at=NOW + 181)


@pytest.mark.parametrize("online", [True, False])
def test_a_heartbeat_that_is_written_down_late_brings_nobody_back(tx: Tx, online: bool) -> None:
    made = miner(tx, online=online)
    tx.heard(made.seq, NOW + 1, NOW + 181)
    heard = {"last_seen_at": NOW + 1, "offline_at": NOW + 181} if online else {}
    assert found(tx) == msgspec.structs.replace(made, **heard)


def test_a_heartbeat_that_is_written_down_after_a_later_one_changes_nothing(tx: Tx) -> None:
    """As where one coordinator heard the one, and another the other."""
    made = miner(tx)
    tx.beat(made.seq, NOW + 20, NOW + 200)
    tx.set_telemetry(made.seq, NOW + 20, b"later")
    assert found(tx).last_seen_at == NOW + 20  # Whoever remembers what it reads does so from here on.
    tx.heard(made.seq, NOW + 5, NOW + 185)
    tx.set_telemetry(made.seq, NOW + 5, b"earlier")
    assert (found(tx).last_seen_at, found(tx).offline_at, tx.telemetry(made.seq)) == (NOW + 20, NOW + 200, b"later")


@pytest.mark.parametrize("outcome", ["completed", "failed", "lapsed"])
def test_an_attempt_is_counted_and_the_count_taken_back(tx: Tx, outcome: str) -> None:
    made = miner(tx)
    for _ in range(2):
        tx.count_ended(made.seq, outcome)
    assert found(tx) == msgspec.structs.replace(made, **{outcome: 2})
    tx.count_ended(made.seq, outcome, undo=True)
    assert found(tx) == msgspec.structs.replace(made, **{outcome: 1})


def test_the_state_in_the_database_is_that_of_the_core(tx: Tx) -> None:
    """The database computes it too, to page and count by; the rule stands in two places and is one."""
    every = itertools.product(Admission, (False, True), (False, True))
    made = [
        miner(tx, f"miner_{n}", admission=admission, online=online, draining=draining)
        for n, (admission, online, draining) in enumerate(every)
    ]
    by_status: dict[str, list[Miner]] = {}
    for one in reversed(made):
        by_status.setdefault(status(one), []).append(one)
    assert tx.miners_by_status() == {state: len(some) for state, some in by_status.items()}
    for state, some in by_status.items():
        assert tx.miners_page(None, 100, state) == some
    assert tx.miners_page(None, 100, None) == made[::-1]
    assert tx.miners_page(made[3].seq, 2, None) == [made[2], made[1]]


def test_those_that_fell_silent_go_offline(tx: Tx) -> None:
    ends = {"early": NOW, "now": NOW + 1, "late": NOW + 2}
    early, now, _ = (miner(tx, id, offline_at=offline_at) for id, offline_at in ends.items())
    miner(tx, "already", online=False, offline_at=NOW)
    assert sorted(tx.mark_offline(NOW + 1)) == [early.seq, now.seq]
    assert tx.mark_offline(NOW + 1) == []
    assert [found(tx, id).online for id in ends] == [False, False, True]


def test_the_newest_telemetry_is_kept(tx: Tx) -> None:
    one, two = (miner(tx), miner(tx, "miner_2"))
    assert tx.telemetry(one.seq) is None
    for body in (b'{"a":1}', b'{"a":2}'):
        tx.set_telemetry(one.seq, NOW, body)
    assert (tx.telemetry(one.seq), tx.telemetry(two.seq)) == (b'{"a":2}', None)


def test_what_a_miner_has_to_be_told(tx: Tx) -> None:
    one, two = (miner(tx), miner(tx, "miner_2"))
    tx.add_notice(one.seq, "job_1", "lost", NOW)
    tx.add_notice(one.seq, "job_2", "cancelled", NOW + 1)
    # The last word on a job counts.
    tx.add_notice(one.seq, "job_1", "expired", NOW + 2)
    told = [(notice.job_id, notice.reason) for notice in tx.notices(one.seq)]
    assert told == [("job_2", "cancelled"), ("job_1", "expired")]
    assert tx.notices(two.seq) == []


def test_miners_that_are_alike_are_counted_together(tx: Tx) -> None:
    owner = client(tx)
    first, second = miner(tx, "miner_1", max_concurrent=2), miner(tx, "miner_2", max_concurrent=3)
    miner(tx, "miner_3", models=frozenset({"gpt2", "llama"}))
    miner(tx, "miner_4", admission=Admission.RETIRED)
    miner(tx, "miner_5", online=False, draining=True)
    for number in range(3):
        lease(tx, job(tx, owner, f"job_{number}"), first if number < 2 else second)
    found = {
        (group.like.models, group.like.online, group.like.draining, group.busy): (group.miners, group.slots, group.free)
        for group in tx.census()
    }
    assert found == {
        (None, True, False, True): (1, 2, 0),
        (None, True, False, False): (1, 3, 2),
        (frozenset({"gpt2", "llama"}), True, False, False): (1, 4, 4),
        (None, False, True, False): (1, 4, 4),
    }
    like = next(group.like for group in tx.census())
    assert (like.gpu_type, like.gpu_count, like.price_per_hour) == ("v100", 1, 50_000)
