"""Telemetry, a sample a minute, and the speeds that miners measured."""

from tests.store.scenes import NOW, miner

from pithead.core.miners import Admission
from pithead.exchange.ports import LARGEST_TELEMETRY, Tx

MINUTE = NOW // 60 * 60


def test_the_first_report_of_each_minute_is_kept_and_the_newest_of_all(tx: Tx) -> None:
    one, other = miner(tx), miner(tx, "miner_2")
    for seconds in (0, 15, 59.9, 60, 180):
        tx.set_telemetry(one.seq, MINUTE + seconds, b"%d" % seconds)
    tx.set_telemetry(other.seq, MINUTE, b"other")
    assert tx.telemetry(one.seq) == b"180"
    assert tx.telemetry_since(one.seq, 0, 10) == [(MINUTE, b"0"), (MINUTE + 60, b"60"), (MINUTE + 180, b"180")]
    assert tx.telemetry_since(one.seq, MINUTE + 1, 1) == [(MINUTE + 60, b"60")]
    assert tx.telemetry_since(other.seq, 0, 10) == [(MINUTE, b"other")]


def test_old_samples_are_pruned_and_large_ones_never_kept(tx: Tx) -> None:
    one = miner(tx)
    tx.set_telemetry(one.seq, MINUTE, b"x")
    tx.set_telemetry(one.seq, MINUTE + 60, b"x" * (LARGEST_TELEMETRY + 1))
    tx.set_telemetry(one.seq, MINUTE + 120, b"y")
    assert tx.prune_telemetry(MINUTE + 60) == 1
    assert tx.telemetry_since(one.seq, 0, 10) == [(MINUTE + 120, b"y")]


def test_speeds_are_replaced_and_those_of_miners_that_may_not_work_do_not_count(tx: Tx) -> None:
    one, other = miner(tx), miner(tx, "miner_2")
    barred = miner(tx, "miner_3", admission=Admission.SUSPENDED)
    tx.set_speeds(one.seq, {"gpt2": 10.0, "llama": 3.5})
    tx.set_speeds(one.seq, {"gpt2": 20.0})
    tx.set_speeds(other.seq, {"gpt2": 30.0})
    tx.set_speeds(barred.seq, {"gpt2": 1000.0})
    assert tx.speeds_of_miner(one.seq) == {"gpt2": 20.0}
    assert sorted(tx.speeds_of_model("gpt2")) == [20.0, 30.0]
    assert tx.speeds_of_model("llama") == []
