"""The operator's pages about the exchange as a whole, and about miners."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from pithead.core.board import Kind
from pithead.core.miners import status
from pithead.core.money import units
from pithead.exchange import pages
from pithead.exchange.pages import Minute
from pithead.http import shapes
from pithead.web.visits import Visit

#: Kinds of the queue that are listed: those of which most jobs wait.
_KINDS: Final = 20
#: Rows of a page.
ROWS: Final = 50
MINER_STATES: Final = ("active", "draining", "pending", "offline", "suspended", "retired")


async def overview(visit: Visit) -> Response:
    """The exchange at a glance."""
    exchange, now = visit.exchange, visit.exchange.now()

    def read(tx: Any) -> dict[str, Any]:
        found = pages.overview(tx, now)
        return {
            "found": found,
            "newest": [shapes.job_view(tx, job) for job in found.newest],
            "payouts": [(payout, miner) for payout in found.payouts if (miner := tx.miner_by_seq(payout.miner))],
        }

    values = await exchange.read(read)
    found: pages.Overview = values["found"]
    lengths = sorted(exchange.board.lengths(), key=lambda one: -one[1])
    completed = sum(minute.completed for minute in found.minutes)
    return visit.page(
        "overview.html",
        values
        | {
            "queued": len(exchange.board),
            "kinds": [_kind(*one) for one in lengths[:_KINDS]],
            "more_kinds": len(lengths) - _KINDS,
            "oldest": min((since for _, _, since in lengths if since), default=None),
            "completed": completed,
            "bars": bars(found.minutes),
            "map": [(exchange.presence.seen(miner), str(status(exchange.presence.seen(miner)))) for miner in found.map],
            "miner_states": MINER_STATES,
            "miners": sum(found.miners.values()),
            "fees": units(found.ledger.get("fees", 0)),
            "reserved": units(found.ledger.get("payouts", 0)),
            "escrow": units(found.ledger.get("escrow", 0)),
            "live": "all",
        },
    )


def _kind(kind: Kind, jobs: int, since: float) -> dict[str, Any]:
    return {
        "model": kind.model,
        "gpu_type": kind.gpu_type,
        "gpu_count": kind.gpu_count,
        "rate": units(kind.rate),
        "jobs": jobs,
        "since": since or None,
    }


def bars(minutes: Sequence[Minute]) -> dict[str, Any]:
    """The picture of the throughput: for each minute its bars' heights, in hundredths of the highest."""
    top = max((minute.completed + minute.other for minute in minutes), default=0)
    scale = 100 / top if top else 0
    return {
        "top": top,
        "minutes": [
            (
                minute.at,
                minute.completed,
                minute.other,
                round(minute.completed * scale, 1),
                round(minute.other * scale, 1),
            )
            for minute in minutes
        ],
    }


async def miners(visit: Visit) -> Response:
    """All miners, the newest first."""
    state, before, seen = visit.query("status"), visit.cursor, visit.exchange.presence.seen
    state = state if state in MINER_STATES else None

    def read(tx: Any) -> dict[str, Any]:
        some = tx.miners_page(before, ROWS + 1, state)
        return {
            "miners": [(shapes.miner_view(seen(m)), shapes.stats(m)) for m in some[:ROWS]],
            "counts": tx.miners_by_status(),
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
        }

    values = await visit.exchange.read(read)
    return visit.page("miners.html", values | {"status": state, "states": MINER_STATES, "live": "all"})
