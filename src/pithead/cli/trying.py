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
    """Run a known job with each model of each kind that you take on this machine, without a coordinator, and say how fast
    it was.

    Programs, containers and plug-ins have the job that their table or their maker names, if any; the sandbox is tried with
    a program of the system's.

    The speeds are kept, and told to the coordinator when the agent starts: jobs whose clients do not say how long they
    take are estimated by them. Ends with 1 where a model does not work.
    """
    from pithead.agent.owner.decide import withheld
    from pithead.agent.runners import config
    from pithead.agent.runners.llama import Llama, catalogue

    owner = loaded(profile)
    try:
        listed = config.load(registration.runners_file())
        own = Llama(catalogue(models_dir or registration.models_folder()))
        # In a loop of its own: clients of servers belong to the loop that they were made in, and none is kept.
        runner = asyncio.run(config.assemble(listed, own, for_trial=True))
    except config.Unusable as unusable:
        fail(str(unusable))
    about = runner.about()
    offered = list(chosen) or [name for name in runner.models() if not withheld(owner, name, about[name])]
    if missing := [name for name in offered if name not in about]:
        fail(f"there is no model {missing[0]!r} here; see 'pithead miner models' and 'pithead miner doctor'")
    # Without being asked for, what cannot be tried is passed by.
    known = [name for name in offered if runner.trial(name) is not None]
    if chosen and (unknown := [name for name in offered if name not in known]):
        fail(f"there is no job known to try {unknown[0]} with; give its table in runners.toml a trial, an input")
    if not known:
        fail("there is no model to try; see 'pithead miner models' and the settings models and kinds")

    async def run() -> list[Trial]:
        done = []
        async for trial in attempt(runner, known):
            done.append(trial)
            if not wants_json():
                click.echo(_line(trial), err=True)
        return done

    trials = asyncio.run(run())
    remember(registration.speeds_file(), trials)

    def show() -> None:
        columns = ("KIND", "MODEL", ">TOKENS/S", ">TOKENS", ">SECONDS", ">WITH LOADING")
        table(
            columns,
            (
                (
                    t.kind,
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
