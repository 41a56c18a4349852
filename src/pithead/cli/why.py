"""Why a miner gets no job, and why a job waits, in words: for `why` of `pithead miner`, `job` and `admin`."""

from __future__ import annotations

import click

from pithead.cli.output import table, word
from pithead.wire.why import JobWhy, MinerWhy


def show_miner_why(found: MinerWhy) -> None:
    """Why a miner gets no job."""
    click.echo(f"{found.miner_id} is {found.status} and holds {_count(found.jobs_assigned, 'job')}.")
    for stop in found.stops:
        click.echo(f"It gets no job: {stop.reason}. What to do: {stop.remedy}.")
    fits = f"Of {_count(found.queued, 'queued job')}, {found.fits} fit"
    more = f", {found.avoided} of them not for now since it failed at them last" if found.avoided else ""
    click.echo(f"{fits}{more}." if found.queued else "There is no job in the queue that could be taken.")
    if found.resting:
        click.echo(f"{_count(found.resting, 'job')} more in back-off after a failed attempt.")
    if found.reasons:
        rows = [(one.jobs, one.reason, one.remedy) for one in found.reasons]
        table((">JOBS", "WHY NOT", "WHAT WOULD CHANGE IT"), rows)
    elif found.offered:
        click.echo("Nothing stops it: the next time it asks, it is offered a job.")


def show_job_why(found: JobWhy) -> None:
    """Why a job waits."""
    if found.status != "queued":
        click.echo(f"{found.job_id}: {found.reason}.")
        return
    if found.reason:
        click.echo(f"{found.job_id}: {found.reason}.")
    click.echo(
        f"Of {_count(found.registered, 'registered miner')}, {found.fits} fit and {found.ready} could take it now."
    )
    if found.excluded:
        table((">MINERS", "WHY NOT"), ((one.miners, one.reason) for one in found.excluded))
    if found.price_for_more is not None:
        click.echo(f"At a price of {word(found.price_for_more)}, {found.more_miners} more would fit.")
    if found.expected_start is None:
        click.echo("No active miner fits: it waits until one does, or until its time is up.")
    else:
        start = "at once" if found.expected_start < 1 else f"in about {found.expected_start:.0f} s"
        click.echo(f"{_count(found.ahead, 'job')} before it; it should begin {start}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
