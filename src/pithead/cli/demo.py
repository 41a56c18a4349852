"""`pithead demo`: a coordinator, two miners and twenty prompts on this machine, in one command.

It uses Pithead as anybody would: the coordinator and the miners are `pithead` commands in processes of their own, and all
else is asked of the SDK. `demo` tells the story; below it is what the story needs.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from pithead.cli.output import emit, fail, json_option, table, wants_json
from pithead.cli.processes import Processes, free_port, run
from pithead.client import AdminClient, Client, Unreachable, WaitTimeout
from pithead.wire.jobs import ClientView, JobView

MODEL: Final = "smollm2-135m-instruct"
#: The miners, and what each asks per GPU (here: per slot of the processor) and hour.
MINERS: Final = {"anna": Decimal("0.05"), "ben": Decimal("0.08")}
CREDIT: Final = Decimal(10)
#: What a prompt pays. For a minute of work, the time that a job is taken to need where nobody says, more than either asks.
PRICE: Final = Decimal("0.002")
#: Seconds after which a prompt that nobody answered is given up.
TIMEOUT: Final = 180.0
#: Seconds that the coordinator may take to answer for the first time.
PATIENCE: Final = 20.0

#: A small model keeps to the point when it is told to.
SYSTEM: Final = "You answer in one short sentence."
PROMPTS: Final = (
    "What is the capital of France?",
    "What is the opposite of hot?",
    "How many days does a week have?",
    "What is the capital of Japan?",
    "What is a group of wolves called?",
    "At what temperature does water boil?",
    "How many legs does a spider have?",
    "Which animal says 'meow'?",
    "What is the chemical formula of water?",
    "Who was the first man on the Moon?",
    "Which planet is known as the red planet?",
    "What is bread made of?",
    "What language is spoken in Brazil?",
    "In which city is the Eiffel Tower?",
    "What do we call a baby cat?",
    "What is the largest animal on Earth?",
    "Who wrote Hamlet?",
    "What is ice?",
    "What is the longest river in Africa?",
    "Name a musical instrument with strings.",
)

#: The contract's limits are for strangers; here they would make twenty prompts take minutes.
SETTINGS: Final = """\
# Written by `pithead demo`. Without limits: at 10 job operations a minute, the default, twenty prompts take minutes.
port = {port}

