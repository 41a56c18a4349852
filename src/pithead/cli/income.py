"""`pithead miner earnings` and `pithead miner payout`: what a miner is owed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import click
import msgspec

from pithead.cli.identity import for_miner
from pithead.cli.output import csv_option, emit, facts, fail, moment, print_csv, table, wants_csv
from pithead.client import MinerClient
from pithead.wire.ledger import EarningsBy, EarningsRow
from pithead.wire.payouts import PayoutView

_DAY: Final = click.DateTime(["%Y-%m-%d"])
#: How many characters of a day's date are the month, and the year.
_LENGTHS: Final = {"month": 7, "year": 4}


@click.command()
@click.option(
    "--by",
    type=click.Choice(["day", "month", "year", "model", "client"]),
    default="day",
    show_default=True,
    help="What to add up by.",
)
@click.option("--year", type=click.IntRange(2000, 9998), metavar="YEAR", help="All of one year (of UTC).")
@click.option("--from", "since", type=_DAY, metavar="DAY", help="The first day (of UTC), as 2026-01-31.")
@click.option("--to", "until", type=_DAY, metavar="DAY", help="The last day.")
@csv_option
@for_miner
def earnings(client: MinerClient, by: str, year: int | None, since: datetime | None, until: datetime | None) -> None:
    """What this miner was paid, by day, month, year, model or client.

    For the tax of a year: pithead miner earnings --year 2026 --csv > 2026.csv
    """
    if year is not None:
        if since is not None or until is not None:
            fail("a year has a first and a last day of its own; give --year, or --from and --to")
        since, until = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, tzinfo=UTC)
    first = None if since is None else since.replace(tzinfo=UTC).timestamp()
    beyond = None if until is None else (until.replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    asked: EarningsBy = "day" if by in _LENGTHS else by  # type: ignore[assignment]
    found = client.earnings(asked, since=first, until=beyond)
    if by in _LENGTHS:
        found = msgspec.structs.replace(found, rows=_together(found.rows, _LENGTHS[by]))
    if wants_csv():
        print_csv(found.rows, (by, "jobs", "earned"))
        return

    def show() -> None:
        rows = [(row.key, row.jobs, row.earned) for row in found.rows]
        table((by.upper(), ">JOBS", ">EARNED"), [*rows, ("together", found.jobs, found.earned)])

    emit(found, show)


def _together(rows: list[EarningsRow], length: int) -> list[EarningsRow]:
    """The rows of days, those together whose dates begin with the same so many characters."""
    found: list[EarningsRow] = []
    for row in rows:
        key = row.key[:length]
        if found and found[-1].key == key:
            jobs, earned = found[-1].jobs + row.jobs, found[-1].earned + row.earned
            found[-1] = EarningsRow(key=key, jobs=jobs, earned=earned)
        else:
            found.append(EarningsRow(key=key, jobs=row.jobs, earned=row.earned))
    return found


# ---- payouts


@click.group()
def payout() -> None:
    """Have what was earned paid out."""


@payout.command()
@click.argument("text")
@for_miner
def destination(client: MinerClient, text: str) -> None:
    """Say where payouts are to be sent: an account, an address, a name. Those asked for before keep theirs."""
    view = client.update(payout_destination=text)
    emit(view, lambda: facts(miner=view.miner_id, payout_destination=view.payout_destination or "none"))


@payout.command()
@click.argument("amount", required=False)
@click.option("--idempotency-key", metavar="TEXT", help="Asking again with the same key asks for nothing more.")
@for_miner
def request(client: MinerClient, amount: str | None, idempotency_key: str | None) -> None:
    """Ask for a payout: of an amount, or of all that is there."""
    view = client.request_payout(amount, idempotency_key=idempotency_key)
    emit(view, lambda: show_payout(view))


@payout.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at the most.")
@csv_option
@for_miner
def list_(client: MinerClient, limit: int) -> None:
    """Show what can be asked for, and the payouts, the newest first."""
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
