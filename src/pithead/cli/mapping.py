"""`pithead job map`: a file of inputs through the fleet, a line of results for each, in the order of the file.

Beside the output lies a journal with the job of each line. The output is written in order, so that what is in it is done;
of the rest the journal knows the jobs, and what it does not know is submitted under an idempotency key that is made of the
file and the line. So the same command, run again after whatever befell it, goes on where it was and pays for nothing twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click
import msgspec

from pithead.cli.files import needs_of, needs_options, telling
from pithead.cli.output import clean, emit, fail, result_as_json, word
from pithead.cli.profiles import connection, connection_options
from pithead.cli.progress import Steps
from pithead.client import AsyncClient, Conflict, Gone, Invalid, NotFound, PitheadError
from pithead.client.calls import exact, job_request
from pithead.client.files import digest_of
from pithead.client.mapping import key_of
from pithead.wire.base import Amount, encode
from pithead.wire.jobs import InputFile, JobView, SubmitJob

#: Jobs whose end is waited for at the same time. More wait their turn; since all must end, that costs nothing.
_AT_ONCE: Final = 64
#: Lines that may be finished ahead of the first that is not, for each that is on its way.
_AHEAD: Final = 8
#: Failures that are told one by one; all of them are in the output.
_TOLD: Final = 10


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the output."""

    #: The line of the file, counted from 1; empty ones are not counted.
    line: int
    #: That of the job, or `refused` where the coordinator would not have it.
    status: str
    job_id: str | None = None
    #: What was paid.
    price: Amount | None = None
    result: Any = None
    #: `json`, `text` or `base64`: what `result` is.
    result_encoding: str | None = None
    error: str | None = None


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a journal: which file with which options it is about."""

    pithead_map: int = 1
    work: str


class _Job(msgspec.Struct, frozen=True):
    """A further line: the job of a line of the file, and the how manieth it is."""

    line: int
    job: str
    attempt: int = 0


class Line(NamedTuple):
    """A line of the file."""

    number: int
    request: SubmitJob


class Work:
    """The file, read and found to be good before anything is submitted."""

    def __init__(self, file: Path, defaults: dict[str, Any], chat: dict[str, Any]) -> None:
        """`defaults`: what holds of a job whose line does not say otherwise. `chat`: what is said with every prompt."""
        self._file = file
        self._defaults = defaults
        self._chat = chat
        digest, self.count = hashlib.sha256(), 0
        for line in self:
            digest.update(encode(line.request) + b"\n")
            self.count = line.number
        self.digest = digest.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        with self._file.open("rb") as lines:
            number = 0
            for raw in lines:
                if raw.strip():
                    number += 1
                    yield Line(number, self._request(raw.strip(), number))

    def _request(self, raw: bytes, number: int) -> SubmitJob:
        try:
            given = msgspec.json.decode(raw)
            if isinstance(given, str):
                return _made(
                    self._defaults | {"input": {"messages": [{"role": "user", "content": given}]} | self._chat}
                )
            if isinstance(given, dict) and "input" in given:
                return _made(self._defaults | given)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            fail(f"line {number} of {self._file} is not JSON ({error}); write a prompt as a JSON text, or an object")
        except (TypeError, PitheadError) as error:
            fail(f"line {number} of {self._file} is no job ({error}); see 'pithead job map --help'")
        # As it was written: decoding and encoding again could change numbers.
        return _made(self._defaults | {"input": msgspec.Raw(raw)})


def _made(fields: dict[str, Any]) -> SubmitJob:
    if missing := [name for name in ("model", "price") if fields.get(name) is None]:
        fail(f"there is no {missing[0]} for every line; give --{missing[0]}, or name it in each line")
    return job_request(**fields)


class Files:
    """The output and its journal."""

    def __init__(self, output: Path, work: Work, name: str, *, retry: bool) -> None:
        self.output, self.journal = output, output.with_name(output.name + ".journal")
        self._named = hashlib.sha256(f"{work.digest}\0{name}".encode()).hexdigest()
        self.completed = self.failed = 0
        self.spent = Decimal(0)
        #: The job of each line, as far as one is known.
        self._jobs: dict[int, _Job] = {}
        #: With `retry`: where in the output the lines lie that were completed, and which are to be tried again.
        self._kept: dict[int, tuple[int, int]] = {}
        self._again: set[int] = set()
        self._retry = output.with_name(output.name + ".retry") if retry else None
        self._noting = self._open_journal()
        #: The last line that need not be looked at.
        self.begin_after = 0
        self._read_output()
        self._taking = (self._retry or output).open("ab" if self._retry is None else "wb")

    @property
    def done(self) -> int:
        """How many lines are written."""
        return self.completed + self.failed

    def kept(self, number: int) -> bytes | None:
        """What an earlier run wrote of the line, where it stays so."""
        place = self._kept.get(number)
        if place is None:
            return None
        with self.output.open("rb") as lines:
            lines.seek(place[0])
            return lines.read(place[1])

    def job_of(self, number: int) -> str | None:
        """The job of the line, if it was submitted before and is not to be tried again."""
        known = self._jobs.get(number)
        return None if known is None or number in self._again else known.job

    def key(self, number: int) -> str:
        """The idempotency key to submit the line under."""
        return key_of(f"{self._named} {self._attempt(number)}", number)

    def submitted(self, number: int, job_id: str) -> None:
        """Note the job of a line."""
        noted = _Job(number, job_id, self._attempt(number))
        self._again.discard(number)
        self._jobs[number] = noted
        self._noting.write(encode(noted) + b"\n")
        self._noting.flush()

    def take(self, line: bytes) -> None:
        """Write the next line of the output."""
        self._count(msgspec.json.decode(line, type=Record))
        self._taking.write(line)
        self._taking.flush()

    def finish(self) -> None:
        """All of it is written."""
        self._taking.close()
        if self._retry is not None:
            self._retry.replace(self.output)

    def close(self) -> None:
        """Leave it as it is, for another run to go on with."""
        self._taking.close()
        self._noting.close()

    def _attempt(self, number: int) -> int:
        known = self._jobs.get(number)
        return 0 if known is None else known.attempt + (number in self._again)

    def _count(self, record: Record) -> None:
        if record.status == "completed":
            self.completed += 1
            self.spent += record.price or 0
        else:
            self.failed += 1

    def _open_journal(self) -> IO[bytes]:
        head = encode(_Head(work=self._named)) + b"\n"
        fresh = not self.journal.exists()
        if fresh and self.output.exists() and self.output.stat().st_size:
            fail(f"{self.output} is there, and no journal of it; name another file with --output, or remove it")
        noting = self.journal.open("ab")
        try:
            fcntl.flock(noting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            noting.close()
            fail(f"another 'pithead job map' writes {self.output}; wait for it, or name another file with --output")
        lines = self.journal.read_bytes().splitlines(keepends=True)
        # What a crash left of the last line is not there.
        whole = [line for line in lines if line.endswith(b"\n")]
        noting.truncate(sum(map(len, whole)))
        if not whole:
            noting.write(head)
            noting.flush()
        elif whole[0] != head:
            noting.close()
            fail(
                f"{self.journal} is of another file or of other options; name another file with --output, or remove "
                "the journal and the output"
            )
        for line in whole[1:]:
            noted = msgspec.json.decode(line, type=_Job)
            self._jobs[noted.line] = noted
        return noting

    def _read_output(self) -> None:
        if not self.output.exists():
            return
        at = 0
        with self.output.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    record = msgspec.json.decode(line, type=Record)
                except msgspec.MsgspecError as error:
                    fail(f"{self.output} cannot be read ({error}); remove it and its journal to begin anew")
                if self._retry is None:
                    self._count(record)
                    self.begin_after = record.line
                elif record.status == "completed":
                    self._kept[record.line] = at, len(line)
                elif record.job_id is None or self.job_of(record.line) == record.job_id:
                    self._again.add(record.line)
                at += len(line)
        if self._retry is None:
            os.truncate(self.output, at)


async def _run(client: AsyncClient, work: Work, files: Files, in_flight: int, told: Steps) -> None:
    """Submit, wait, write: until every line of the file has one in the output."""
    turn = asyncio.Semaphore(_AT_ONCE)
    lines = (line for line in work if line.number > files.begin_after)
    queue: deque[asyncio.Task[bytes]] = deque()
    running: set[asyncio.Task[bytes]] = set()
    following = next(lines, None)
    try:
        while following is not None or queue:
            told("jobs", files.done, work.count, f"{files.failed} failed" if files.failed else "")
            while following is not None and len(running) < in_flight and len(queue) < _AHEAD * in_flight:
                task = asyncio.create_task(_one(client, turn, files, following))
                queue.append(task)
                running.add(task)
                following = next(lines, None)
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            while queue and queue[0].done():
                files.take(queue.popleft().result())
            for task in finished:
                task.result()  # What ends all of it ends it now, wherever it stands.
        told("jobs", files.done, work.count, f"{files.failed} failed" if files.failed else "")
    finally:
        for task in running:
            task.cancel()
        # Those too that failed beside the first: nobody else asks for their outcomes.
        await asyncio.gather(*queue, return_exceptions=True)


async def _one(client: AsyncClient, turn: asyncio.Semaphore, files: Files, line: Line) -> bytes:
    """What the output says of this line."""
    if (kept := files.kept(line.number)) is not None:
        return kept
    job_id = files.job_of(line.number)
    try:
        if job_id is None:
            (submitted,) = (await client.submit_batch([line.request], idempotency_key=files.key(line.number))).jobs
            job_id = submitted.job_id
            files.submitted(line.number, job_id)
        async with turn:
            job = await client.wait(job_id)
            data = await client.result(job_id) if job.status == "completed" and job.result_size is not None else None
    except (Invalid, NotFound, Gone, Conflict) as refusal:
        return encode(Record(line=line.number, status="refused", job_id=job_id, error=str(refusal))) + b"\n"
    return encode(_record(line.number, job, data)) + b"\n"


def _record(number: int, job: JobView, data: bytes | None) -> Record:
    if job.status != "completed":
        error = f"{job.failure.kind}: {job.failure.reason}" if job.failure else job.status
        return Record(line=number, status=job.status, job_id=job.job_id, error=error)
    found = result_as_json(data)
    if isinstance(found["result"], msgspec.Raw):
        # On one line, whatever it was written on.
        found["result"] = msgspec.Raw(msgspec.json.format(bytes(found["result"]), indent=-1))
    return Record(line=number, status=job.status, job_id=job.job_id, price=job.price, **found)


@click.command("map")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Default: FILE.results.jsonl.")
@click.option("--model", help="The model, for lines that name none.")
@click.option("--price", metavar="AMOUNT", help="What completing a job pays, for lines that name none.")
@click.option("--gpu-type", default="any", show_default=True, help="The type of GPU it needs, or any.")
@click.option("--gpu-count", type=click.IntRange(1), default=1, show_default=True, help="How many GPUs.")
@click.option("--max-tokens", type=click.IntRange(1), help="For prompts: how long an answer may be.")
@click.option("--temperature", type=click.FloatRange(0), help="For prompts: 0 is the same answer every time.")
@click.option("--estimated-time", type=float, help="Seconds that a job should take; default: by the miners' speeds.")
@needs_options
@click.option("--in-flight", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Jobs at a time.")
@click.option("--retry-failed", is_flag=True, help="Submit those anew that failed in an earlier run.")
@click.option("--name", default="", metavar="TEXT", help="Another name makes other jobs of the same file.")
@connection_options
def map_(
    file: Path,
    output: Path | None,
    price: str | None,
    max_tokens: int | None,
    temperature: float | None,
    in_flight: int,
    retry_failed: bool,
    name: str,
    **fields: Any,
) -> None:
    """Run a file of prompts through the fleet: a line each in, a line each out, in order.

    A line of FILE is JSON: a text, which is a prompt; an object with "input", which is a whole job (model, price,
    gpu_type, ... beside it go before the options); or anything else, which is a job's input as it stands.

    Run the same command again to go on after an interrupt or a crash: what is done stays, and nothing is paid for twice.
    A journal beside the output knows the jobs. Ends with 1 if a job failed; its line in the output says why.
    """
    needs = needs_of(fields)
    read: dict[str, Path] = needs.get("files", {})
    defaults = {name: value for name, value in fields.items() if value is not None}
    if price is not None:
        defaults["price"] = exact(price)
    if read:
        defaults["input_files"] = [InputFile(name=name, sha256=digest_of(path)) for name, path in read.items()]
    if "limits" in needs:
        defaults["limits"] = needs["limits"]
    chat = {"max_tokens": max_tokens, "temperature": temperature}
    work = Work(file, defaults, {name: value for name, value in chat.items() if value is not None})
    to = connection()
    to.needed_key()
    files = Files(output or file.with_name(file.name + ".results.jsonl"), work, name, retry=retry_failed)

    async def run() -> None:
        async with to.async_client() as client:
            with Steps() as told:
                for path in read.values():
                    await client.upload_file(path, on_upload=telling(told))
                await _run(client, work, files, in_flight, told)

    try:
        asyncio.run(run())
        files.finish()
    except KeyboardInterrupt:
        click.echo(f"pithead: interrupted, {_far(files, work)}; the same command again goes on", err=True)
        sys.exit(130)
    except PitheadError as error:
        fail(f"{str(error).partition('; ')[0]}, {_far(files, work)}; mend that, and the same command again goes on")
    finally:
        files.close()
    summary = {"jobs": work.count, "completed": files.completed, "failed": files.failed, "spent": files.spent}
    emit(summary | {"path": str(files.output)}, lambda: _show(files, work))
    if files.failed:
        fail(f"{files.failed} of {work.count} failed; see {files.output}, or try them again with --retry-failed", 1)


def _far(files: Files, work: Work) -> str:
    return f"{files.done} of {work.count} done"


def _show(files: Files, work: Work) -> None:
    told = 0
    with files.output.open("rb") as lines:
        for line in lines:
            record = msgspec.json.decode(line, type=Record)
            if record.status != "completed" and (told := told + 1) <= _TOLD:
                click.echo(clean(f"line {record.line}: {record.status} ({record.error})"), err=True)
    if told > _TOLD:
        click.echo(f"... and {told - _TOLD} more", err=True)
    click.echo(f"{files.completed} of {work.count} completed for {word(files.spent)}: {files.output}", err=True)