[rate_limits]
requests_per_minute = 0
job_operations_per_minute = 0
"""


@click.command()
@click.option(
    "--prompts",
    type=click.IntRange(1, len(PROMPTS)),
    default=len(PROMPTS),
    show_default=True,
    help="How many of the prompts to ask.",
)
@click.option("--keep", is_flag=True, envvar="DEMO_KEEP", help="Leave everything running until Ctrl-C; keep its data.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for all of it; kept. Default: a temporary one, or with --keep ./demo-data.",
)
@json_option
def demo(prompts: int, keep: bool, data: Path | None) -> None:
    """Run a coordinator and two miners here, and let them answer prompts with a real language model.

    Ends with 0 only if every prompt was answered, and ends all that it started.
    """
    with _folder(data or (Path("demo-data") if keep else None)) as folder, Processes(folder / "logs") as processes:
        url, operator_key = _start_coordinator(folder, processes)
        with AdminClient(url, operator_key) as operator:
            client = operator.create_client("demo", CREDIT)
            _say(f"A coordinator serves on {url}; the client 'demo' has {CREDIT} to spend.")
            _say("Rate limits are off here: at 10 job operations a minute, the default, this would take minutes.")
            miners = {name: _start_miner(folder, processes, url, name, price) for name, price in MINERS.items()}
            before = {name: operator.miner(miner_id).stats for name, miner_id in miners.items()}
            with Client(url, client.api_key) as customer:
                answers = _ask(customer, processes, PROMPTS[:prompts])
                account = customer.me()
            earned = {
                name: {
                    "miner_id": miner_id,
                    "jobs": (now := operator.miner(miner_id).stats).total_jobs - before[name].total_jobs,
                    "earned": now.earnings - before[name].earnings,
                }
                for name, miner_id in miners.items()
            }
            ledger = operator.overview().ledger
        report = {"url": url, "jobs": answers, "miners": earned, "client": account, "ledger": ledger}
        emit(report, lambda: _show(answers, earned, account, ledger))
        _check(answers, ledger)
        if keep:
            _log_in(folder, url, {"default": client.api_key, "operator": operator_key})
        _say(_by_hand(folder, url) if keep else _START_YOUR_OWN.format(pithead=_command()))
        sys.stdout.flush()
        while keep:
            processes.check()
            time.sleep(0.5)


# ---- The parts of the story


def _start_coordinator(folder: Path, processes: Processes) -> tuple[str, str]:
    """Its URL and the operator's key, once it answers."""
    home = folder / "coordinator"
    file = home / "pithead.toml"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(SETTINGS.format(port=free_port()), encoding="utf-8")
    # A folder from an earlier demo goes on where it was: its miners know the coordinator by its port.
    url = f"http://127.0.0.1:{tomllib.loads(file.read_text(encoding='utf-8'))['port']}"
    key = "key_" + secrets.token_urlsafe(32)
    processes.start("coordinator", "serve", "--data", str(home), PITHEAD_OPERATOR_KEY=key)
    until = time.monotonic() + PATIENCE
    with AdminClient(url, key, retry_for=0) as operator:
        while True:
            processes.check()
            try:
                operator.health()
                return url, key
            except Unreachable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def _start_miner(folder: Path, processes: Processes, url: str, name: str, price: Decimal) -> str:
    """Register a miner, as its owner would, and let it work; its id."""
    home = folder / name
    registered = home / "miner_id"
    if not registered.exists():
        home.mkdir(mode=0o700, exist_ok=True)
        answer = run(
            *("miner", "register", "--url", url, "--name", name, "--gpu-type", "cpu", "--gpu-count", "1"),
            *("--location", "here", "--price", str(price), "--max-concurrent", "1", "--json"),
            PITHEAD_CONFIG_DIR=str(home),
        )
        registered.write_text(msgspec.json.decode(answer)["miner_id"], encoding="utf-8")
    processes.start(name, "miner", "run", PITHEAD_CONFIG_DIR=str(home))
    _say(f"The miner '{name}' asks {price} per hour of a processor slot.")
    return registered.read_text(encoding="utf-8")


def _ask(client: Client, processes: Processes, prompts: tuple[str, ...]) -> list[dict[str, Any]]:
    """Submit all prompts at once, and gather what comes of them."""
    batch = [
        {
            "model": MODEL,
            "input": {
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}],
                "max_tokens": 32,
                "temperature": 0,
            },
            "price": PRICE,
            "timeout": TIMEOUT,
        }
        for prompt in prompts
    ]
    submitted = client.submit_batch(batch).jobs
    answers = []
    with _progress(len(prompts)) as tell:
        for prompt, job in zip(prompts, submitted, strict=True):
            view = _finished(client, processes, job.job_id)
            result = client.result(job.job_id) if view.status == "completed" else b""
            tell(view, prompt)
            answers.append({"prompt": prompt, "answer": _text(result), **_of(view)})
    return answers


def _finished(client: Client, processes: Processes, job_id: str) -> JobView:
    while True:
        # Between the looks: a miner that died would let us wait for nothing.
        processes.check()
        with contextlib.suppress(WaitTimeout):
            return client.wait(job_id, timeout=2.0)


def _text(result: bytes) -> str:
    """What the model said."""
    with contextlib.suppress(msgspec.DecodeError, LookupError, TypeError):
        return str(msgspec.json.decode(result)["choices"][0]["message"]["content"]).strip()
    return result.decode(errors="replace").strip()


def _of(view: JobView) -> dict[str, Any]:
    names = ("job_id", "status", "miner_id", "miner_name", "result_hash", "price", "failure")
    return {name: getattr(view, name) for name in names}


