"""How far a run is: a line that changes, with a bar, on a terminal; plain lines elsewhere, now and then one."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table


class Say(Protocol):
    """Is told what goes on and, where `total` is known, how much of it is done."""

    def __call__(self, line: str, done: int = 0, total: int = 0, /) -> None: ...


def silent(line: str, done: int = 0, total: int = 0, /) -> None:
    """Tells nobody."""


class Progress:
    """Says it on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._status = self._console.status("preparing")
        self._part = ""
        self._tenth = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __call__(self, line: str, done: int = 0, total: int = 0, /) -> None:
        if self._console.is_terminal:
            self._status.update(_bar(line, done, total) if total else line)
            return
        tenth = 10 * done // total if total else 0
        if total and line == self._part and tenth == self._tenth:
            return
        self._part, self._tenth = line, tenth
        print(f"{line}: {done:,} of {total:,}" if total else line, file=self._console.file, flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()


def _bar(line: str, done: int, total: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(line, ProgressBar(total, done, width=30), f"{done / total:.0%}")
    return row
