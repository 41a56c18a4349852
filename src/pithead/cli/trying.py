"""`pithead miner try`: run a known job with each model, on this machine alone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from pithead.agent import registration
from pithead.agent.trial import Trial, attempt, remember
from pithead.cli.identity import profile_option
from pithead.cli.output import emit, fail, json_option, table, wants_json
from pithead.cli.owning import loaded


@click.command("try")
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PITHEAD_MODELS_DIR",
    help="A folder of GGUF files; default: pithead/models in your data folder.",
)
@click.option("--model", "chosen", multiple=True, help="Only this model; may be repeated. Default: all that you offer.")
@profile_option
@json_option
def try_(models_dir: Path | None, chosen: tuple[str, ...], profile: str) -> None:
    """Run a known job with each model on this machine, without a coordinator, and say how fast it was.

    The speeds are kept, and told to the coordinator when the agent starts: jobs whose clients do not say how long they
    take are estimated by them. Ends with 1 where a model does not work.
    """
    from pithead.agent.runners.llama import Llama, catalogue

    found, owner = catalogue(models_dir or registration.models_folder()), loaded(profile)
    offered = list(chosen) or [name for name in sorted(found) if owner.models is None or name in owner.models]
    if missing := [name for name in offered if name not in found]:
        fail(f"there is no model {missing[0]!r} here; see 'pithead miner models'")
    if not offered:
        fail("there is no model to try; see 'pithead miner models' and the setting models")

    async def run() -> list[Trial]:
        done = []
        async for trial in attempt(Llama(found), offered):
            done.append(trial)
            if not wants_json():
                click.echo(_line(trial), err=True)
        return done

    trials = asyncio.run(run())
    remember(registration.speeds_file(), trials)

    def show() -> None:
        columns = ("MODEL", ">TOKENS/S", ">TOKENS", ">SECONDS", ">WITH LOADING")
        table(
            columns,
            (
                (
                    t.model,
                    _figure(t.tokens_per_second),
                    t.completion_tokens,
                    _figure(t.seconds),
                    _figure(t.first_seconds),
                )
                for t in trials
            ),
        )

    emit({"trials": trials}, show)
    if not all(trial.works for trial in trials):
        sys.exit(1)


def _line(trial: Trial) -> str:
    return f"{trial.model}: {'works' if trial.works else f'does not work: {trial.why}'}"


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
