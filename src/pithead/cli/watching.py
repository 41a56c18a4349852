"""What of a job is shown while it runs: `pithead job watch`, and the others that wait."""

from __future__ import annotations

import sys

import click

from pithead.cli.output import clean, wants_json
from pithead.client import TERMINAL, Client
from pithead.wire.base import encode
from pithead.wire.events import OutputPiece
from pithead.wire.jobs import JobView


def follow(client: Client, job_id: str, after: str | None = None) -> tuple[JobView, bool]:
    """Print what a job brings forth, as it comes; the job once it is finished, and whether there was anything.

    With `--json` a line for each event.
    """
    view: JobView | None = None
    shown = Shown()
    for event in client.events(job_id, after):
        if wants_json():
            click.echo(encode({"id": event.id, "event": event.kind, "data": event.data}))
        elif isinstance(event.data, OutputPiece):
            shown.piece(event.data)
        else:
            shown.state(event.data)
        if isinstance(event.data, JobView):
            view = event.data
    shown.end()
    # Where there was nothing new, it was finished before.
    return view or client.job(job_id), shown.anything


class Shown:
    """What stands on the screen."""

    def __init__(self) -> None:
        self._attempt, self._status = 0, ""
        self._open_line = False

    def piece(self, piece: OutputPiece) -> None:
        """Some more output."""
        if piece.attempt != self._attempt and self._attempt:
            self.end()
            click.echo(f"pithead: attempt {piece.attempt} begins anew", err=True)
        self._attempt = piece.attempt
        # As it is into a file; on a terminal nothing of it may move the cursor.
        click.echo(_harmless(piece.text) if sys.stdout.isatty() else piece.text, nl=False)
        self._open_line = not piece.text.endswith("\n")

    @property
    def anything(self) -> bool:
        """Whether there was any output."""
        return self._attempt > 0

    def state(self, view: JobView) -> None:
        """Another state; where output is shown, not every step of the way."""
        if view.status == self._status and self._attempt:
            return
        self._status = view.status
        if view.status in TERMINAL:
            self.end()
        click.echo(line(view), err=True)

    def end(self) -> None:
        """Whatever comes now begins a line."""
        if self._open_line and sys.stdout.isatty():
            click.echo()
        self._open_line = False


def _harmless(text: str) -> str:
    return "\n".join(clean(one) for one in text.split("\n"))


def tail(view: JobView, width: int = 60) -> str:
    """The end of what a job brought forth so far, on one line."""
    if view.output is None:
        return ""
    return clean(" ".join(view.output.text[-4 * width :].split()))[-width:]


def line(view: JobView) -> str:
    """Where a job stands, on one line."""
    fraction = None if view.progress is None or view.status in TERMINAL else f"{view.progress:.0%}"
    message = None if view.status in TERMINAL else view.progress_message
    return clean("  ".join(part for part in (view.job_id, view.status, fraction, message) if part))
