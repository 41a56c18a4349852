"""`pithead job`: submit, watch, fetch, cancel."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TextIO, get_args

import click
import msgspec

from pithead.cli.files import needs_of, needs_options, telling
from pithead.cli.lists import listed, listing, page_size, some
from pithead.cli.mapping import map_
from pithead.cli.output import (
    clean,
    emit,
    facts,
    fail,
    moment,
    result_as_json,
    wants_json,
)
from pithead.cli.page import Page
from pithead.cli.profiles import Connection, command, connection, connection_options
from pithead.cli.progress import Steps
from pithead.cli.watching import follow, line, tail
from pithead.cli.why import show_job_why
from pithead.client import TERMINAL, AsyncClient, JobOptions, WaitTimeout
from pithead.wire.jobs import JobView
from pithead.wire.miners import JobStatus

#: Jobs waited for at the same time. More wait their turn; since all must finish, that costs nothing.
_AT_ONCE = 32

#: What a job can be, for `--status`.
STATES = click.Choice(get_args(JobStatus))

_Told = Callable[[JobView], object] | None


@click.group(
    cls=Page,
    sections={
        "Have work done": ("submit", "map", "watch", "wait", "result", "cancel"),
        "Look": ("list", "status", "why"),
    },
    examples=(
        "pithead job submit --model gpt2 --prompt 'Hello' --price 0.05 --wait",
        "pithead job map prompts.jsonl --model gpt2 --price 0.01",
        "pithead job list --status queued --csv > queue.csv",
        "pithead job why JOB_ID",
    ),
)
@connection_options
def job() -> None:
    """Submit jobs, wait for them, fetch results."""


job.add_command(map_)


# ---- submit


@command(job)
@click.option("--model", required=True, help="The model, exactly as miners list it.")
@click.option("--input", "literal", metavar="JSON", help="The input, as JSON.")
@click.option("--input-file", "file", type=click.File("rb"), help="A file with the input as JSON; - is standard input.")
@click.option("--prompt", metavar="TEXT", help="A chat input made of this message.")
@click.option("--system", metavar="TEXT", help="With --prompt: the system's message before it.")
@click.option("--max-tokens", type=click.IntRange(1), help="With --prompt: how long the answer may be.")
@click.option("--temperature", type=click.FloatRange(0), help="With --prompt: 0 is the same answer every time.")
@click.option("--seed", type=int, help="With --prompt: where the dice begin.")
@click.option("--price", required=True, metavar="AMOUNT", help="What completing it pays, in full.")
@click.option("--gpu-type", default="any", show_default=True, help="The type of GPU it needs, or any.")
@click.option("--gpu-count", type=int, default=1, show_default=True, help="How many GPUs.")
@click.option("--estimated-time", type=float, default=60.0, show_default=True, help="Seconds the work should take.")
@click.option("--priority", type=int, default=0, show_default=True, help="-1000 to 1000; higher goes first.")
@click.option("--timeout", type=float, help="Seconds in which it must be completed.")
@click.option("--attempt-timeout", type=float, help="Seconds that one attempt may take.")
@click.option("--max-attempts", type=int, help="How many attempts may fail.")
@needs_options
@click.option("--no-require-result", is_flag=True, help="The hash of the result is enough; its bytes need not arrive.")
@click.option("--idempotency-key", metavar="TEXT", help="Submitting again with the same key gives the same job.")
@click.option("--wait", is_flag=True, help="Wait until it is finished, and print the result.")
@click.option(
    "--follow", "following", is_flag=True, help="Print what it brings forth, as it comes, until it is finished."
)
def submit(
    model: str,
    literal: str | None,
    file: BinaryIO | None,
    prompt: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    price: str,
    no_require_result: bool,
    idempotency_key: str | None,
    wait: bool,
    following: bool,
    **options: Any,
) -> None:
    """Submit a job; prints its id, with --wait its result, or with --follow what it brings forth meanwhile."""
    if wait and following:
        fail("--wait prints the result, and --follow what comes before it; give one of them")
    chat = {"system": system, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    work = _input(literal, file, prompt, chat)
    to, needs = connection(), needs_of(options)
    with to.client() as client:
        options = JobOptions(**options, require_result=not no_require_result)  # type: ignore[typeddict-item]
        with Steps() as steps:
            submitted = client.submit(
                model,
                work,
                price=price,
                idempotency_key=idempotency_key,
                on_upload=telling(steps),
                **needs,
                **options,
            )
        if following:
            _warn(submitted.warning)
            view, shown = follow(client, submitted.job_id)
            _completed(view)
            if not shown and view.result_size is not None and not wants_json():
                # It was over before anybody could watch.
                _print(client.result(view.job_id))
            return
        if not wait:
            emit(submitted, lambda: click.echo(submitted.job_id))
            _warn(submitted.warning)
            return
        _warn(submitted.warning)
        [view] = _watch(to, [submitted.job_id], None, sys.stderr)
        if view.status != "completed":
            if wants_json():
                emit(view, lambda: None)
            fail(f"{_ended(view)}; see 'pithead job status {view.job_id}'", 1)
        data = client.result(view.job_id) if view.result_size is not None else None
    emit(msgspec.to_builtins(view, builtin_types=[Decimal]) | result_as_json(data), lambda: _print(data))


def _warn(warning: str | None) -> None:
    if warning:
        click.echo(f"pithead: {clean(warning)}", err=True)


def _input(literal: str | None, file: BinaryIO | None, prompt: str | None, chat: dict[str, Any]) -> Any:
    if sum(source is not None for source in (literal, file, prompt)) != 1:
        fail("the job needs one input; give --input, --input-file or --prompt")
    if prompt is not None:
        system = chat.pop("system")
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": prompt})
        return {"messages": messages} | {name: value for name, value in chat.items() if value is not None}
    if stray := [name for name, value in chat.items() if value is not None]:
        fail(f"--{stray[0].replace('_', '-')} goes with --prompt only; put it into the input instead")
    raw = file.read() if file is not None else (literal or "").encode()
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fail(f"the input is not JSON ({error}); for plain text use --prompt")
    # As it was written: decoding and encoding again could change numbers.
    return msgspec.Raw(raw)


# ---- status, list, cancel


@command(job)
@click.argument("job_id")
def status(job_id: str) -> None:
    """Show a job as it stands."""
    with connection().client() as client:
        view = client.job(job_id)
    emit(view, lambda: show(view))


@command(job)
@click.argument("job_id")
def why(job_id: str) -> None:
    """Why a job waits: which rule keeps how many miners from it, what price would help, when it should begin."""
    with connection().client() as client:
        found = client.why(job_id)
    emit(found, lambda: show_job_why(found))


@command(job, "list")
@click.option("--status", type=STATES, help="Only jobs in this state.")
@click.option("--model", help="Only jobs of this model.")
@listing
def list_(status: str | None, model: str | None, limit: int | None) -> None:
    """List your jobs, the newest first."""
    with connection().client() as client:
        show_list(some(client.iter_jobs(status=status, model=model, page_size=page_size(limit)), limit))


@command(job)
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """Cancel a job; its price goes back."""
    with connection().client() as client:
        view = client.cancel(job_id)
    emit(view, lambda: click.echo(line(view)))


def show(view: JobView) -> None:
    """A job, in full."""
    failure = view.failure
    facts(
        job=view.job_id,
        status=line(view).removeprefix(view.job_id).strip(),
        model=view.model,
        price=view.price,
        needs=f"{view.gpu_count} × {view.gpu_type}, about {view.estimated_time:g} s",
        files=", ".join(f"{one.name} ({one.size} bytes)" for one in view.input_files or ()) or None,
        limits=_limits(view),
        priority=view.priority,
        attempts=f"{view.attempts} of {view.max_attempts}",
        miner=f"{view.miner_name} ({view.miner_id})" if view.miner_id else None,
        created=moment(view.created_at),
        started=moment(view.started_at),
        finished=moment(view.finished_at),
        expires=moment(view.expires_at) if view.status not in TERMINAL else None,
        failure=f"{failure.kind}: {failure.reason}" if failure else None,
        output=f"… {end}" if (end := tail(view)) else None,
        result=view.result_hash,
        result_size=None if view.result_size is None else f"{view.result_size} bytes",
    )


def _limits(view: JobView) -> str | None:
    limits = msgspec.structs.asdict(view.limits) if view.limits else {}
    return ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None) or None


def show_list(jobs: Iterable[JobView]) -> None:
    """Jobs, a line each."""
    columns = ("JOB ID", "STATUS", "MODEL", "GPU", ">PRICE", ">ATTEMPTS", "MINER", "CREATED")
    listed("jobs", jobs, JobView, columns, _row)


def _row(one: JobView) -> tuple[object, ...]:
    return (
        one.job_id,
        one.status,
        one.model,
        f"{one.gpu_count} × {one.gpu_type}",
        one.price,
        one.attempts,
        one.miner_name,
        moment(one.created_at),
    )


# ---- wait


@command(job)
@click.argument("job_id")
@click.option("--after", metavar="ID", help="Go on behind the event of this id; with --json every event has one.")
def watch(job_id: str, after: str | None) -> None:
    """Print what a job brings forth, as it comes, until it is finished; ends with 1 unless it was completed.

    Its states go to standard error. What counts is the result: 'pithead job result'.
    """
    with connection().client() as client:
        _completed(follow(client, job_id, after)[0])


def _completed(view: JobView) -> None:
    if view.status != "completed":
        fail(f"{_ended(view)}; see 'pithead job status {view.job_id}'", 1)


@command(job)
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@click.option("--timeout", type=click.FloatRange(0), help="Seconds after which to wait no longer.")
def wait(job_ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait until jobs are finished; ends with 1 unless all were completed."""
    views = _watch(connection(), list(dict.fromkeys(job_ids)), timeout, sys.stdout)
    if wants_json():
        emit({"jobs": views}, lambda: None)
    missed = [view for view in views if view.status != "completed"]
    if missed:
        more = f", and {len(missed) - 1} more like it" if len(missed) > 1 else ""
        fail(f"{_ended(missed[0])}{more}; see 'pithead job status {missed[0].job_id}'", 1)


