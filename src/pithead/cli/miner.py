"""`pithead miner`: offer this machine, and work on jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from pithead import tracing
from pithead.agent import registration
from pithead.cli import by_hand
from pithead.cli.identity import identity, identity_options, not_known, profile_option
from pithead.cli.income import earnings, payout
from pithead.cli.output import (
    csv_option,
    emit,
    fail,
    json_option,
    print_csv,
    table,
    wants_csv,
    wants_json,
)
from pithead.cli.owning import loaded, pause, resume, set_, settings
from pithead.cli.page import Page
from pithead.cli.profiles import SOMEBODY_LOOKS_ON
from pithead.cli.screen import dashboard
from pithead.cli.standing import deregister, stats, status, update, watch, why
from pithead.cli.tending import doctor, install_service, logs, rotating
from pithead.cli.trying import try_
from pithead.client import ApiError, MinerClient
from pithead.client.environment import checked_url
from pithead.logs import JsonLines, Lines, set_up
from pithead.saved.place import Unusable
from pithead.saved.profiles import DEFAULT_URL
from pithead.saved.profiles import load as load_profile
from pithead.saved.registrations import Registration

F = TypeVar("F", bound=Callable[..., Any])

#: What a miner asks for its GPUs where its owner names no price, per GPU and hour.
DEFAULT_PRICE: Final = "0.05"
_LOG: Final = "%(asctime)s %(message)s"


@click.group(
    cls=Page,
    sections={
        "Begin and end": ("doctor", "register", "try", "run", "install-service", "deregister"),
        "Decide": ("set", "settings", "pause", "resume", "update"),
        "Look": ("status", "why", "stats", "watch", "dashboard", "logs", "models"),
        "Be paid": ("earnings", "payout"),
        "Work by hand": ("jobs", "accept", "heartbeat", "report", "upload", "complete", "fail", "release", "retry"),
    },
    examples=(
        "pithead miner register --url http://127.0.0.1:8080 --price 0.05",
        "pithead miner run",
        "pithead miner why",
        "pithead miner set hours 22:00-07:00",
        "pithead miner set minimum_price 0.02",
        "pithead miner earnings --year 2026 --csv > 2026.csv",
    ),
)
def miner() -> None:
    """Register this machine and work on jobs.

    A registration is kept in a file that only you can read; --profile names it, where one machine has several.
    """


for command in (
    *(doctor, try_, install_service, deregister),
    *(set_, settings, pause, resume, update),
    *(status, why, stats, watch, dashboard, logs),
    *(earnings, payout),
    *by_hand.COMMANDS,
):
    miner.add_command(command)


def _models_folder(command: F) -> F:
    return click.option(
        "--models-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="PITHEAD_MODELS_DIR",
        help="A folder of GGUF files; default: pithead/models in your data folder.",
    )(command)


# ---- register


@miner.command()
@click.option(
    "--url",
    metavar="URL",
    help=f"The coordinator [env PITHEAD_URL; default: that of 'pithead login', else {DEFAULT_URL}].",
)
@click.option("--key", metavar="KEY", hidden=True, help="Registering needs none; taken as by every other command.")
@click.option("--name", help="What others see of it; default: this host's name.")
@click.option("--gpu-type", metavar="TYPE", help="Such as v100; default: what is found, cpu without a GPU.")
@click.option("--gpu-count", type=click.IntRange(1), help="How many GPUs (for cpu: slots); default: what is found.")
@click.option("--location", default="unspecified", show_default=True, help="Where it is, in your words.")
@click.option("--price", metavar="AMOUNT", default=DEFAULT_PRICE, show_default=True, help="Per GPU and hour.")
@click.option("--max-concurrent", type=click.IntRange(1), default=1, show_default=True, help="Jobs at a time.")
@click.option("--model", "models", multiple=True, help="Offer only this model; may be repeated. Default: all found.")
@click.option("--token", metavar="TOKEN", help="An enrolment token, where the operator asks for one.")
@click.option("--force", is_flag=True, help="Replace the registration that is there; its key is lost for good.")
@profile_option
@json_option
def register(
    url: str | None,
    key: str | None,
    name: str | None,
    gpu_type: str | None,
    gpu_count: int | None,
    location: str,
    price: str,
    max_concurrent: int,
    models: tuple[str, ...],
    token: str | None,
    force: bool,
    profile: str,
) -> None:
    """Make this machine known to a coordinator, and keep the key that it gives."""
    to = checked_url(url or os.environ.get("PITHEAD_URL") or load_profile(None).url or DEFAULT_URL)
    if gpu_type is None or gpu_count is None:
        from pithead.agent.gpus import look

        found = asyncio.run(look())
        # A number that was found belongs to the type that was found.
        same = gpu_type is None or gpu_type.lower() == found.gpu_type
        gpu_type, gpu_count = gpu_type or found.gpu_type, gpu_count or (found.count if same else 1)
    fields: dict[str, Any] = {
        "name": name or platform.node() or "miner",
        "gpu_type": gpu_type,
        "gpu_count": gpu_count,
        "location": location,
        "price_per_hour": price,
        "max_concurrent": max_concurrent,
        "models": list(models) or None,
        "enrollment_token": token,
    }
    try:
        answer, file = registration.create(
            profile,
            lambda: MinerClient.register(to, **fields, retry_for=SOMEBODY_LOOKS_ON),
            lambda a: Registration(
                url=to,
                miner_id=a.miner_id,
                key=a.api_key,
                models=list(models) or None,
                max_concurrent=max_concurrent,
                price_per_hour=price,
            ),
            replace=force,
        )
    except Unusable as unusable:
        fail(str(unusable))
    more = "" if profile == "default" else f" --profile {profile}"
    emit(
        msgspec.to_builtins(answer) | {"url": to, "path": str(file)},
        lambda: click.echo(
            f"Registered {fields['name']} as {answer.miner_id}: {gpu_count} × {gpu_type} at {price} an hour "
            f"({answer.status}).\nIts key is in {file}. Start it with: pithead miner run{more}"
        ),
    )


# ---- run


@miner.command()
@_models_folder
@click.option(
    "--context", type=click.IntRange(64), default=4096, show_default=True, help="Tokens of prompt and answer."
)
@click.option(
    "--gpu-layers", type=click.IntRange(-1), default=-1, show_default=True, help="Layers on the GPU; -1: all."
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Processor threads of a job; default: shared out.")
@identity_options
@json_option
def run(
    models_dir: Path | None,
    context: int,
    gpu_layers: int,
    threads: int,
    profile: str,
    url: str | None,
    key: str | None,
    miner_id: str | None,
) -> None:
    """Work on jobs until interrupted.

    The first Ctrl-C (or SIGTERM, for as long as the setting drain_seconds says) finishes what runs and takes nothing
    new; the second one hands it back. With --json, the
    log on standard error is a JSON object a line.
    """
    who = identity(profile, url, key, miner_id)
    _log_to_stderr()
    from pithead.agent.runners import config
    from pithead.agent.runners.llama import Llama, Options, catalogue

    own = Llama(
        catalogue(models_dir or registration.models_folder()),
        Options(context=context, gpu_layers=gpu_layers, threads=threads),
    )
    try:
        runner = asyncio.run(config.assemble(config.load(registration.runners_file()), own))
    except config.Unusable as unusable:
        fail(str(unusable))
    found = runner.models()
    offered = found if who.models is None else who.models
    if missing := [name for name in offered if name not in found]:
        fail(f"there is no model {missing[0]!r} here; see 'pithead miner models', or register without it")
    if not offered:
        fail(f"there is no model here; put a GGUF file into {models_dir or registration.models_folder()}")
    try:
        stop = tracing.set_up("pithead-agent") if tracing.wanted() else None
        whole = asyncio.run(_work(who, profile, runner, offered))
        if stop is not None:
            stop()
    except tracing.TracingError as error:
        fail(str(error))
    except ApiError as error:
        if error.status in (401, 404):
            fail(not_known(who, error))
        raise
    if wants_json():
        emit({"finished": whole}, lambda: None)
    if not whole:
        sys.exit(130)


async def _work(who: Registration, profile: str, runner: Any, models: list[str]) -> bool:
    from pithead.agent import leftovers
    from pithead.agent.cache import Cache
    from pithead.agent.gpus import Sampler, look
    from pithead.agent.loop import Agent
    from pithead.agent.owner.governor import Governor
    from pithead.agent.record import Record
    from pithead.agent.spool import InUse, Spool
    from pithead.agent.trial import remembered
    from pithead.client import AsyncMinerClient

    spool = Spool(registration.spool_of(who.miner_id))
    record = Record(
        registration.state_file(who.miner_id), wall=time.time, miner_id=who.miner_id, profile=profile, url=who.url
    )
    # Read once before anything else: what is wrong with it is said at once.
    loaded(profile)
    governor = Governor(registration.settings_file(), record, profile=profile, clock=time.monotonic)
    machine = await look(types=governor.owner.gpu_types)
    telemetry = Sampler().take if machine.has_gpu else None
    async with AsyncMinerClient(who.url, who.miner_id, who.key, retry_for=0) as client:
        agent = Agent(
            client,
            runner,
            spool,
            models=models,
            about=runner.about(),
            machine=machine,
            telemetry=telemetry,
            governor=governor,
            record=record,
            speeds=remembered(registration.speeds_file()),
            cache=Cache(
                registration.files_folder(who.miner_id), lambda: int(governor.owner.file_cache * 1e9), record.moved_data
            ),
            registered=who.numbers(),
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, agent.interrupt)
        # Nobody is there to say it a second time: what sends it kills soon.
        loop.add_signal_handler(signal.SIGTERM, lambda: agent.interrupt(governor.owner.drain_seconds))
        try:
            with spool.lock(), _shown(record, governor.owner.metrics_port):
                leftovers.clear()
                return await agent.run()
        except InUse:
            fail(f"{who.miner_id} runs already on this machine; stop that one first, or register another --profile")


@contextlib.contextmanager
def _shown(record: Any, metrics_port: int | None) -> Iterator[None]:
    """Keep a log, and answer Prometheus, for as long as the agent runs."""
    from pithead.agent import metrics

    handler = rotating(registration.log_file(record.state.miner_id))
    logging.getLogger().addHandler(handler)
    try:
        if metrics_port is None:
            yield
            return
        port, stop = metrics.serve(record, metrics_port)
        logging.getLogger(__name__).info("metrics are at http://127.0.0.1:%d/metrics", port)
        try:
            yield
        finally:
            stop()
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


# ---- looking


@miner.command()
@_models_folder
@json_option
@csv_option
def models(models_dir: Path | None) -> None:
    """The models at hand, by the names that jobs use."""
    from pithead.agent.runners.llama import catalogue

    folder = models_dir or registration.models_folder()
    found = catalogue(folder)
    rows: list[dict[str, Any]] = [
        {"model": name, "path": str(path), "bytes": path.stat().st_size} for name, path in sorted(found.items())
    ]

    def show() -> None:
        table(("MODEL", ">MB", "FILE"), ((r["model"], f"{r['bytes'] / 1e6:.0f}", r["path"]) for r in rows))
        click.echo(f"Put further GGUF files into {folder}.")

    if wants_csv():
        print_csv(rows, ("model", "path", "bytes"))
    else:
        emit(rows, show)


def _log_to_stderr() -> None:
    set_up("info", JsonLines() if wants_json() else Lines(_LOG, "%H:%M:%S"))
    # A line for every request is for those who look for a fault.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
