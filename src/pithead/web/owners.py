"""The pages of a miner's owner: the machine, what it earned, and what was paid out."""

from typing import Any, Final

import msgspec
from starlette.responses import Response

from pithead.core.money import units
from pithead.exchange import miners, pages
from pithead.exchange.ports import PayoutFilter, Tx
from pithead.http import shapes
from pithead.http.api import perform
from pithead.web.operator import ROWS
from pithead.web.pictures import columns
from pithead.web.plots import plots
from pithead.web.visits import Visit

DAYS: Final = 30
_SPAN, _SAMPLES, _HELD = 6 * 3600.0, 360, 20


async def machine(visit: Visit) -> Response:
    """The machine: how it stands, what it works on, how its GPUs do."""
    presence, miner_id, now = visit.exchange.presence, visit.caller.id, visit.exchange.now()

    def read(tx: Tx) -> dict[str, Any]:
        found = presence.seen(miners.find(tx, miner_id))
        samples = tx.telemetry_since(found.seq, now - _SPAN, _SAMPLES)
        by_day, _ = pages.sums(tx, found.seq, "taken", now, 1)
        return {
            "miner": shapes.miner_detail(tx, found, presence.telemetry(found) or tx.telemetry(found.seq)),
            "record": found,
            "balance": units(tx.balance(found.seq)),
            "today": by_day[-1],
            "held": [shapes.job_view(tx, job) for job in tx.held_jobs(found.seq)[:_HELD]],
            "plots": plots([(at, msgspec.json.decode(body)) for at, body in samples]),
            "telemetry": msgspec.json.decode(body)
            if (body := presence.telemetry(found) or tx.telemetry(found.seq))
            else None,
        }

    values = await visit.exchange.read(read)
    values["why"] = await perform(visit.web.services, "why_miner", visit.caller, path={"miner_id": miner_id})
    values["today"] = (values["today"].jobs, units(values["today"].amount))
    return visit.page("machine.html", values | {"live": "mine"})


async def earnings(visit: Visit) -> Response:
    """What the machine earned, by day and by model."""
    miner_id, now = visit.caller.id, visit.exchange.now()

    def read(tx: Tx) -> dict[str, Any]:
        found = miners.find(tx, miner_id)
        by_day, by_model = pages.sums(tx, found.seq, "taken", now, DAYS)
        return {
            "by_day": by_day,
            "by_model": by_model,
            "stats": shapes.stats(found),
            "balance": units(tx.balance(found.seq)),
        }

    values = await visit.exchange.read(read)
    return visit.page("earnings.html", values | {"chart": columns(values["by_day"]), "days": DAYS, "units": units})


async def payouts(visit: Visit) -> Response:
    """The miner's balance, and its payouts, the newest first."""
    miner_id, before = visit.caller.id, visit.cursor

    def read(tx: Tx) -> dict[str, Any]:
        found = miners.find(tx, miner_id)
        some = tx.payouts_page(PayoutFilter(miner=found.seq), before, ROWS + 1)
        return {
            "destination": found.payout_destination,
            "balance": units(tx.balance(found.seq)),
            "payouts": [(payout, units(payout.amount)) for payout in some[:ROWS]],
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
        }

    return visit.page("my-payouts.html", await visit.exchange.read(read))