def _ended(view: JobView) -> str:
    if view.status not in TERMINAL:
        return f"{view.job_id} is still {view.status}"
    reason = f" ({view.failure.kind}: {view.failure.reason})" if view.failure else ""
    return f"{view.job_id} {view.status}{reason}" if view.status != "cancelled" else f"{view.job_id} was cancelled"


def _watch(to: Connection, job_ids: list[str], timeout: float | None, out: TextIO) -> list[JobView]:
    """The jobs once they are finished, or as last seen when the time was up. Tells on `out` how they get on."""

    async def one(client: AsyncClient, turn: asyncio.Semaphore, told: _Told, job_id: str) -> JobView:
        async with turn:
            try:
                return await client.wait(job_id, timeout, told)
            except WaitTimeout as late:
                return late.job

    async def all_of_them() -> list[JobView]:
        turn = asyncio.Semaphore(_AT_ONCE)
        async with to.async_client() as client:
            with _teller(out) as told:
                return await asyncio.gather(*(one(client, turn, told, job_id) for job_id in job_ids))

    return asyncio.run(all_of_them())


def _teller(out: TextIO) -> AbstractContextManager[_Told]:
    if wants_json():
        return nullcontext()
    return _Bars(out) if out.isatty() else nullcontext(_Lines(out))


