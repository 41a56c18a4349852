"""`pithead miner jobs`, `accept`, `report`, `upload`, `complete`, `fail`, `release`, `heartbeat` and `retry`: mining by hand.

What the agent does by itself, a step at a time: for an owner who works on a job with tools of their own, or looks what went
wrong. While an agent works as this miner, it is the one who takes jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from pathlib import Path
from typing import Any, Final, get_args

import click
import msgspec

from pithead.agent import registration
from pithead.agent.record import read as read_state
from pithead.cli.files import telling
from pithead.cli.identity import for_miner, identity, identity_options
from pithead.cli.lists import listed, listing, page_size
from pithead.cli.output import clean, emit, facts, fail, json_option
from pithead.cli.progress import Steps
from pithead.cli.screen import running
from pithead.client import ApiError, Conflict, MinerClient, Rest
from pithead.client.files import Place, is_name
from pithead.saved.registrations import Registration
from pithead.wire.miners import Assignment, Completed, FailureKind, HeartbeatAnswer, Offer

_COLUMNS: Final = ("JOB ID", "MODEL", "GPU", ">PRICE", ">SECONDS", "CLIENT")


def _alone(client: MinerClient) -> None:
    """End the command where an agent works as this miner: it hands back what it does not know."""
    if running(read_state(registration.state_file(client.miner_id))):
        fail(f"the agent of {client.miner_id} runs on this machine and would hand the job back; stop it first")


@click.command()
@listing
@click.option("--wait", type=click.FloatRange(0, 60), help="Where there is none, wait so many seconds for one.")
@for_miner
def jobs(client: MinerClient, limit: int | None, wait: float | None) -> None:
    """List the queued jobs that this miner could take, the best first; 'pithead miner why' tells of the others."""
    found = client.available(min(page_size(limit), 100), wait).jobs
    listed("jobs", found, Offer, _COLUMNS, _row)


def _row(one: Offer) -> tuple[object, ...]:
    return one.job_id, one.model, f"{one.gpu_count} × {one.gpu_type}", one.price, one.estimated_time, one.client_id


@click.command()
@click.argument("job_id")
@click.option("--input", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the job's input there.")
@click.option("--files", "folder", type=click.Path(file_okay=False, path_type=Path), help="Put the job's files there.")
@for_miner
def accept(client: MinerClient, job_id: str, file: Path | None, folder: Path | None) -> None:
    """Take a job, and print its input.

    It is yours while heartbeats renew its lease: 'pithead miner heartbeat --every 30', in another terminal. Accepting again
    gives the same.
    """
    _alone(client)
    taken = client.accept(job_id)
    if file is not None:
        file.write_bytes(bytes(taken.input))
    if folder is not None:
        _fetch(client, taken, folder)

    def show() -> None:
        click.echo(
            f"{taken.job_id} is yours for {taken.lease_expires_in:g} s, and longer with heartbeats; it pays {taken.price}.",
            err=True,
        )
        if taken.input_files and folder is None:
            names = ", ".join(one.name for one in taken.input_files)
            click.echo(f"It has files ({clean(names)}): accept it again with --files FOLDER to fetch them.", err=True)
        click.echo(str(file) if file is not None else bytes(taken.input).decode())

    emit(taken, show)


def _fetch(client: MinerClient, taken: Assignment, folder: Path) -> None:
    """The job's files by their names, each of which appears whole and checked."""
    folder.mkdir(parents=True, exist_ok=True)
    with Steps() as steps:
        for one in taken.input_files:
            # It comes from elsewhere, and is about to be a part of a path.
            if not is_name(one.name):
                fail(f"{taken.job_id} calls a file {one.name!r}, which is no name for one; release it")
            told = telling(steps, "fetching")
            with Place(folder / one.name) as place:
                rest = Rest(
                    one.sha256, place.file, size=one.size,
                    told=lambda position, one=one, told=told: told(one.name, position, one.size),  # type: ignore[misc]
                )  # fmt: skip
                client.fetch_input(taken.job_id, rest, taken.lease_token)
                place.settle()


@click.command()
@click.option("--every", type=click.FloatRange(1, 600), help="Go on, one every so many seconds, until interrupted.")
@for_miner
def heartbeat(client: MinerClient, every: float | None) -> None:
    """Say that the miner is there: it stays online, and the leases of the jobs that it holds are renewed."""
    while True:
        answer = client.heartbeat()
        emit(answer, lambda answer=answer: _show_beat(answer))  # type: ignore[misc]
        if every is None:
            return
        time.sleep(every)


def _show_beat(answer: HeartbeatAnswer) -> None:
    held = ", ".join(f"{lease.job_id} ({lease.expires_in:g} s left)" for lease in answer.leases)
    stop = ", ".join(f"{one.job_id} ({one.reason})" for one in answer.stop)
    facts(status=answer.miner_status, queued_for_it=answer.queue_length, holds=held or None, to_stop=stop or None)


