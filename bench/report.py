"""What a run found, as tables, as flat JSON, as Markdown and as a picture."""

from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.contenders import BARE, CIPHER, FEW, MANY, PAIR, PLAIN, POSTGRES, REFERENCE
from bench.growth import SMALLEST
from bench.run import DISTURBED, Figures, Outcome

#: In names of figures that scripts read.
_SHORT: Final = {
    REFERENCE: "reference", BARE: "bare", PLAIN: "plain", FEW: "sqlite", MANY: "sqlite_long", CIPHER: "sqlcipher",
    POSTGRES: "postgres", PAIR: "postgres_two",
}  # fmt: skip

_COLUMNS: Final = (
    "measure", "contender", "requests/s", "of A", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "server core", "load core"
)  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """A goal that this run can judge."""

    what: str
    found: float
    goal: float
    #: Whether more is better.
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether it is reached."""
        return self.found >= self.goal if self.at_least else self.found <= self.goal

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return f"{self.what}, {bound} {self.goal:,g}: {self.found:,.4g}, {'reached' if self.reached else 'missed'}"


def rate(outcome: Outcome, measure: str, one: str) -> float | None:
    """Requests a second."""
    found = outcome.figures.get(measure, {}).get(one)
    return found.rate if found else None


def ratio(outcome: Outcome, measure: str, one: str, other: str = REFERENCE) -> float | None:
    """The rate of one as a multiple of another's in the same run."""
    mine, theirs = rate(outcome, measure, one), rate(outcome, measure, other)
    return mine / theirs if mine is not None and theirs else None


def verdicts(outcome: Outcome) -> list[Verdict]:
    """Every goal that this run can judge."""
    wanted: list[tuple[str, float | None, float, bool]] = [
        ("heartbeat, of A", ratio(outcome, "heartbeat", FEW), 0.7, True),
        ("accept + complete, of A", ratio(outcome, "accept_complete", FEW), 0.5, True),
        ("accept + complete, times C", ratio(outcome, "accept_complete", FEW, PLAIN), 20, True),
        ("accept + complete, times D", _times_d(outcome), 5, True),
        ("job cycle, of A", ratio(outcome, "cycle", FEW), 0.37, True),
        *((f"{m.title}, short queue over long", ratio(outcome, m.name, FEW, MANY), 1.15, False)
          for m in outcome.plan.measures),
        *((f"{m.title}, SQLCipher of SQLite", ratio(outcome, m.name, CIPHER, FEW), 0.85, True)
          for m in outcome.plan.measures),
        ("accept + complete, two coordinators of one", ratio(outcome, "accept_complete", PAIR, POSTGRES), 1.6, True),
    ]  # fmt: skip
    if outcome.carried:
        carried = [step.miners for step in outcome.carried if step.p99 <= 0.1]
        wanted.append(("miners that one core carries", max(carried, default=0), 100_000, True))
    if (m := outcome.moments) is not None:
        wanted.append(("wake-up p99, ms", m.waking.p99 * 1000, 25, False))
        if m.waking_across is not None:
            wanted.append(("wake-up p99 across two coordinators, ms", m.waking_across.p99 * 1000, 100, False))
        wanted.append(("memory of a waiting miner, KiB", m.waiting_memory / 1024, 20, False))
    wanted += [
        (f"cost with {grown.size.against(SMALLEST)}", grown.ratio, 1.15, False)
        for grown in outcome.grown
        if grown.size != SMALLEST
    ]
    return [Verdict(what, found, goal, least) for what, found, goal, least in wanted if found is not None]


def _times_d(outcome: Outcome) -> float | None:
    ours = rate(outcome, "accept_complete", FEW)
    # Ours counts two requests for a job.
    return ours / 2 / outcome.procrastinate if ours and outcome.procrastinate else None


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """The main table, a row for each measure on each contender."""
    table: list[tuple[str, ...]] = []
    for measure in outcome.plan.measures:
        for number, (one, figures) in enumerate(outcome.figures[measure.name].items()):
            of_a = ratio(outcome, measure.name, one)
            table.append((
                measure.title if number == 0 else "",
                "A: " + one if one == REFERENCE else one,
                f"{figures.rate:,.0f}",
                "" if of_a is None else f"{of_a:.2f}",
                f"{figures.p50 * 1000:.1f}",
                f"{figures.p99 * 1000:.1f}",
                f"{figures.p999 * 1000:.1f}",
                f"{figures.worst * 1000:,.0f}",
                f"{figures.server_cpu:.0%}",
                f"{figures.load_cpu:.0%}",
            ))  # fmt: skip
    return table


