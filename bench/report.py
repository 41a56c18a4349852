"""What a run found, as a table, as flat JSON and as Markdown."""

from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.run import DISTURBED, FEW, MANY, REFERENCE, Figures, Outcome

#: What is aimed at: the least ratio to the reference with the short queue.
GOALS: Final = {"heartbeat": 0.5, "cycle": 0.3}
#: The most that the short queue may be ahead of the long one.
DEPTH_GOAL: Final = 1.3

_COLUMNS: Final = (
    "measure", "queue", "requests/s", "ratio", "p50 ms", "p99 ms", "max ms", "server core", "load core", "1k : 1M"
)  # fmt: skip


def ratio(outcome: Outcome, measure: str, server: str) -> float:
    """Requests/s as a share of the reference's in the same run."""
    found = outcome.figures[measure]
    return found[server].rate / found[REFERENCE].rate


def depth(outcome: Outcome, measure: str) -> float | None:
    """How much faster it is with the short queue than with the long one."""
    found = outcome.figures[measure]
    return found[FEW].rate / found[MANY].rate if MANY in found else None


def verdicts(outcome: Outcome) -> list[tuple[str, float, float, bool]]:
    """Each goal that this run can judge: what, the figure, the goal, whether it is reached."""
    found = []
    for measure in outcome.plan.measures:
        if measure.name in GOALS:
            reached = ratio(outcome, measure.name, FEW)
            goal = GOALS[measure.name]
            found.append((f"{measure.title}, ratio to the reference, at least", reached, goal, reached >= goal))
    depths = [d for m in outcome.plan.measures if (d := depth(outcome, m.name)) is not None]
    if depths:
        found.append(
            ("1 k : 1 M queued jobs, the worst measure, below", max(depths), DEPTH_GOAL, max(depths) < DEPTH_GOAL)
        )
    return found


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """The table, a row for each measure on each server."""
    table: list[tuple[str, ...]] = []
    for measure in outcome.plan.measures:
        for server, figures in outcome.figures[measure.name].items():
            apart = depth(outcome, measure.name) if server == MANY else None
            table.append((
                measure.title if server == REFERENCE else "",
                server,
                f"{figures.rate:,.0f}",
                "1" if server == REFERENCE else f"{ratio(outcome, measure.name, server):.2f}",
                f"{figures.p50 * 1000:.1f}",
                f"{figures.p99 * 1000:.1f}",
                f"{figures.worst * 1000:,.0f}",
                f"{figures.server_cpu:.0%}",
                f"{figures.load_cpu:.0%}",
                "" if apart is None else f"{apart:.2f}",
            ))  # fmt: skip
    return table


def notes(outcome: Outcome) -> list[str]:
    """What a reader needs beside the table."""
    m, plan = outcome.machine, outcome.plan
    lines = [
        f"{m.cpu}, {m.cores} cores, {m.memory_gib} GiB; {m.kernel}; Python {m.python}, SQLite {m.sqlite}",
        f"disk: {m.filesystem}, a durable append of a page takes {m.sync_ms_p50} ms (p99 {m.sync_ms_p99} ms)",
        f"{plan.connections} connections in a closed loop; medians of {plan.rounds} windows of {plan.seconds:g} s;"
        " the servers on one core, the load on another",
    ]
    for name, started in outcome.started.items():
        if name != REFERENCE:
            lines.append(f"{name} jobs: listens after {started.seconds:.1f} s, {started.memory / 2**20:,.0f} MiB")
    for measure in plan.measures:
        if len(measure.steps) > 1:
            for server, figures in outcome.figures[measure.name].items():
                lines.append(f"{measure.title}, {server}: {_by_step(figures)}")
    if cycle := outcome.figures.get("cycle"):
        each = ", ".join(f"{server} {figures.rate / 4:,.0f}" for server, figures in cycle.items())
        lines.append(f"job cycles a second, whole: {each}")
    disturbed = [
        f"{measure}/{server} {figures.others_cpu:.0%}"
        for measure, by_server in outcome.figures.items()
        for server, figures in by_server.items()
        if figures.others_cpu > DISTURBED
    ]
    if disturbed:
        lines.append(f"other processes took part of a core, and these figures are too low: {', '.join(disturbed)}")
    starved = [
        f"{measure}/{server}"
        for measure, by_server in outcome.figures.items()
        for server, figures in by_server.items()
        if figures.load_cpu > 0.9
    ]
    if starved:
        lines.append(
            f"the load's core was full in {', '.join(starved)}: those figures are the generator's, not the server's"
        )
    if m.filesystem in ("tmpfs", "ramfs"):
        lines.append(f"the databases are on {m.filesystem}: no commit was durable; choose a real disk")
    return lines


