"""The ledger as it is read: by a miner its earnings, by a client its account, by the operator all of it."""

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from pithead.core.errors import Fault, Invalid
from pithead.core.money import units
from pithead.exchange import ledger, miners
from pithead.exchange.ledger import Place
from pithead.exchange.ports import Moved, Tx
from pithead.http.api import Call, handles
from pithead.http.streams import Csv, Told, accepts
from pithead.wire import ledger as wire

#: Rows that are read at a time for a table.
_CHUNK = 1000


@handles("earnings")
async def earnings(call: Call) -> wire.Earnings | Csv:
    by = call.query.get("by", "day")
    since, until, miner_id = call.query.get("from"), call.query.get("to"), call.caller.id
    found = await call.exchange.read(lambda tx: ledger.earnings(tx, miners.find(tx, miner_id).seq, by, since, until))
    rows = [wire.EarningsRow(key=one.key, jobs=one.jobs, earned=units(one.amount)) for one in found]
    if call.wants_csv:
        return Csv("earnings", wire.EarningsRow, _at_once(rows), (by, "jobs", "earned"))
    total = sum(one.amount for one in found)
    return wire.Earnings(by=by, jobs=sum(one.jobs for one in found), earned=units(total), rows=rows)


async def _at_once(rows: Sequence[msgspec.Struct]) -> AsyncIterator[Sequence[msgspec.Struct]]:
    yield rows


@handles("my_ledger")
async def my_ledger(call: Call) -> wire.Statement | Csv:
    return await _statement(call, call.caller.id)


@handles("account_ledger")
async def account_ledger(call: Call) -> wire.Statement | Csv:
    return await _statement(call, call.path["account_id"])


async def _statement(call: Call, account_id: str) -> wire.Statement | Csv:
    held, place = call.query.get("account") == "held", _place(call)

    async def page(place: Place | None, limit: int) -> ledger.Statement:
        def read(tx: Tx) -> ledger.Statement:
            return ledger.statement(tx, ledger.account(tx, account_id, held=held), place, limit)

        return await call.exchange.read(read)

    if call.wants_csv:

        async def chunks() -> AsyncIterator[Sequence[wire.LedgerEntry]]:
            left, at = call.query.get("limit"), place
            while left is None or left > 0:
                found = await page(at, _CHUNK if left is None else min(left, _CHUNK))
                yield [_entry(line) for line in found.lines]
                left, at = None if left is None else left - len(found.lines), found.following
                if at is None:
                    return

        return Csv("ledger", wire.LedgerEntry, chunks())
    found = await page(place, call.limit)
    return wire.Statement(
        balance=units(found.balance),
        entries=[_entry(line) for line in found.lines],
        next_cursor=f"{found.following.before}_{found.following.balance}" if found.following else None,
    )


def _place(call: Call) -> Place | None:
    """Where the page before ended; the balance there is part of the cursor. Raises `Invalid`."""
    text = call.query.get("cursor")
    if text is None:
        return None
    before, _, balance = text.partition("_")
    digits = balance.removeprefix("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (before, digits)):
        raise Invalid(Fault("cursor", "is not one that this API gave out"))
    place = Place(int(before), int(balance))
    if not (0 < place.before < 2**62 and abs(place.balance) < 2**62):
        raise Invalid(Fault("cursor", "is not one that this API gave out"))
    return place


def _entry(line: ledger.Line) -> wire.LedgerEntry:
    entry = line.entry
    return wire.LedgerEntry(
        entry=entry.seq,
        at=entry.at,
        cause=entry.cause,  # type: ignore[arg-type]
        amount=units(entry.amount),
        balance=units(line.balance),
        job_id=entry.job_id,
        payout_id=entry.payout_id,
        note=entry.note,
    )


@handles("list_ledger")
async def list_ledger(call: Call) -> wire.LedgerPage | Csv:
    before, limit = call.cursor, call.limit
    if call.wants_csv:
        return Csv("ledger", wire.TransferView, _whole(call, before))
    found = await call.exchange.read(lambda tx: tx.transfers_page(before, limit + 1))
    return wire.LedgerPage(
        entries=[_transfer(moved) for moved in found[:limit]],
        next_cursor=str(found[limit - 1].seq) if len(found) > limit else None,
    )


async def _whole(call: Call, before: int | None) -> AsyncIterator[Sequence[wire.TransferView]]:
    left = call.query.get("limit")
    while True:
        most = _CHUNK if left is None else min(left, _CHUNK)
        found = await call.exchange.read(_page(before, most))
        yield [_transfer(moved) for moved in found]
        left = None if left is None else left - len(found)
        if len(found) < most or left == 0:
            return
        before = found[-1].seq


def _page(before: int | None, limit: int) -> Callable[[Tx], list[Moved]]:
    return lambda tx: tx.transfers_page(before, limit)


def _transfer(moved: Moved) -> wire.TransferView:
    return wire.TransferView(
        entry=moved.seq,
        at=moved.at,
        cause=moved.cause,  # type: ignore[arg-type]
        amount=units(moved.amount),
        from_account=moved.debit_owner,
        from_class=moved.debit_kind,
        to_account=moved.credit_owner,
        to_class=moved.credit_kind,
        job_id=moved.job_id,
        payout_id=moved.payout_id,
        note=moved.note,
    )


@handles("check_ledger")
async def check(call: Call) -> wire.LedgerCheck | Told:
    async def work(tell: Callable[[msgspec.Struct], None]) -> wire.LedgerCheck:
        return _checked(await call.exchange.read(lambda tx: ledger.check(tx, lambda step: tell(_progress(step)))))

    return Told(work) if accepts(call.scope, "application/x-ndjson") else await work(lambda _: None)


def _progress(step: ledger.Progress) -> wire.CheckProgress:
    return wire.CheckProgress(part=step.part, done=step.done, total=step.total)


def _checked(found: ledger.Checked) -> wire.LedgerCheck:
    return wire.LedgerCheck(
        sound=not found.faulty,
        accounts=found.accounts,
        jobs=found.jobs,
        payouts=found.payouts,
        transfers=found.transfers,
        faulty=found.faulty,
        faults=[wire.LedgerFault(kind=f.kind, subject=f.subject, message=f.message) for f in found.faults],
    )
