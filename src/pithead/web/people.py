"""The operator's pages about one miner, about clients, and about what operators did."""

from typing import Any, Final

import msgspec
from starlette.responses import Response

from pithead.exchange import jobs, ledger, miners, pages
from pithead.exchange.ports import JobFilter, Tx
from pithead.http import shapes
from pithead.http.api import perform
from pithead.settings import SECRETS, URLS, Settings, options, value_of, without_password
from pithead.web.operator import ROWS
from pithead.web.pictures import columns
from pithead.web.plots import plots
from pithead.web.visits import Visit

#: Entries of a list within a page about something else.
SHORT: Final = 12
#: Days of earnings that are drawn.
DAYS: Final = 30
#: Seconds of telemetry that are plotted, and samples at the most.
_SPAN, _SAMPLES = 6 * 3600.0, 360


async def miner(visit: Visit) -> Response:
    """A miner: how it does, what it holds, what it was paid."""
    presence, miner_id, now = visit.exchange.presence, visit.path["miner_id"], visit.exchange.now()

    def read(tx: Tx) -> dict[str, Any]:
        found = presence.seen(miners.find(tx, miner_id))
        samples = tx.telemetry_since(found.seq, now - _SPAN, _SAMPLES)
        return {
            "miner": shapes.miner_detail(tx, found, presence.telemetry(found) or tx.telemetry(found.seq)),
            "record": found,
            "balance": tx.balance(found.seq),
            "held": [shapes.job_view(tx, job) for job in tx.held_jobs(found.seq)[:SHORT]],
            "by_day": pages.sums(tx, found.seq, "taken", now, DAYS)[0],
            "paid": ledger.statement(tx, found.seq, None, SHORT).lines,
            "plots": plots([(at, msgspec.json.decode(body)) for at, body in samples]),
        }

    values = await visit.exchange.read(read)
    values["why"] = await perform(visit.web.services, "why_miner", visit.caller, path={"miner_id": miner_id})
    values["chart"] = columns(values["by_day"])
    return visit.page("miner.html", values | {"live": f"miner:{miner_id}"})


async def clients(visit: Visit) -> Response:
    """All clients, the newest first."""
    before = visit.cursor

    def read(tx: Tx) -> dict[str, Any]:
        some = tx.clients_page(before, ROWS + 1)
        return {
            "clients": [shapes.client_view(tx, client) for client in some[:ROWS]],
            "following": some[ROWS - 1].seq if len(some) > ROWS else None,
            "first": before is None,
        }

    return visit.page("clients.html", await visit.exchange.read(read))


async def client(visit: Visit) -> Response:
    """A client: its account, its jobs, its postings."""
    client_id = visit.path["client_id"]

    def read(tx: Tx) -> dict[str, Any]:
        found = jobs.client(tx, client_id)
        return {
            "client": shapes.client_view(tx, found),
            "jobs": [shapes.job_view(tx, job) for job in tx.jobs_page(JobFilter(client=found.seq), None, SHORT)],
            "entries": ledger.statement(tx, found.seq, None, SHORT).lines,
        }

    return visit.page("client.html", await visit.exchange.read(read))


async def audit(visit: Visit) -> Response:
    """What operators did, the newest first."""
    before = visit.cursor
    some = await visit.exchange.read(lambda tx: tx.audit_page(before, ROWS + 1))
    values = {
        "entries": some[:ROWS],
        "following": some[ROWS - 1].seq if len(some) > ROWS else None,
        "first": before is None,
    }
    return visit.page("audit.html", values)


async def settings(visit: Visit) -> Response:
    """The settings in force; secrets are not shown."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for option in options():
        group, _, _ = option.name.rpartition(".")
        value = value_of(visit.web.settings, option.name)
        groups.setdefault(group, []).append(
            {
                "name": option.name,
                "meaning": option.meaning,
                "value": _shown(visit.web.settings, option.name),
                "default": value == option.default,
                "variable": option.variable,
            }
        )
    return visit.page("settings.html", {"groups": groups})


def _shown(settings: Settings, name: str) -> str:
    value = value_of(settings, name)
    if name in SECRETS:
        return "set, and not shown" if value else ""
    if name in URLS:
        return without_password(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