def _show(
    answers: list[dict[str, Any]],
    earned: dict[str, dict[str, Any]],
    account: ClientView,
    ledger: dict[str, Decimal],
) -> None:
    click.echo()
    # The two columns of text share what the short ones leave of a terminal.
    room = max(45, min(115, shutil.get_terminal_size().columns - 30)) if sys.stdout.isatty() else 115
    rows = (
        (
            _short(job["prompt"], room * 2 // 5),
            _short(job["answer"] or f"({job['status']})", room * 3 // 5),
            job["miner_name"],
            (job["result_hash"] or "").removeprefix("sha256:")[:8],
        )
        for job in answers
    )
    table(("PROMPT", "ANSWER", "MINER", "SHA-256"), rows)
    click.echo()
    table(
        ("MINER", ">JOBS", ">EARNED"),
        ((name, one["jobs"], one["earned"]) for name, one in earned.items()),
    )
    click.echo(f"\nThe client has {account.balance:f} of {CREDIT} left, and {account.held:f} set aside.")
    parts = {"left with clients": "client", "set aside": "escrow", "earned by miners": "miner", "fees": "fees"}
    shown = " + ".join(f"{ledger[kind]:f} {words}" for words, kind in parts.items())
    click.echo(f"The ledger: {-ledger['issued']:f} credited = {shown}.")


def _short(text: str, room: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= room else line[: room - 1] + "…"


def _check(answers: list[dict[str, Any]], ledger: dict[str, Decimal]) -> None:
    if sum(ledger.values()) != 0:
        fail("the ledger does not add up; please report this, with the folder of data", 1)
    if missed := [job for job in answers if job["status"] != "completed"]:
        first = missed[0]
        why = f" ({first['failure'].kind}: {first['failure'].reason})" if first["failure"] else ""
        fail(f"{len(missed)} of {len(answers)} prompts were not answered; {first['job_id']} {first['status']}{why}", 1)


# ---- How to go on


_START_YOUR_OWN: Final = """
All of it is gone again. To have it stay, and try things by hand:
  {pithead} demo --keep
"""


def _by_hand(folder: Path, url: str) -> str:
    pithead, home = _command(), shlex.quote(str(folder / "you"))
    return f"""
All of it stays until Ctrl-C here. In another terminal:
  export PITHEAD_CONFIG_DIR={home}    # profiles.toml in it has the keys, for {url}
  {pithead} job submit --model {MODEL} --prompt 'Why is the sky blue?' --max-tokens 64 --price {PRICE:f} --wait
  {pithead} job list
  {pithead} admin --profile operator miner list
  {pithead} admin --profile operator overview
Later, the same exchange again:
  {pithead} demo --keep --data {shlex.quote(str(folder))}
"""


def _log_in(folder: Path, url: str, keys: dict[str, str]) -> None:
    """Save the keys as profiles, as a user would."""
    for profile, key in keys.items():
        login = ("login", "--url", url, "--profile", profile)
        run(*login, given=key + "\n", PITHEAD_CONFIG_DIR=str(folder / "you"))


def _command() -> str:
    """How to call this `pithead` from here."""
    if shutil.which("pithead"):
        return "pithead"
    beside = Path(sys.executable).with_name("pithead")
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


# ---- What is told on the way


def _say(text: str) -> None:
    if not wants_json():
        click.echo(text)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """What to call with every finished job: a bar on a terminal, else a line each."""
    if wants_json():
        yield lambda view, prompt: None
    elif sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        words = TextColumn("{task.description}", markup=False)
        with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words) as bar:
            task = bar.add_task("waiting for the first answer", total=total)
            yield lambda view, prompt: bar.update(task, advance=1, description=f"{view.miner_name}: {prompt}")
    else:
        done = iter(range(1, total + 1))
        yield lambda view, prompt: click.echo(f"{next(done):>3}/{total}  {view.status} by {view.miner_name}: {prompt}")


# ---- Its folder


@contextlib.contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """The folder that was chosen, or a temporary one, which stays only where something went wrong."""
    folder = chosen.resolve() if chosen else Path(tempfile.mkdtemp(prefix="pithead-demo-"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        yield folder
    except Exception:
        click.echo(f"pithead: the data and the logs of it are in {folder}", err=True)
        raise
    except BaseException:
        # Ctrl-C, or a signal: nothing is wrong that one would want to look into.
        _remove(folder, chosen)
        raise
    _remove(folder, chosen)


def _remove(folder: Path, chosen: Path | None) -> None:
    if chosen is None:
        shutil.rmtree(folder, ignore_errors=True)
