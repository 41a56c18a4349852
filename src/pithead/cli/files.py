"""What a job needs beside its input, as options; and `pithead file`: the files that jobs can name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from pithead.cli.lists import listing, page_size, some
from pithead.cli.output import emit, fail, moment, print_csv, table, wants_csv
from pithead.cli.profiles import command, connection, connection_options
from pithead.cli.progress import Steps
from pithead.client.files import Uploading, named
from pithead.wire.jobs import FileView

F = TypeVar("F", bound=Callable[..., Any])

#: An upload of so many bytes takes long enough to tell of it.
_LONG: Final = 8 << 20
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: The options that are limits, and their fields.
_LIMITS: Final = {
    "wall_clock": "wall_clock_seconds",
    "memory": "memory_bytes",
    "scratch": "scratch_bytes",
    "result_size": "output_bytes",
    "pids": "pids",
}


class Size(click.ParamType[int]):
    """A number of bytes: `300000`, `512M`, `1.5G`; K, M, G and T are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if found is None or (size := int(float(found[1]) * _UNITS[found[2].upper()])) < 1:
            self.fail(f"{value!r} is no size; write it like 512M or 2G", param, ctx)
        return size


def needs_options(function: F) -> F:
    """Gives a command the options that say what a job needs; `needs_of` reads them."""
    options = (
        click.option("--file", "files", metavar="[NAME=]PATH", multiple=True,
                     help="A file that the job reads, under its own name or another; may be repeated."),
        click.option("--wall-clock", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                     help="Seconds that one run may take."),
        click.option("--memory", type=Size(), help="Memory that it may use, like 2G."),
        click.option("--scratch", type=Size(), help="What it may write to its scratch folder, like 500M."),
        click.option("--result-size", type=Size(), help="How long its result may be, like 10M."),
        click.option("--pids", type=click.IntRange(1), help="Processes and threads that it may have at a time."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def needs_of(options: dict[str, Any]) -> dict[str, Any]:
    """Takes those options out of `options`: what to submit with, as `Client.submit` has it."""
    given: dict[str, Any] = {}
    if words := options.pop("files"):
        given["files"] = named(_by_name(words))
    limits = {field: value for name, field in _LIMITS.items() if (value := options.pop(name)) is not None}
    if limits:
        given["limits"] = limits
    return given


def _by_name(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, sign, path = word.partition("=")
        # What has a '=' in its own name is a path too.
        if not sign or Path(word).is_file():
            name, path = Path(word).name, word
        if name in found:
            fail(f"two files are called {name!r}; give one of them another name with --file NAME=PATH")
        found[name] = path
    return found


def telling(steps: Steps, what: str = "uploading") -> Uploading:
    """Tells how far a transfer is, where it is a long one."""

    def told(name: str, sent: int, total: int) -> None:
        if total >= _LONG:
            steps(f"{what} {name}", sent, total)

    return told


# ---- pithead file


@click.group()
@connection_options
def file() -> None:
    """Files for jobs: upload, list, fetch, delete."""


@command(file)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
def upload(paths: tuple[Path, ...]) -> None:
    """Upload files for jobs to name by their hashes; what is there already is not sent again."""
    with connection().client() as client, Steps() as steps:
        views = [client.upload_file(path, on_upload=telling(steps)) for path in paths]
    rows = list(zip(views, paths, strict=True))
    emit({"files": views}, lambda: table(("SHA256", ">BYTES", "FILE"), ((v.sha256, v.size, str(p)) for v, p in rows)))


@command(file, "list")
@listing
def list_(limit: int | None) -> None:
    """List the files of your account, the newest first, and the room that all of them take."""
    with connection().client() as client:
        every = some(client.iter_files(page_size=page_size(limit)), limit)
        if wants_csv():
            print_csv(every, FileView.__struct_fields__)
            return
        page, found = client.files(limit=1), list(every)

    def show() -> None:
        table(("SHA256", ">BYTES", "UPLOADED", "LAST NEEDED"), map(_row, found))
        quota = "" if page.quota is None else f" of {page.quota}"
        click.echo(f"All files: {page.used} bytes{quota}.")

    emit({"files": found, "used": page.used, "quota": page.quota}, show)


def _row(view: FileView) -> tuple[Any, ...]:
    size = view.size if view.size is not None else f"{view.part_size or 0} so far"
    return view.sha256, size, moment(view.created_at), moment(view.touched_at)


@command(file)
@click.argument("sha256")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to put it.")
def fetch(sha256: str, output: Path) -> None:
    """Fetch a file of your account, checked against its hash."""
    with connection().client() as client:
        client.download_file(sha256, output)
    size = output.stat().st_size
    emit({"sha256": sha256, "path": str(output), "size": size}, lambda: click.echo(f"{output}  {size} bytes", err=True))


@command(file)
@click.argument("sha256s", metavar="SHA256...", nargs=-1, required=True)
def delete(sha256s: tuple[str, ...]) -> None:
    """Delete files that no unfinished job needs."""
    with connection().client() as client:
        views = [client.delete_file(sha256) for sha256 in dict.fromkeys(sha256s)]
    emit({"files": views}, lambda: click.echo("\n".join(view.sha256 for view in views)))
