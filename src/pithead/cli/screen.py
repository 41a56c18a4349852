"""`pithead miner dashboard`: what a running agent does, as it does it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

import click

from pithead.agent import registration
from pithead.agent.record import State, read
from pithead.cli.identity import profile_option
from pithead.cli.output import clean, emit, json_option, wants_json
from pithead.saved import registrations

#: Seconds after which a state that is not written anew is an old one.
STALE: Final = 15.0
_BAR: Final = 24


@click.command()
@click.option("--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Show it once.")
@profile_option
@json_option
def dashboard(every: float, once: bool, profile: str) -> None:
    """A live screen: GPUs, jobs, earnings by the hour, and why no job comes.

    Elsewhere than on a terminal, a line whenever something changed. With --json, once, as one document.
    """
    from rich.console import Console
    from rich.live import Live

    file = registration.state_file(_miner(profile))
    if wants_json():
        state = read(file)
        emit({"running": running(state), "state": state}, lambda: None)
        return
    console = Console()
    if once:
        console.print(screen(read(file)))
    elif console.is_terminal:
        with Live(screen(read(file)), console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(read(file)), refresh=True)
                time.sleep(every)
    else:
        said = ""
        while True:
            if (line := summary(read(file))) != said:
                said = line
                click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")
            time.sleep(every)


def _miner(profile: str) -> str:
    return registrations.load(profile).miner_id


def running(state: State | None) -> bool:
    """Whether the agent that wrote this is at work."""
    return state is not None and bool(state.pid) and time.time() - state.at < STALE


def summary(state: State | None) -> str:
    """All of it in a line."""
    if state is None or not running(state):
        return "the agent does not run; start it with 'pithead miner run'"
    jobs = ", ".join(f"{job.job_id} {job.state}" for job in state.jobs)
    return clean(
        f"{state.miner_status or 'not known yet'}; {jobs or state.nothing_because() or 'between jobs'}; "
        f"{state.completed} completed, {state.failed} failed, earned {state.earned:f}"
    )


def screen(state: State | None) -> Any:
    """The screen."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    head = Panel(Text(summary(state)), title="pithead miner", title_align="left")
    if state is None or not running(state):
        return head
    parts: list[Any] = [head]
    if state.alerts:
        parts.append(Text(clean("Alerts: " + "; ".join(state.alerts)), style="bold red"))
    return Group(*parts, _gpus(state), _jobs(state), _hours(state), Text(clean(_why(state)), style="italic"))


def _why(state: State) -> str:
    why = state.nothing_because()
    return f"No job comes: {why}." if why else ""


def _grid(title: str, *columns: str) -> Any:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", box=None, expand=True, pad_edge=False)


def _gpus(state: State) -> Any:
    from rich.text import Text

    grid = _grid("GPUs", "GPU", "NAME", "LOAD", "OTHERS", "MEMORY", "°C", "WATTS")
    for index, gpu in enumerate(state.gpus):
        used, total = gpu.get("memory_used_bytes"), gpu.get("memory_total_bytes")
        memory = f"{used / 2**30:.1f} of {total / 2**30:.0f} GiB" if used is not None and total else "–"
        values = (
            gpu.get(key) for key in ("utilization_percent", "others_percent", "temperature_celsius", "power_watts")
        )
        load, others, heat, power = ("–" if value is None else f"{value:.0f}" for value in values)
        cells = (
            str(gpu.get("index", index)),
            str(gpu.get("name") or "–"),
            f"{load} %",
            f"{others} %",
            memory,
            heat,
            power,
        )
        grid.add_row(*(Text(clean(cell)) for cell in cells))
    if not state.gpus:
        grid.add_row("–", "a processor")
    return grid


def _jobs(state: State) -> Any:
    from rich.text import Text

    grid = _grid("Jobs", "JOB", "MODEL", "CLIENT", "STATE", "SINCE", "PROGRESS")
    for job in state.jobs:
        done = "" if job.fraction is None else "█" * round(_BAR * min(1.0, job.fraction))
        cells = (
            job.job_id,
            job.model,
            job.client_id or "–",
            job.state,
            f"{state.at - job.since:.0f} s",
            f"{done} {job.message}",
        )
        grid.add_row(*(Text(clean(cell)) for cell in cells))
    return grid


def _hours(state: State) -> Any:
    grid = _grid("Earnings by the hour", "HOUR", "JOBS", "EARNED", "")
    shown = state.hours[-8:]
    most = max((hour.earned for hour in shown), default=0)
    for hour in shown:
        begins = datetime.fromtimestamp(hour.begins, UTC).astimezone()
        bar = "█" * round(_BAR * float(hour.earned / most)) if most else ""
        grid.add_row(f"{begins:%a %H:00}", str(hour.jobs), f"{hour.earned:f}", bar)
    return grid