def notes(outcome: Outcome) -> list[str]:
    """What a reader needs beside the table."""
    m, plan = outcome.machine, outcome.plan
    lines = [
        f"{m.cpu}, {m.cores} cores, {m.memory_gib} GiB; {m.kernel}; Python {m.python}, SQLite {m.sqlite}",
        f"disk: {m.filesystem}, a durable append of a page takes {m.sync_ms_p50} ms (p99 {m.sync_ms_p99} ms)",
        f"{plan.connections} connections in a closed loop; medians of {plan.rounds} windows of {plan.seconds:g} s;"
        " the servers on one core, the load on another; the long queue has"
        f" {plan.long_queue:,} jobs",
    ]
    for name, started in outcome.started.items():
        if name not in (REFERENCE, BARE, PLAIN):
            lines.append(f"{name}: listens after {started.seconds:.1f} s, {started.memory / 2**20:,.0f} MiB")
    for measure in plan.measures:
        if len(measure.steps) > 1:
            for one, figures in outcome.figures[measure.name].items():
                lines.append(f"{measure.title}, {one}: {_by_step(figures)}")
    if cycle := outcome.figures.get("cycle"):
        each = ", ".join(f"{one} {figures.rate / 4:,.0f}" for one, figures in cycle.items())
        lines.append(f"job cycles a second, whole: {each}")
    if outcome.procrastinate:
        lines.append(f"D: procrastinate claims and completes {outcome.procrastinate:,.0f} jobs a second on PostgreSQL")
    lines += [
        f"mixed load of {load.miners:,} miners, open loop: {load.requests_per_second:,.0f} requests/s, p50"
        f" {load.p50 * 1000:.1f}, p99 {load.p99 * 1000:.1f}, p99.9 {load.p999 * 1000:.1f}, max"
        f" {load.worst * 1000:,.0f} ms; server core {load.server_cpu:.0%}, load core {load.load_cpu:.0%};"
        f" the warm-up took {load.warmed_up_in:.0f} s"
        for load in outcome.carried
    ]
    if (t := outcome.moments) is not None:
        lines.append(f"wake-up of a waiting miner: p50 {t.waking.p50 * 1000:.1f}, p99 {t.waking.p99 * 1000:.1f} ms")
        if t.waking_across is not None:
            p50, p99 = t.waking_across.p50 * 1000, t.waking_across.p99 * 1000
            lines.append(f"the same across two coordinators on PostgreSQL: p50 {p50:.1f}, p99 {p99:.1f} ms")
        lines.append(f"a waiting miner takes {t.waiting_memory / 1024:.1f} KiB of the coordinator's memory")
        lines.append(f"after SIGKILL and an immediate start, a client is served again after {t.served_again:.2f} s")
    lines += [
        f"{grown.size.name}: {grown.cost:.0f} µs of processor time a request, the smallest beside it {grown.smallest:.0f}"
        f" ({grown.ratio:.2f}), p99 {grown.p99 * 1000:.1f} ms; listens"
        f" after {grown.started_in:.1f} s with {grown.memory / 2**20:,.0f} MiB; {grown.written / 1e9:,.2f} GB on the disk,"
        f" made in {grown.filled_in:,.0f} s"
        for grown in outcome.grown
    ]
    lines += [f"{one.size.name}: not measured, it {one.why}" for one in outcome.left_out]
    spent = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in outcome.stages.items() if seconds >= 3)
    lines.append(f"the run took {outcome.took / 60:.1f} minutes: {spent}")
    disturbed = [
        f"{measure}/{one} {figures.others_cpu:.0%}"
        for measure, found in outcome.figures.items()
        for one, figures in found.items()
        if figures.others_cpu > DISTURBED and one not in (POSTGRES, PAIR)
    ]
    if disturbed:
        lines.append(f"other processes took part of a core, and these figures are too low: {', '.join(disturbed)}")
    starved = [
        f"{measure}/{one}"
        for measure, found in outcome.figures.items()
        for one, figures in found.items()
        if figures.load_cpu > 0.9
    ]
    if starved:
        lines.append(f"the load's core was full in {', '.join(starved)}: those figures are the generator's")
    if m.filesystem in ("tmpfs", "ramfs"):
        lines.append(f"the databases are on {m.filesystem}: no commit was durable; choose a real disk")
    return lines


def _by_step(figures: Figures) -> str:
    return ", ".join(
        f"{step} p50 {p50 * 1000:.1f} p99 {p99 * 1000:.1f} ms" for step, (p50, p99) in figures.steps.items()
    )


def show(outcome: Outcome, console: Console) -> None:
    """The table, the notes and the verdicts, for people."""
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
    for verdict in verdicts(outcome):
        console.print(str(verdict), style="green" if verdict.reached else "red", highlight=False)
    console.print(_checked(outcome), style="red" if outcome.faults else "green", highlight=False)


def _checked(outcome: Outcome) -> str:
    if outcome.faults:
        return "WRONG RESULTS: " + "; ".join(outcome.faults)
    return f"{outcome.completed:,} jobs completed, each paid exactly once; all accounts together are 0"


