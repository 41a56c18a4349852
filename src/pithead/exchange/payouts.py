"""Payouts: a miner asks for one, or the operator's schedule makes it; an operator decides, pays, and says so."""

import msgspec

from pithead.core import money
from pithead.core.errors import Conflict, Fault, Invalid, NotFound
from pithead.core.money import micros, units
from pithead.core.payouts import Event, Payout, State, apply, period_start
from pithead.exchange import miners
from pithead.exchange.events import PayoutChanged
from pithead.exchange.ids import new_id
from pithead.exchange.ports import Tx
from pithead.exchange.rules import Rules

#: How many payouts the schedule makes in one transaction.
BATCH = 200
#: Under this name the store keeps for which period the schedule has run.
_RUN = "payouts_period"


def find(tx: Tx, payout_id: str) -> Payout:
    """The payout. Raises `NotFound`."""
    payout = tx.payout_by_id(payout_id)
    if payout is None:
        raise NotFound(f"there is no payout {payout_id}")
    return payout


def request(
    tx: Tx,
    now: float,
    rules: Rules,
    miner_id: str,
    payout_id: str,
    amount: float | None,
    destination: str | None = None,
) -> Payout:
    """Reserve an amount of what the miner earned (`None`: all of it), to be paid to the destination that it named.

    `destination`: another one, that an operator names.

    Raises `NotFound`, `Invalid` (less than nothing, or below the minimum), `Conflict` (no destination, or not so much
    there).
    """
    miner = miners.find(tx, miner_id)
    balance = tx.balance(miner.seq)
    wanted = balance if amount is None else micros(amount)
    to = destination or miner.payout_destination
    if not to:
        raise Conflict("there is no payout_destination: set one first ('pithead miner payout destination')")
    if amount is not None and wanted < max(1, rules.payout_minimum):
        least = units(max(1, rules.payout_minimum))
        raise Invalid(Fault("amount", f"must be at least {least}, the least that is paid out"))
    if wanted > balance or wanted < max(1, rules.payout_minimum):
        minimum = f", and the least that is paid out is {units(rules.payout_minimum)}" if rules.payout_minimum else ""
        raise Conflict(f"the balance is {units(balance)}{minimum}")
    return _reserve(tx, Payout(0, payout_id, miner.seq, wanted, to, State.REQUESTED, None, now))


def create(
    tx: Tx,
    now: float,
    rules: Rules,
    actor: str,
    miner_id: str,
    payout_id: str,
    amount: float | None,
    destination: str | None,
) -> Payout:
    """An operator asks on behalf of a miner, which may be retired by now. Raises as `request` does."""
    payout = request(tx, now, rules, miner_id, payout_id, amount, destination)
    tx.audit(now, actor, "payout.create", payout.id, f"{units(payout.amount)} of {miner_id} to {payout.destination}")
    return payout


def _reserve(tx: Tx, payout: Payout) -> Payout:
    stored = tx.add_payout(payout)
    tx.post(payout.requested_at, money.reserve(stored.miner, stored.seq, stored.amount))
    tx.emit(PayoutChanged(stored))
    return stored


def run_schedule(tx: Tx, now: float, rules: Rules) -> bool:
    """Make the payouts of a period that has begun, once; whether some are left for the next transaction.

    Everybody who has at least the minimum and named a destination gets one over all that is there. The first period
    after the schedule was turned on is the next one; of periods in which no coordinator was up only the last counts.
    """
    start, last = period_start(rules.payout_schedule, now), tx.meta(_RUN)
    if start is None:
        if last is not None:
            tx.set_meta(_RUN, None)
        return False
    if last is None:
        tx.set_meta(_RUN, start)
        return False
    if start <= last or not tx.alone("payouts"):
        return False
    least = max(1, rules.payout_minimum)
    due = tx.miners_due(start, least, BATCH)
    for miner in due:
        amount, to = tx.balance(miner.seq), miner.payout_destination
        if amount < least:
            continue  # It asked for a payout of its own a moment ago, at another coordinator.
        _reserve(tx, Payout(0, new_id("payout"), miner.seq, amount, to, State.REQUESTED, start, now))
    if len(due) < BATCH:
        tx.set_meta(_RUN, start)
    return len(due) == BATCH


def approve(tx: Tx, now: float, actor: str, payout_id: str) -> Payout:
    """It may be paid. Repeating it changes nothing. Raises `NotFound`, `Conflict`."""
    payout = find(tx, payout_id)
    if payout.state is State.APPROVED:
        return payout
    changed = msgspec.structs.replace(payout, state=apply(payout, Event.APPROVE), decided_at=now)
    return _decided(tx, now, actor, "payout.approve", payout, changed, str(units(payout.amount)))


def reject(tx: Tx, now: float, actor: str, payout_id: str, note: str) -> Payout:
    """It is not paid; the amount goes back to the miner. Repeating it changes nothing. Raises `NotFound`, `Conflict`."""
    payout = find(tx, payout_id)
    if payout.state is State.REJECTED:
        return payout
    changed = msgspec.structs.replace(payout, state=apply(payout, Event.REJECT), decided_at=now, note=note)
    tx.post(now, money.give_back(payout.miner, payout.seq, payout.amount))
    return _decided(tx, now, actor, "payout.reject", payout, changed, note)


def mark_paid(tx: Tx, now: float, actor: str, payout_id: str, reference: str, note: str) -> Payout:
    """It has left, under this reference. Repeating it with the same reference changes nothing.

    Raises `NotFound`, `Conflict`.
    """
    payout = find(tx, payout_id)
    if payout.state is State.PAID:
        if payout.reference != reference:
            raise Conflict(f"payout {payout.id} was paid under the reference {payout.reference!r}")
        return payout
    changed = msgspec.structs.replace(
        payout, state=apply(payout, Event.PAY), paid_at=now, reference=reference, note=note
    )
    tx.post(now, money.pay_out(payout.seq, payout.amount))
    return _decided(tx, now, actor, "payout.paid", payout, changed, reference)


def _decided(tx: Tx, now: float, actor: str, action: str, before: Payout, after: Payout, detail: str) -> Payout:
    if not tx.save_payout(before, after):
        raise Conflict(f"payout {before.id} has changed meanwhile; ask again")
    tx.audit(now, actor, action, after.id, detail)
    tx.emit(PayoutChanged(after))
    return after
