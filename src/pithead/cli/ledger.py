"""`pithead admin ledger`, and what the other commands that print postings share with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pithead.cli.lists import listed, listing, page_size, some
from pithead.cli.output import emit, fail, moment, table, wants_json
from pithead.cli.profiles import command, connection, connection_options
from pithead.cli.progress import Steps
from pithead.wire.ledger import LedgerCheck, LedgerEntry, TransferView


def print_entries(entries: Iterable[LedgerEntry]) -> None:
    """Print the postings of one account."""
    columns = (">ENTRY", "AT", "CAUSE", ">AMOUNT", ">BALANCE", "FOR ID", "NOTE")
    listed(
        "entries",
        entries,
        LedgerEntry,
        columns,
        lambda e: (e.entry, moment(e.at), e.cause, e.amount, e.balance, e.job_id or e.payout_id, e.note),
    )


@click.group()
@connection_options
def ledger() -> None:
    """Every posting there is, and the proof that they add up."""


@command(ledger, "list")
@click.option("--account", metavar="ID", help="Only the postings of this client or miner, or of issued or fees.")
@click.option("--held", is_flag=True, help="With a client's --account: what is set aside for its jobs.")
@listing
def list_ledger(account: str | None, held: bool, limit: int | None) -> None:
    """List postings, the newest first."""
    if held and account is None:
        fail("--held is about one client; name it with --account")
    size = page_size(limit)
    with connection().admin() as operator:
        if account is not None:
            which: Any = "held" if held else "balance"
            entries = operator.iter_account_ledger(account, account=which, page_size=size)
            print_entries(some(entries, limit))
            return
        every = some(operator.iter_ledger(page_size=size), limit)
        columns = (">ENTRY", "AT", "CAUSE", ">AMOUNT", "FROM", "TO", "FOR ID", "NOTE")
        listed("entries", every, TransferView, columns, _transfer)


def _transfer(one: TransferView) -> tuple[object, ...]:
    return (
        one.entry,
        moment(one.at),
        one.cause,
        one.amount,
        f"{one.from_account} ({one.from_class})",
        f"{one.to_account} ({one.to_class})",
        one.job_id or one.payout_id,
        one.note,
    )


@command(ledger)
def check() -> None:
    """Prove the whole history: every balance, every job's price, every miner's earnings. Ends with 1 if something is wrong."""
    with connection().admin() as operator, Steps() as told:
        found = operator.check_ledger(None if wants_json() else lambda step: told(step.part, step.done, step.total))
    emit(found, lambda: _show_check(found))
    if not found.sound:
        fail(f"the ledger has {found.faulty} faults; the first is of {_where(found)}", 1)


def _where(found: LedgerCheck) -> str:
    first = found.faults[0]
    return f"{first.kind} {first.subject}".strip()


def _show_check(found: LedgerCheck) -> None:
    looked = f"{found.accounts} accounts, {found.jobs} jobs, {found.payouts} payouts and {found.transfers} transfers"
    if found.sound:
        click.echo(f"The ledger is sound: {looked}, and every one agrees with the others.")
        return
    table(("WHAT", "WHICH", "FAULT"), ((one.kind, one.subject, one.message) for one in found.faults))
    click.echo(f"Looked at {looked}.")