@click.command()
@click.argument("job_id")
@click.argument("fraction", type=click.FloatRange(0, 1))
@click.argument("message", default="")
@for_miner
def report(client: MinerClient, job_id: str, fraction: float, message: str) -> None:
    """Say how far a job is: FRACTION is 0 to 1."""
    answer = client.progress(job_id, fraction, message)
    emit(answer, lambda: click.echo(f"{answer.job_id} {answer.status}"))


@click.command()
@click.argument("job_id")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@for_miner
def upload(client: MinerClient, job_id: str, file: Path) -> None:
    """Send the bytes of a result. One that broke off is gone on with."""
    answer = client.upload(job_id, file)
    emit(answer, lambda: click.echo(f"{answer.job_id}: {answer.size} bytes are there, {answer.result_hash}"))


@click.command()
@click.argument("job_id")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--hash", "digest", metavar="sha256:…", help="Of a result that was uploaded, or is not to be.")
@for_miner
def complete(client: MinerClient, job_id: str, file: Path | None, digest: str | None) -> None:
    """Deliver a job and be paid: with FILE, whose bytes are sent first, or with the hash of what was sent."""
    if (file is None) == (digest is None):
        fail("a job is completed with its result; give the file, or the hash of what was uploaded with --hash")
    if file is not None:
        with file.open("rb") as content:
            digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
        # Where it is refused, perhaps it was completed already and only the answer was lost: completing again tells.
        with contextlib.suppress(Conflict):
            client.upload(job_id, file)
    assert digest is not None
    done = client.complete(job_id, digest)
    emit(done, lambda: _show_paid(done))


def _show_paid(done: Completed) -> None:
    facts(job=done.job_id, earned=done.earned, receipt=done.receipt.receipt_id)


@click.command("fail")
@click.argument("job_id")
@click.argument("reason")
@click.option(
    "--kind", type=click.Choice(get_args(FailureKind)), default="error", show_default=True, help="Of what kind."
)
@for_miner
def fail_(client: MinerClient, job_id: str, reason: str, kind: FailureKind) -> None:
    """Say that a job could not be done, and why."""
    answer = client.fail(job_id, reason, kind)
    emit(answer, lambda: click.echo(f"{answer.job_id} {answer.status}"))


@click.command()
@click.argument("job_id")
@for_miner
def release(client: MinerClient, job_id: str) -> None:
    """Hand a job back undone; the attempt is not counted."""
    answer = client.release(job_id)
    emit(answer, lambda: click.echo(f"{answer.job_id} {answer.status}"))


# ---- What an agent left


class _Delivered(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    #: `delivered`, `given up`: nobody wants it any more; or `waits`: the coordinator could not be asked.
    outcome: str
    reason: str = ""


@click.command()
@identity_options
@json_option
def retry(profile: str, url: str | None, key: str | None, miner_id: str | None) -> None:
    """Deliver the results that the agent could not, without running it.

    A running agent does so by itself, and so does the next run. What nobody wants any more is removed. Ends with 1 if
    something waits still.
    """
    from pithead.agent.spool import InUse, Spool

    who = identity(profile, url, key, miner_id)
    spool = Spool(registration.spool_of(who.miner_id))
    try:
        with spool.lock():
            found = asyncio.run(_deliver(who, spool))
    except InUse:
        fail("the agent of this miner runs and delivers by itself; see 'pithead miner dashboard'")

    def show() -> None:
        for one in found:
            click.echo(f"{one.job_id}: {one.outcome}" + (f" ({one.reason})" if one.reason else ""))
        if not found:
            click.echo("There is nothing to deliver.")

    emit({"results": found}, show)
    if waiting := sum(one.outcome == "waits" for one in found):
        fail(f"{waiting} of {len(found)} results wait still; try again once the coordinator can be reached", 1)


async def _deliver(who: Registration, spool: Any) -> list[_Delivered]:
    from pithead.agent.delivery import NotTaken, deliver
    from pithead.agent.line import Line, Pace
    from pithead.client import AsyncMinerClient

    found = []
    async with AsyncMinerClient(who.url, who.miner_id, who.key, retry_for=0) as client:
        await client.get()  # Where it cannot be reached, that is said at once.
        line = Line(Pace(), time.monotonic)
        for finished in spool.pending():
            try:
                async with asyncio.timeout(_PATIENCE):
                    paid = await deliver(client, line, spool, finished)
            except NotTaken as refusal:
                if refusal.still_held:
                    found.append(_Delivered(job_id=finished.job_id, outcome="waits", reason=str(refusal)))
                    continue
                found.append(_Delivered(job_id=finished.job_id, outcome="given up", reason=str(refusal)))
            except TimeoutError:
                found.append(_Delivered(job_id=finished.job_id, outcome="waits", reason="no answer"))
                continue
            except ApiError as error:
                found.append(_Delivered(job_id=finished.job_id, outcome="waits", reason=error.detail))
                continue
            else:
                found.append(_Delivered(job_id=finished.job_id, outcome="delivered", reason=f"earned {paid.earned:f}"))
            spool.remove(finished)
    return found


#: Seconds for the delivery of one result; a large one is gone on with the next time.
_PATIENCE: Final = 600.0
#: The commands, in the order of a job.
COMMANDS: Final = (jobs, accept, heartbeat, report, upload, complete, fail_, release, retry)
