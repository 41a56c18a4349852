"""`python -m bench`: measure the coordinator against the reference."""

import sys

import click
import msgspec
from rich.console import Console

from bench import report
from bench.load import LoadError
from bench.measures import MEASURES, chosen
from bench.run import RESULTS, Outcome, Plan, run
from bench.servers import ServerError


@click.command()
@click.option("--quick", is_flag=True, help="One short round, without the long queue.")
@click.option(
    "--only", multiple=True, type=click.Choice([m.name for m in MEASURES]), help="Only this measure; repeatable."
)
@click.option(
    "--connections", default=64, show_default=True, type=click.IntRange(1, 512), help="Connections at a time."
)
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.2, 60), help="Length of a window.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20), help="Windows of each measure.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(quick: bool, only: tuple[str, ...], connections: int, seconds: float, rounds: int, as_json: bool) -> None:
    """Requests/s and latency of a coordinator on one core, as ratios to a Starlette + msgspec endpoint without a database.

    Both are measured by turns in the same run, with 1 thousand and with 1 million queued jobs. A whole run is kept in bench/results/latest.json
    and latest.md. Afterwards the databases are checked: each completed job paid exactly once, all accounts together 0.
    """
    plan = Plan(
        measures=chosen(only),
        deep=not quick,
        rounds=1 if quick else rounds,
        seconds=seconds,
        warm_up=0.5,
        connections=connections,
    )
    progress = Console(stderr=True)
    try:
        with progress.status("preparing") as status:
            outcome = run(plan, status.update if progress.is_terminal else lambda line: print(line, file=sys.stderr))
    except (ServerError, LoadError) as error:
        raise click.UsageError(str(error)) from error
    if not quick and not only:
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
    (RESULTS / "latest.json").write_bytes(content + b"\n")
    (RESULTS / "latest.md").write_text(report.markdown(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
