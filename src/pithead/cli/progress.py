"""How far a long command is, on standard error: a moving line on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import click


class Steps:
    """Parts of a piece of work, each with how much of it is done."""

    def __init__(self, *, transient: bool = True) -> None:
        """`transient`: on a terminal, nothing of it stays."""
        self._transient = transient
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            # Without markup: a part's name may come from elsewhere.
            words = TextColumn("{task.fields[words]}", markup=False)
            columns = (words, BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=self._transient)
            self._progress.start()
        return self

    def __call__(self, part: str, done: int, total: int, note: str = "") -> None:
        """So much of this part is done; `note` is said with it."""
        words = f"{part}, {note}" if note else part
        if self._progress is not None:
            if part not in self._tasks:
                self._tasks[part] = self._progress.add_task(part, total=total, words=words)
            self._progress.update(self._tasks[part], completed=done, total=total, words=words)
            return
        # In a log, no more than a line for every tenth.
        tenth = 10 * done // max(1, total)
        if tenth > self._tenths.get(part, 0):
            self._tenths[part] = tenth
            click.echo(f"{part}: {done} of {total}" + (f", {note}" if note else ""), err=True)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
