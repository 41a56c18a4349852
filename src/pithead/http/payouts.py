"""Payouts: asked for by miners, decided by the operator, exported as a table."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pithead.core.money import units
from pithead.core.payouts import Payout
from pithead.exchange import miners, payouts
from pithead.exchange.ids import new_id
from pithead.exchange.ports import PayoutFilter, Tx
from pithead.http.api import Call, Operation, handles
from pithead.http.streams import Csv
from pithead.wire import payouts as wire

#: Rows that are read at a time for a table.
_CHUNK = 1000


def _view(tx: Tx, payout: Payout) -> wire.PayoutView:
    return wire.PayoutView(**fields(tx, payout))


def fields(tx: Tx, payout: Payout) -> dict[str, Any]:
    """What a payout is shown with."""
    miner = tx.miner_by_seq(payout.miner)
    return {
        "payout_id": payout.id,
        "miner_id": miner.id if miner else "",
        "miner_name": miner.name if miner else "",
        "amount": units(payout.amount),
        "destination": payout.destination,
        "status": payout.state.value,
        "scheduled": payout.period is not None,
        "requested_at": payout.requested_at,
        "decided_at": payout.decided_at,
        "paid_at": payout.paid_at,
        "reference": payout.reference,
        "note": payout.note,
    }


@handles("request_payout")
async def request(call: Call) -> Operation:
    rules, miner_id, payout_id = call.exchange.rules, call.caller.id, new_id("payout")
    amount = call.body.amount if call.body else None
    return lambda tx, now: _view(tx, payouts.request(tx, now, rules, miner_id, payout_id, amount))


@handles("my_payouts")
async def my_payouts(call: Call) -> wire.MinerPayouts:
    before, limit, miner_id = call.cursor, call.limit, call.caller.id

    def read(tx: Tx) -> wire.MinerPayouts:
        miner = miners.find(tx, miner_id)
        found = tx.payouts_page(PayoutFilter(miner=miner.seq), before, limit + 1)
        return wire.MinerPayouts(
            balance=units(tx.balance(miner.seq)),
            payouts=[_view(tx, payout) for payout in found[:limit]],
            next_cursor=_next(found, limit),
        )

    return await call.exchange.read(read)


def _next(found: Sequence[Payout], limit: int) -> str | None:
    return str(found[limit - 1].seq) if len(found) > limit else None


@handles("list_payouts")
async def list_payouts(call: Call) -> wire.PayoutPage | Csv:
    before, limit, where = call.cursor, call.limit, PayoutFilter(state=call.query.get("status"))

    def read(tx: Tx) -> wire.PayoutPage:
        found = tx.payouts_page(where, before, limit + 1)
        return wire.PayoutPage(payouts=[_view(tx, payout) for payout in found[:limit]], next_cursor=_next(found, limit))

    if call.wants_csv:
        return Csv("payouts", wire.PayoutView, _rows(call, where))
    return await call.exchange.read(read)


async def _rows(call: Call, where: PayoutFilter) -> AsyncIterator[Sequence[wire.PayoutView]]:
    """All of them in one state of the database: none may be in an export twice, or be missing."""

    def read(tx: Tx) -> list[wire.PayoutView]:
        before, left = call.cursor, call.query.get("limit")
        rows: list[wire.PayoutView] = []
        while left is None or len(rows) < left:
            most = _CHUNK if left is None else min(_CHUNK, left - len(rows))
            found = tx.payouts_page(where, before, most)
            rows += [_view(tx, payout) for payout in found]
            if len(found) < most:
                break
            before = found[-1].seq
        return rows

    yield await call.exchange.read(read)


@handles("create_payout")
async def create(call: Call) -> Operation:
    rules, actor, miner_id, payout_id = call.exchange.rules, call.caller.id, call.path["miner_id"], new_id("payout")
    body = call.body or wire.CreatePayout()
    return lambda tx, now: _view(
        tx, payouts.create(tx, now, rules, actor, miner_id, payout_id, body.amount, body.destination)
    )


@handles("get_payout")
async def get(call: Call) -> wire.PayoutView:
    return await call.exchange.peek(lambda tx: _view(tx, payouts.find(tx, call.path["payout_id"])))


@handles("approve_payout")
async def approve(call: Call) -> Operation:
    actor, payout_id = call.caller.id, call.path["payout_id"]
    return lambda tx, now: _view(tx, payouts.approve(tx, now, actor, payout_id))


@handles("reject_payout")
async def reject(call: Call) -> Operation:
    actor, payout_id, note = call.caller.id, call.path["payout_id"], call.body.note if call.body else ""
    return lambda tx, now: _view(tx, payouts.reject(tx, now, actor, payout_id, note))


@handles("mark_payout_paid")
async def mark_paid(call: Call) -> Operation:
    actor, payout_id, body = call.caller.id, call.path["payout_id"], call.body
    return lambda tx, now: _view(tx, payouts.mark_paid(tx, now, actor, payout_id, body.reference, body.note))