def _by_step(figures: Figures) -> str:
    return ", ".join(
        f"{step} p50 {p50 * 1000:.1f} p99 {p99 * 1000:.1f} ms" for step, (p50, p99) in figures.steps.items()
    )


def show(outcome: Outcome, console: Console) -> None:
    """The table and the notes, for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows(outcome):
        table.add_row(*row)
    console.print(table)
    console.print()
    for line in notes(outcome):
        console.print(line, highlight=False)
    console.print()
    for what, figure, goal, reached in verdicts(outcome):
        verdict = "[green]reached[/]" if reached else "[red]missed[/]"
        console.print(f"{what} {goal}: {figure:.2f}, {verdict}", highlight=False)
    console.print(_checked(outcome), style="red" if outcome.faults else "green", highlight=False)


def _checked(outcome: Outcome) -> str:
    if outcome.faults:
        return "WRONG RESULTS: " + "; ".join(outcome.faults)
    return f"{outcome.completed:,} jobs completed, each paid exactly once; all accounts together are 0"


def flat(outcome: Outcome) -> dict[str, object]:
    """One level of names and figures: what scripts read."""
    result: dict[str, object] = {}
    for measure, by_server in outcome.figures.items():
        for server, figures in by_server.items():
            at = f"{measure}.{server}"
            if server != REFERENCE:
                result[f"{at}.ratio"] = round(ratio(outcome, measure, server), 4)
            result[f"{at}.requests_per_second"] = round(figures.rate, 1)
            result[f"{at}.p50_ms"] = round(figures.p50 * 1000, 3)
            result[f"{at}.p99_ms"] = round(figures.p99 * 1000, 3)
            result[f"{at}.max_ms"] = round(figures.worst * 1000, 3)
            if len(figures.steps) > 1:
                for step, (p50, p99) in figures.steps.items():
                    result[f"{at}.{step}.p50_ms"] = round(p50 * 1000, 3)
                    result[f"{at}.{step}.p99_ms"] = round(p99 * 1000, 3)
            result[f"{at}.server_core"] = round(figures.server_cpu, 3)
            result[f"{at}.load_core"] = round(figures.load_cpu, 3)
            result[f"{at}.others_core"] = round(figures.others_cpu, 3)
        apart = depth(outcome, measure)
        if apart is not None:
            result[f"{measure}.1k_to_1M"] = round(apart, 4)
    for name, started in outcome.started.items():
        result[f"start.{name}.seconds"] = round(started.seconds, 2)
        result[f"start.{name}.memory_mib"] = round(started.memory / 2**20, 1)
    result["jobs_completed"] = outcome.completed
    result["correct"] = not outcome.faults
    result["connections"] = outcome.plan.connections
    result["took_seconds"] = round(outcome.took, 1)
    result |= {f"machine.{name}": value for name, value in msgspec.structs.asdict(outcome.machine).items()}
    return result


def markdown(outcome: Outcome) -> str:
    """The same as `show`, for the repository."""
    lines = [
        "# The latest run of `make bench`",
        "",
        "What is measured, and how, is in [docs/benchmark.md](../../docs/benchmark.md).",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2),
        *("| " + " | ".join(row) + " |" for row in rows(outcome)),
        "",
        *(f"- {line}" for line in notes(outcome)),
        "",
        *(
            f"- {what} {goal}: **{figure:.2f}**, {'reached' if reached else 'missed'}"
            for what, figure, goal, reached in verdicts(outcome)
        ),
        f"- {_checked(outcome)}",
    ]
    return "\n".join(lines) + "\n"
