"""`python -m bench`: measure the coordinator against the reference."""

import sys

import click
import msgspec
from rich.console import Console

from bench import report
from bench.bulk import NoRoomError
from bench.contenders import FEW, PLAIN, REFERENCE
from bench.load import LoadError
from bench.measures import MEASURES, chosen
from bench.progress import Progress
from bench.run import ALL, RESULTS, Outcome, Plan, run
from bench.servers import ServerError

#: Miners of the mixed load.
FLEETS = (50_000, 100_000)
#: … and of a long run.
MORE_FLEETS = (50_000, 75_000, 100_000, 125_000, 150_000)


@click.command()
@click.option("--quick", is_flag=True, help="Half a minute: references A and C, and SQLite with the short queue.")
@click.option("--full", is_flag=True, help="Half an hour: more rounds, 10 million queued jobs, and growth.")
@click.option(
    "--only", multiple=True, type=click.Choice([m.name for m in MEASURES]), help="Only this measure; repeatable."
)
@click.option(
    "--against", multiple=True, type=click.Choice(ALL), help="Only this contender beside reference A; repeatable."
)
@click.option(
    "--connections", default=256, show_default=True, type=click.IntRange(1, 512), help="Connections at a time."
)
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.2, 60), help="Length of a window.")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 20), help="Windows of each measure.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(
    quick: bool,
    full: bool,
    only: tuple[str, ...],
    against: tuple[str, ...],
    connections: int,
    seconds: float,
    rounds: int,
    as_json: bool,
) -> None:
    """What a coordinator carries on one core, beside references measured in the same run.

    A whole run is kept in bench/results (latest.json, latest.md, latest.svg; with --full full.json and so on). Afterwards the
    databases are checked: each completed job paid exactly once, all accounts together 0.
    """
    whole = not (quick or only or against)
    contenders = ALL if not against else tuple(one for one in ALL if one == REFERENCE or one in against)
    plan = Plan(
        measures=chosen(only, full=full),
        contenders=(REFERENCE, PLAIN, FEW) if quick else contenders,
        rounds=1 if quick else max(rounds, 3) if full else rounds,
        seconds=seconds,
        warm_up=0.3,
        connections=connections,
        long_queue=10_000_000 if full else 1_000_000,
        fleets=() if not whole else MORE_FLEETS if full else FLEETS,
        moments=whole,
        growth=full and whole,
    )
    try:
        with Progress() as say:
            outcome = run(plan, say)
    except NoRoomError as error:
        raise click.UsageError(f"the long queue {error}: make room, or go without --full") from error
    except (ServerError, LoadError) as error:
        raise click.UsageError(str(error)) from error
    if whole:
        _keep(outcome)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report.flat(outcome))).decode())
    else:
        console = Console()
        # A pipe or a file has no width; the table's is known.
        report.show(outcome, console if console.is_terminal else Console(width=120))
    if outcome.faults:
        sys.exit(1)


def _keep(outcome: Outcome) -> None:
    content = msgspec.json.format(msgspec.json.encode(report.flat(outcome)))
    name = report.name_of(outcome)
    (RESULTS / f"{name}.json").write_bytes(content + b"\n")
    (RESULTS / f"{name}.md").write_text(report.markdown(outcome), encoding="utf-8")
    (RESULTS / f"{name}.svg").write_text(report.picture(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
