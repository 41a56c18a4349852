"""`pithead admin payout`: what miners are to be paid, decided and exported."""

from __future__ import annotations

import click

from pithead.cli.income import show_payout
from pithead.cli.lists import listed, listing, page_size, some
from pithead.cli.output import emit, moment, print_csv
from pithead.cli.profiles import command, connection, connection_options
from pithead.wire.payouts import PayoutView

_STATES = click.Choice(["requested", "approved", "paid", "rejected"])


@click.group()
@connection_options
def payout() -> None:
    """What miners are to be paid: decide, export, say that it was paid."""


@command(payout, "list")
@click.option("--status", type=_STATES, help="Only payouts in this state.")
@listing
def list_payouts(status: str | None, limit: int | None) -> None:
    """List payouts, the newest first."""
    columns = ("PAYOUT ID", "MINER", ">AMOUNT", "STATUS", "REQUESTED", "TO", "REFERENCE")
    with connection().admin() as operator:
        found = some(operator.iter_payouts(status=status, page_size=page_size(limit)), limit)
        listed("payouts", found, PayoutView, columns, _row)


def _row(one: PayoutView) -> tuple[object, ...]:
    return (
        one.payout_id,
        one.miner_name,
        one.amount,
        one.status,
        moment(one.requested_at),
        one.destination,
        one.reference,
    )


@command(payout)
@click.argument("payout_id")
def show(payout_id: str) -> None:
    """Show a payout."""
    with connection().admin() as operator:
        view = operator.payout(payout_id)
    emit(view, lambda: show_payout(view))


@command(payout)
@click.argument("miner_id")
@click.argument("amount", required=False)
@click.option("--destination", metavar="TEXT", help="Where to, if not where the miner says.")
@click.option("--idempotency-key", metavar="TEXT", help="Repeating it with the same key makes no second one.")
def create(miner_id: str, amount: str | None, destination: str | None, idempotency_key: str | None) -> None:
    """Make a payout on behalf of a miner, as of one that is retired: of an amount, or of all that is there."""
    with connection().admin() as operator:
        view = operator.create_payout(miner_id, amount, destination=destination, idempotency_key=idempotency_key)
    emit(view, lambda: show_payout(view))


@command(payout)
@click.argument("payout_ids", metavar="PAYOUT_ID...", nargs=-1, required=True)
def approve(payout_ids: tuple[str, ...]) -> None:
    """Let payouts be paid."""
    with connection().admin() as operator:
        views = [operator.approve_payout(payout_id) for payout_id in payout_ids]
    emit({"payouts": views}, lambda: _show_each(views))


@command(payout)
@click.argument("payout_id")
@click.option("--note", default="", help="Why; the miner reads it.")
def reject(payout_id: str, note: str) -> None:
    """Do not pay it; its amount goes back to the miner."""
    with connection().admin() as operator:
        view = operator.reject_payout(payout_id, note)
    emit(view, lambda: show_payout(view))


@command(payout)
@click.argument("payout_id")
@click.option("--reference", required=True, metavar="TEXT", help="The bank's or the chain's name for the payment.")
@click.option("--note", default="", help="The miner reads it.")
def paid(payout_id: str, reference: str, note: str) -> None:
    """Say that it was paid, and under which reference."""
    with connection().admin() as operator:
        view = operator.mark_payout_paid(payout_id, reference, note)
    emit(view, lambda: show_payout(view))


@command(payout)
@click.option("--status", type=_STATES, default="approved", show_default=True, help="Which payouts.")
def export(status: str) -> None:
    """Print payouts as CSV for a bank or a wallet, the oldest first.

    The columns: payout_id, miner_id, miner_name, amount, destination, status, scheduled, requested_at, decided_at, paid_at
    (seconds since the epoch), reference, note. A text that a spreadsheet would run as a formula has an apostrophe before
    it; a destination never needs one.
    """
    with connection().admin() as operator:
        found = list(operator.iter_payouts(status=status))
    emit({"payouts": found[::-1]}, lambda: print_csv(found[::-1], PayoutView.__struct_fields__))


def _show_each(views: list[PayoutView]) -> None:
    for view in views:
        click.echo(f"{view.payout_id}  {view.status}")