class _Lines:
    """A line for every change of a job, but for what it brings forth."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told: dict[str, str] = {}

    def __call__(self, view: JobView) -> None:
        if self._told.get(view.job_id) != (now := line(view)):
            self._told[view.job_id] = now
            click.echo(now, file=self._out)


class _Bars:
    """A moving line for every job, on a terminal."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # Without markup: what a miner says of its progress is text, not formatting.
        words = TextColumn("{task.description}", markup=False)
        self._progress = Progress(
            SpinnerColumn(finished_text=" "), words, BarColumn(20), TimeElapsedColumn(), console=Console(file=out)
        )
        self._tasks: dict[str, Any] = {}

    def _saw(self, view: JobView) -> None:
        if view.job_id not in self._tasks:
            self._tasks[view.job_id] = self._progress.add_task("", total=None)
        done = view.status in TERMINAL
        share = 1.0 if done else view.progress
        total = None if share is None else 1.0
        words = "  ".join(part for part in (line(view), tail(view)) if part)
        self._progress.update(self._tasks[view.job_id], description=words, completed=share or 0.0, total=total)

    def __enter__(self) -> _Told:
        self._progress.start()
        return self._saw

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


# ---- result


@command(job)
@click.argument("job_id")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file to write it to.")
def result(job_id: str, output: Path | None) -> None:
    """Fetch a result, checked against its digest; to standard output, or to a file that appears when it is whole."""
    with connection().client() as client:
        if output is None:
            data = client.result(job_id)
            emit({"job_id": job_id} | result_as_json(data), lambda: _print(data))
            return
        client.download(job_id, output)
    with output.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    written = {"job_id": job_id, "path": str(output), "size": output.stat().st_size, "result_hash": f"sha256:{digest}"}
    emit(written, lambda: click.echo(f"{output}  {written['size']} bytes", err=True))


def _print(data: bytes | None) -> None:
    if data is None:
        click.echo("pithead: the job was completed by hash alone; there are no bytes to print", err=True)
        return
    out = sys.stdout.buffer
    out.write(data)
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        out.write(b"\n")
    out.flush()
