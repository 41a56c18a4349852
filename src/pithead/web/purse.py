"""Money: what lies where, what moved, what is to be paid; and statements of accounts."""

from typing import Any, Final

from starlette.responses import Response

from pithead.core.money import units
from pithead.exchange import ledger, pages
from pithead.exchange.ledger import Place
from pithead.exchange.ports import PayoutFilter, Tx
from pithead.http.api import perform
from pithead.http.problems import HttpProblem
from pithead.web.operator import ROWS
from pithead.web.passing import Passed
from pithead.web.visits import Visit

#: Payouts of each state that the page on money lists.
_PAYOUTS: Final = 20
#: What is in the accounts of each class.
CLASSES: Final = {
    "issued": "Credited, and not paid out again",
    "client": "What clients can spend",
    "escrow": "Set aside for unfinished jobs",
    "miner": "What miners earned and have not asked for",
    "payouts": "Asked for, and not paid yet",
    "fees": "What you earned",
}
#: The tables that can be had as a file: the API's call.
_EXPORTS: Final = {
    "ledger": ("operator", "list_ledger"),
    "payouts": ("operator", "list_payouts"),
    "earnings": ("miner", "earnings"),
    "spending": ("client", "my_ledger"),
}


async def money(visit: Visit) -> Response:
    """The ledger by class, what moved in the last day, payouts, and the newest postings."""
    now, before = visit.exchange.now(), visit.cursor

    def read(tx: Tx) -> dict[str, Any]:
        some = tx.transfers_page(before, ROWS + 1)
        return {
            "balances": {kind: units(amount) for kind, amount in tx.balances_by_kind().items()},
            "flows": [(flow, units(flow.amount)) for flow in pages.flows(tx, now)],
            "requested": _payouts(tx, "requested"),
            "approved": _payouts(tx, "approved"),
            "postings": [(moved, units(moved.amount)) for moved in some[:ROWS]],
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
        }

    return visit.page("money.html", await visit.exchange.read(read) | {"classes": CLASSES, "live": "all"})


def _payouts(tx: Tx, state: str) -> list[tuple[Any, Any, Any]]:
    found = tx.payouts_page(PayoutFilter(state=state), None, _PAYOUTS)
    return [(payout, units(payout.amount), tx.miner_by_seq(payout.miner)) for payout in found]


async def payouts(visit: Visit) -> Response:
    """All payouts, the newest first."""
    state, before = visit.query("status"), visit.cursor
    state = state if state in ("requested", "approved", "paid", "rejected") else None

    def read(tx: Tx) -> dict[str, Any]:
        some = tx.payouts_page(PayoutFilter(state=state), before, ROWS + 1)
        return {
            "payouts": [(payout, units(payout.amount), tx.miner_by_seq(payout.miner)) for payout in some[:ROWS]],
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
        }

    return visit.page("payouts.html", await visit.exchange.read(read) | {"status": state})


async def account(visit: Visit) -> Response:
    """Every posting of one account, the newest first, with what it held after each."""
    account_id, held = visit.path["account_id"], visit.query("account") == "held"
    before, _, balance = (visit.query("cursor") or "").partition("_")
    place = Place(int(before), int(balance)) if _is_place(before, balance) else None

    def read(tx: Tx) -> ledger.Statement:
        return ledger.statement(tx, ledger.account(tx, account_id, held=held), place, ROWS)

    found = await visit.exchange.read(read)
    values = {
        "account_id": account_id,
        "held": held,
        "balance": units(found.balance),
        "entries": found.lines,
        "following": f"{found.following.before}_{found.following.balance}" if found.following else None,
        "first": place is None,
    }
    return visit.page("account.html", values)


def _is_place(before: str, balance: str) -> bool:
    parts = (before, balance.removeprefix("-"))
    return all(part.isascii() and part.isdigit() and len(part) <= 18 for part in parts)


async def export(visit: Visit) -> Response:
    """A table as a file."""
    audience, call = _EXPORTS.get(visit.path["table"], ("", ""))
    if visit.caller.kind != audience:
        raise HttpProblem(404, "not-found", "Not Found", "There is no such table.")
    path = {"miner_id": visit.caller.id} if audience == "miner" else {}
    return Passed(await perform(visit.web.services, call, visit.caller, path=path, query={"format": "csv"}))
