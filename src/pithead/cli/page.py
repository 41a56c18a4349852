"""Help that reads like a page: commands by section, each with its whole first sentence, and examples at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

#: Characters of a command's line; a first sentence that is longer is cut.
_LINE = 100


class Page(click.Group):
    """A group of commands with sections and examples."""

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        examples: Sequence[str] = (),
        **more: Any,
    ) -> None:
        """`sections`: a title, and the commands under it; those that are in none come last. `examples`: lines of a shell."""
        super().__init__(*args, **more)
        self.sections = dict(sections or {})
        self.examples = examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        known = super().list_commands(ctx)
        named = [name for names in self.sections.values() for name in names]
        return [*named, *(name for name in known if name not in named)]

    def rows(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """The sections, each with its commands and what they do."""
        named = {name for names in self.sections.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in named]
        title = "Further commands" if self.sections else "Commands"
        return {
            title: [
                (name, command.get_short_help_str(_LINE)) for name in names if (command := self.get_command(ctx, name))
            ]
            for title, names in {**self.sections, title: others}.items()
        }

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {title: rows for title, rows in self.rows(ctx).items() if rows}
        width = max((len(name) for rows in found.values() for name, _ in rows), default=0)
        for title, rows in found.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                # As they are to be typed: never wrapped.
                formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in self.examples))
        super().format_epilog(ctx, formatter)
