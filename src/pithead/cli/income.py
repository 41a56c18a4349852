"""`pithead miner earnings` and `pithead miner payout`: what a miner is owed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from pithead.cli.identity import client_of, identity, identity_options
from pithead.cli.output import csv_option, emit, facts, json_option, moment, print_csv, table, wants_csv
from pithead.wire.ledger import EarningsBy
from pithead.wire.payouts import PayoutView

_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option(
    "--by", type=click.Choice(["day", "model", "client"]), default="day", show_default=True, help="What to add up by."
)
@click.option("--from", "since", type=_DAY, metavar="DAY", help="The first day (of UTC), as 2026-01-31.")
@click.option("--to", "until", type=_DAY, metavar="DAY", help="The last day.")
@csv_option
@identity_options
@json_option
def earnings(
    by: EarningsBy,
    since: datetime | None,
    until: datetime | None,
    profile: str,
    url: str | None,
    key: str | None,
    miner_id: str | None,
) -> None:
    """What this miner was paid, by day, model or client."""
    first = None if since is None else since.replace(tzinfo=UTC).timestamp()
    beyond = None if until is None else (until.replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    with client_of(identity(profile, url, key, miner_id)) as client:
        found = client.earnings(by, since=first, until=beyond)
    if wants_csv():
        print_csv(found.rows, (by, "jobs", "earned"))
        return

    def show() -> None:
        rows = [(row.key, row.jobs, row.earned) for row in found.rows]
        table((by.upper(), ">JOBS", ">EARNED"), [*rows, ("together", found.jobs, found.earned)])

    emit(found, show)


# ---- payouts


@click.group()
def payout() -> None:
    """Have what was earned paid out."""


@payout.command()
@click.argument("text")
@identity_options
@json_option
def destination(text: str, profile: str, url: str | None, key: str | None, miner_id: str | None) -> None:
    """Say where payouts are to be sent: an account, an address, a name. Those asked for before keep theirs."""
    with client_of(identity(profile, url, key, miner_id)) as client:
        view = client.update(payout_destination=text)
    emit(view, lambda: facts(miner=view.miner_id, payout_destination=view.payout_destination or "none"))


@payout.command()
@click.argument("amount", required=False)
@click.option("--idempotency-key", metavar="TEXT", help="Asking again with the same key asks for nothing more.")
@identity_options
@json_option
def request(
    amount: str | None,
    idempotency_key: str | None,
    profile: str,
    url: str | None,
    key: str | None,
    miner_id: str | None,
) -> None:
    """Ask for a payout: of an amount, or of all that is there."""
    with client_of(identity(profile, url, key, miner_id)) as client:
        view = client.request_payout(amount, idempotency_key=idempotency_key)
    emit(view, lambda: show_payout(view))


@payout.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at the most.")
@identity_options
@json_option
@csv_option
def list_(limit: int, profile: str, url: str | None, key: str | None, miner_id: str | None) -> None:
    """Show what can be asked for, and the payouts, the newest first."""
    with client_of(identity(profile, url, key, miner_id)) as client:
        page = client.payouts(limit=limit)

    def show() -> None:
        columns = ("PAYOUT ID", ">AMOUNT", "STATUS", "REQUESTED", "TO", "REFERENCE", "NOTE")
        rows = (
            (p.payout_id, p.amount, p.status, moment(p.requested_at), p.destination, p.reference, p.note)
            for p in page.payouts
        )
        table(columns, rows)
        click.echo(f"To be asked for: {page.balance:f}")

    if wants_csv():
        print_csv(page.payouts, PayoutView.__struct_fields__)
    else:
        emit(page, show)


def show_payout(view: PayoutView) -> None:
    """A payout, in full."""
    facts(
        payout=view.payout_id,
        miner=f"{view.miner_name} ({view.miner_id})",
        amount=view.amount,
        destination=view.destination,
        status=view.status,
        made_by="the schedule" if view.scheduled else None,
        requested=moment(view.requested_at),
        decided=moment(view.decided_at),
        paid=moment(view.paid_at),
        reference=view.reference or None,
        note=view.note or None,
    )