def flat(outcome: Outcome) -> dict[str, object]:
    """One level of names and figures: what scripts read."""
    result: dict[str, object] = {}
    for measure, found in outcome.figures.items():
        for one, figures in found.items():
            at = f"{measure}.{_SHORT[one]}"
            if (of_a := ratio(outcome, measure, one)) is not None:
                result[f"{at}.of_a"] = round(of_a, 4)
            result[f"{at}.requests_per_second"] = round(figures.rate, 1)
            for name, value in (
                ("p50", figures.p50),
                ("p99", figures.p99),
                ("p999", figures.p999),
                ("max", figures.worst),
            ):
                result[f"{at}.{name}_ms"] = round(value * 1000, 3)
            if len(figures.steps) > 1:
                for step, (p50, p99) in figures.steps.items():
                    result[f"{at}.{step}.p50_ms"] = round(p50 * 1000, 3)
                    result[f"{at}.{step}.p99_ms"] = round(p99 * 1000, 3)
            result[f"{at}.server_core"] = round(figures.server_cpu, 3)
            result[f"{at}.load_core"] = round(figures.load_cpu, 3)
            result[f"{at}.others_core"] = round(figures.others_cpu, 3)
    for name, started in outcome.started.items():
        result[f"start.{_SHORT[name]}.seconds"] = round(started.seconds, 2)
        result[f"start.{_SHORT[name]}.memory_mib"] = round(started.memory / 2**20, 1)
    for load in outcome.carried:
        result |= {f"carried.{load.miners}.{name}": value for name, value in msgspec.structs.asdict(load).items()}
    if (t := outcome.moments) is not None:
        result["wake_up.p50_ms"], result["wake_up.p99_ms"] = t.waking.p50 * 1000, t.waking.p99 * 1000
        if t.waking_across is not None:
            result["wake_up_across.p50_ms"] = t.waking_across.p50 * 1000
            result["wake_up_across.p99_ms"] = t.waking_across.p99 * 1000
        result["waiting_miner_bytes"], result["served_again_seconds"] = t.waiting_memory, t.served_again
    for grown in outcome.grown:
        at = f"growth.{grown.size.jobs}_jobs.{grown.size.kinds}_kinds.{grown.size.miners}_miners.{grown.size.finished}_finished"
        result |= {
            f"{at}.cost_us": grown.cost,
            f"{at}.smallest_us": grown.smallest,
            f"{at}.ratio": grown.ratio,
            f"{at}.p99_ms": grown.p99 * 1000,
            f"{at}.start_seconds": grown.started_in,
            f"{at}.fill_seconds": grown.filled_in,
            f"{at}.bytes": grown.written,
        }
    if outcome.procrastinate:
        result["procrastinate.jobs_per_second"] = round(outcome.procrastinate, 1)
    for verdict in verdicts(outcome):
        result[f"goal.{verdict.what}"] = verdict.reached
    result["jobs_completed"] = outcome.completed
    result["correct"] = not outcome.faults
    result["connections"] = outcome.plan.connections
    result["took_seconds"] = round(outcome.took, 1)
    result |= {f"machine.{name}": value for name, value in msgspec.structs.asdict(outcome.machine).items()}
    return result


def name_of(outcome: Outcome) -> str:
    """What its files are called."""
    return "full" if outcome.plan.growth else "latest"


def markdown(outcome: Outcome) -> str:
    """The same as `show`, for the repository."""
    command = "make bench-full" if outcome.plan.growth else "make bench"
    lines = [
        f"# The latest run of `{command}`",
        "",
        "What is measured, and how, is in [docs/benchmark.md](../../docs/benchmark.md).",
        "",
        f"![Requests a second of each contender, as a share of reference A.]({name_of(outcome)}.svg)",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 2),
        *("| " + " | ".join(row) + " |" for row in rows(outcome)),
        "",
        *(f"- {line}" for line in notes(outcome)),
        "",
        "## The goals",
        "",
        *(f"- {verdict}" for verdict in verdicts(outcome)),
        f"- {_checked(outcome)}",
    ]
    return "\n".join(lines) + "\n"


def picture(outcome: Outcome) -> str:
    """Bars: each contender's requests a second as a share of reference A's, by measure."""
    names = [one for one in outcome.plan.contenders if one != REFERENCE]
    left, bar, gap, width = 190, 14, 22, 460
    parts, y = [], 34
    most = max((ratio(outcome, m.name, one) or 0.0) for m in outcome.plan.measures for one in names)
    for measure in outcome.plan.measures:
        parts.append(f'<text class="head" x="10" y="{y}">{measure.title}</text>')
        y += 8
        for one in names:
            share = ratio(outcome, measure.name, one)
            if share is None:
                continue
            length = share / most * width
            parts.append(f'<text x="{left - 8}" y="{y + bar - 3}" text-anchor="end">{one}</text>')
            parts.append(f'<rect x="{left}" y="{y}" width="{max(length, 1):.1f}" height="{bar - 3}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + bar - 3}">{share:.2f}</text>')
            y += bar
        y += gap
    at = left + width / most
    parts.append(
        f'<line x1="{at:.1f}" y1="24" x2="{at:.1f}" y2="{y - gap}"/><text x="{at:.1f}" y="18" text-anchor="middle">A = 1</text>'
    )
    style = (
        "text{font:11px system-ui,sans-serif;fill:#222}.head{font-weight:bold}rect{fill:#3a6ea5}line{stroke:#999;stroke-dasharray:3 3}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#7fb2e5}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y}" width="{left + width + 60}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )
