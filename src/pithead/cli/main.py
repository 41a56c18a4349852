"""`pithead`: the root of the commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from pithead import __version__
from pithead.cli.here import completion, login, profile
from pithead.cli.output import clean, fail
from pithead.cli.page import Page
from pithead.saved.place import Unusable

#: Groups and commands that are imported only when called, with the line that `--help` shows of each, by section.
SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "With work to be done": {
        "job": ("pithead.cli.job:job", "Submit jobs, wait for them, fetch results."),
        "file": ("pithead.cli.files:file", "Files for jobs: upload, list, fetch, delete."),
        "webhook": ("pithead.cli.webhook:webhook", "Be told at a URL of yours of what happens."),
        "account": ("pithead.cli.account:account", "Your balance, and every posting behind it."),
    },
    "With a machine to offer": {
        "miner": ("pithead.cli.miner:miner", "Register this machine and work on jobs."),
    },
    "Running an exchange": {
        "serve": ("pithead.cli.serve:serve", "Run a coordinator."),
        "admin": ("pithead.cli.admin:admin", "Clients and credit, the ledger, payouts, miners, keys."),
        "settings": ("pithead.cli.settings:settings", "Every setting of the coordinator, and its value."),
    },
    "Looking around": {
        "demo": ("pithead.cli.demo:demo", "A coordinator, miners and jobs on this machine, in one command."),
    },
}
_LAZY: Final = {name: target for section in SECTIONS.values() for name, (target, _) in section.items()}


class Root(Page):
    """Loads groups late, shows them by section, and ends every error with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_LAZY, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _LAZY[cmd_name].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            fail(f"'pithead {cmd_name}' cannot be loaded ({error}); install pithead again, with all that it needs")
        return command

    def rows(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        own = [(name, command.get_short_help_str(80)) for name, command in self.commands.items() if not command.hidden]
        sections = {title: [(name, line) for name, (_, line) in group.items()] for title, group in SECTIONS.items()}
        return sections | {"On this computer": own}

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(Root, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(_exit_code(run))


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        code = run()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.Abort as stop:
        # Click's prompts raise it `from None`, which leaves the context to be seen.
        if isinstance(stop.__context__, EOFError):
            return _say("an answer was needed, and the input ended; give it as an option")
        return 130
    except KeyboardInterrupt:
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        return _say(f"a command is missing; see '{_command(error)} --help'")
    except click.UsageError as error:
        message = error.format_message().rstrip(".")
        # Click begins with a capital; what begins with a name keeps it.
        first = message[:1] if message[1:2].isupper() else message[:1].lower()
        return _say(f"{first}{message[1:]}; see '{_command(error)} --help'")
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except Unusable as error:
        return _say(str(error))
    except BrokenPipeError:
        # The reader has gone (`… | head`): not worth a word, and Python must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}; check the path and your rights to it")
    except Exception as error:
        # Asked by name, so that `--help` need not wait for the SDK: what was not loaded was not raised.
        errors = sys.modules.get("pithead.client.errors")
        if errors is not None and isinstance(error, errors.PitheadError):
            return _say(_advised(clean(str(error)), type(error).__name__))
        raise


#: What to do about a refusal whose words do not say it.
_ADVICE: Final = {
    "NotFound": "check the id, and that it is yours",
    "Conflict": "nothing was changed; look how it stands",
    "Forbidden": "use the key of whoever may, with --key or --profile",
    "Unauthorized": "give another with --key, or log in again with 'pithead login'",
    "PaymentRequired": "ask the operator for credit",
}


def _advised(message: str, kind: str) -> str:
    advice = _ADVICE.get(kind)
    return message if advice is None or "; " in message else f"{message}; {advice}"


def _command(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "pithead"


def _say(message: str, code: int = 2) -> int:
    click.echo(f"pithead: {clean(message)}", err=True)
    return code


EXAMPLES: Final = (
    "pithead demo",
    "pithead serve",
    "pithead admin client create alice --credit 100",
    "pithead login --url http://127.0.0.1:8080",
    "pithead miner register --price 0.05 && pithead miner run",
    "pithead job submit --model gpt2 --prompt 'Hello' --price 0.05 --wait",
    "pithead job map prompts.jsonl --model gpt2 --price 0.01",
    "pithead job why JOB_ID",
)
EPILOG: Final = """
URL and key come from --url and --key, else from PITHEAD_URL and PITHEAD_KEY, else from the profile that 'pithead login'
saved. With --json, any command prints one JSON document; with --csv, a list is a table for a spreadsheet. Exit codes: 0
done, 1 the work came to nothing, 2 it could not be done (one line on stderr says why), 130 interrupted.
"""


@click.group(
    cls=Root,
    examples=EXAMPLES,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="pithead", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Pithead: a self-hosted GPU work exchange.

    Owners offer machines, clients submit jobs, one coordinator matches, leases, checks and pays.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _own in (login, profile, completion):
    cli.add_command(_own)


def main() -> None:
    """The entry point."""
    cli.main(prog_name="pithead")


if __name__ == "__main__":
    main()
