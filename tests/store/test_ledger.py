"""Accounts and transfers."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from tests.store.conftest import Store
from tests.store.scenes import NOW, client, miner

from pithead.core.money import FEES, FIRST_OWNED, ISSUED, Transfer
from pithead.exchange.ports import Tx


def test_a_new_database_has_the_accounts_of_nobody(tx: Tx) -> None:
    assert tx.balances_by_kind() == {"issued": 0, "fees": 0, "payouts": 0}
    assert (tx.balance(ISSUED), tx.balance(FEES)) == (0, 0)


def test_the_accounts_of_one_owner_have_numbers_one_after_the_other(tx: Tx) -> None:
    first = tx.new_account("client_1", ["client", "escrow"])
    second = tx.new_account("miner_1", ["miner"])
    third = tx.new_account("client_2", ["client", "escrow"])
    assert first >= FIRST_OWNED
    # A client's escrow has the number after its own, whatever is opened meanwhile.
    assert first + 1 < second < third
    assert tx.balances_by_kind().keys() == {"issued", "fees", "payouts", "client", "escrow", "miner"}


def test_an_account_that_there_is_not_holds_nothing(tx: Tx) -> None:
    assert tx.balance(999) == 0


def test_a_transfer_takes_from_one_and_gives_to_the_other(tx: Tx) -> None:
    owner, worker = client(tx).seq, miner(tx).seq
    tx.post(NOW, [Transfer("credit", ISSUED, owner, 10**14, note="a note"), Transfer("hold", owner, owner + 1, 7, 1)])
    tx.post(NOW, [Transfer("payment", owner + 1, worker, 5, 1), Transfer("fee", owner + 1, FEES, 2, 1)])
    tx.post(NOW, [])
    balances = [tx.balance(a) for a in (ISSUED, owner, owner + 1, worker, FEES)]
    assert balances == [-(10**14), 10**14 - 7, 0, 5, 2]
    kinds = tx.balances_by_kind()
    assert kinds == {"issued": -(10**14), "client": 10**14 - 7, "escrow": 0, "miner": 5, "fees": 2, "payouts": 0}
    assert all(type(amount) is int for amount in kinds.values())


move = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 10**15)).filter(lambda move: move[0] != move[1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(move, max_size=12))
def test_the_sum_is_0_whatever_is_transferred(tx: Tx, moves: list[tuple[int, int, int]]) -> None:
    accounts = [ISSUED, FEES, tx.new_account("x", ["miner"]), tx.new_account("y", ["miner"])]
    wanted = [tx.balance(account) for account in accounts]
    for a, b, amount in moves:
        wanted[a] -= amount
        wanted[b] += amount
    tx.post(NOW, [Transfer("credit", accounts[a], accounts[b], amount) for a, b, amount in moves])
    assert [tx.balance(account) for account in accounts] == wanted
    assert sum(tx.balances_by_kind().values()) == 0


@pytest.mark.parametrize("amount", [0, -1])
def test_a_transfer_of_nothing_or_less_is_refused(tx: Tx, amount: int) -> None:
    with pytest.raises(Exception, match=r"(?i)check"):
        tx.post(NOW, [Transfer("credit", ISSUED, FEES, amount)])
    assert tx.balance(FEES) == 0


def test_a_transfer_to_nobody_is_refused_and_takes_nothing(tx: Tx) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key|no such account"):
        tx.post(NOW, [Transfer("credit", ISSUED, 999, 5)])
    assert tx.balance(ISSUED) == 0


def test_what_an_operation_did_before_it_failed_is_undone(store: Store, tx: Tx) -> None:
    def fails(tx: Tx) -> None:
        owner = client(tx)
        tx.post(NOW, [Transfer("credit", ISSUED, owner.seq, 5)])
        raise LookupError

    with pytest.raises(LookupError):
        store.do(fails)
    assert (tx.balance(ISSUED), tx.client_by_id("client_1")) == (0, None)
