"""`python -m tests.crash`: kill parts of an exchange under load, over and over, and prove that nothing was lost or done twice."""

import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
import msgspec
from tests.crash.campaign import TARGETS, Plan, Report, run


@click.command()
@click.option(
    "--database", type=click.Choice(["sqlite", "postgres", "both"]), default="both", show_default=True,
    help="One coordinator with a database of its own, or three over one PostgreSQL server.",
)  # fmt: skip
@click.option("--kills", type=click.IntRange(4), default=200, show_default=True, help="Kills in all.")
@click.option("--seed", type=int, help="Choose what is killed, and when, as in an earlier run.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave histories, logs and databases in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
def main(database: str, kills: int, seed: int | None, keep: Path | None, as_json: bool) -> None:
    """Clients and miners work; coordinators, miners, PostgreSQL's processes and connections die at random moments.

    Each client and miner writes down what it asked and what it was told. In the end that is held against the database:
    ends with 1, and the history of it, if a promise was broken.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    chosen = [name for name in TARGETS if database in (name, "both")]
    folder = keep or Path(tempfile.mkdtemp(prefix="pithead-crash-"))
    reports = []
    for number, name in enumerate(chosen):
        # Of an odd number PostgreSQL has one more: there is more to kill.
        share = kills * (number + 1) // len(chosen) - kills * number // len(chosen)
        plan = Plan(name, share, seed, folder / name)
        reports.append(asyncio.run(run(plan, lambda line: click.echo(line, err=True))))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(reports)).decode())
    else:
        for report in reports:
            show(report)
    broken = [violation for report in reports for violation in report.violations]
    if broken:
        click.echo(f"{len(broken)} promises were broken; seed {seed}; all there is stays in {folder}", err=True)
        sys.exit(1)
    if keep is None:
        shutil.rmtree(folder)


def show(report: Report) -> None:
    """Print one report."""
    click.echo(f"{report.database}, seed {report.seed}: {report.seconds:.0f} s")
    click.echo(f"  kills: {sum(report.kills.values())} ({_listed(report.kills)})")
    click.echo(f"  connections: {sum(report.faults.values())} ({_listed(report.faults)})")
    for call, told in report.calls.items():
        click.echo(f"  {call}: {_listed(told)}")
    click.echo(f"  jobs: {sum(report.jobs.values())} ({_listed(report.jobs)}) in {report.attempts} attempts")
    click.echo(f"  processes that gave up by themselves and were started again: {report.gave_up}")
    click.echo(f"  results fetched and found whole: {report.results_fetched}")
    click.echo(f"  histories checked: {report.histories}; promises broken: {len(report.violations)}")
    for violation in report.violations[:20]:
        click.echo(f"  BROKEN: {violation.promise}: {violation.subject}")
        for line in violation.evidence:
            click.echo(f"    {line}")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(counts.items()))


if __name__ == "__main__":
    main()
