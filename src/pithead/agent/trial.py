"""A known job of each model, run on this machine alone: whether it works, and how fast it is."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from pithead.agent.runners.base import RunFailed, Task
from pithead.agent.runners.dispatch import Dispatcher

#: Seconds that one run may take.
_LIMIT: Final = 300.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How one model did."""

    model: str
    works: bool
    #: Of its runner.
    kind: str = ""
    #: Of the answer, a second, once it is loaded; `None` where it does not work, or answers in no tokens.
    tokens_per_second: float | None = None
    completion_tokens: int | None = None
    #: Seconds of the first run, loading included, and of the second.
    first_seconds: float | None = None
    seconds: float | None = None
    why: str = ""


async def attempt(
    runner: Dispatcher, models: Sequence[str], clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Trial]:
    """Run its known job twice with each model – once to load it, once to measure – and tell of each as it is done.

    A model whose runner knows no such job is passed by.
    """
    runner.prepare(1)
    about = runner.about()
    try:
        for model in models:
            if (given := runner.trial(model)) is not None:
                yield msgspec.structs.replace(await _one(runner, model, given, clock), kind=about[model].kind)
    finally:
        await runner.close()


async def _one(runner: Dispatcher, model: str, given: Any, clock: Callable[[], float]) -> Trial:
    took, tokens = [], 0
    for _ in range(2):
        began = clock()
        try:
            async with asyncio.timeout(_LIMIT):
                result = await runner.run(_task(model, given), lambda *_: None)
        except TimeoutError:
            return Trial(model=model, works=False, why=f"timeout: not done within {_LIMIT:g} s")
        except RunFailed as failed:
            return Trial(model=model, works=False, why=f"{failed.kind}: {failed.reason}")
        took.append(max(1e-6, clock() - began))
        tokens = result.metrics.completion_tokens or 0
    speed = tokens / took[1] if tokens else None
    return Trial(
        model=model,
        works=True,
        tokens_per_second=speed,
        completion_tokens=tokens or None,
        first_seconds=took[0],
        seconds=took[1],
    )


def _task(model: str, given: Any) -> Task:
    return Task(
        job_id="job_trial",
        status="assigned",
        model=model,
        client_id="",
        input=msgspec.Raw(msgspec.json.encode(given)),
        gpu_type="any",
        gpu_count=1,
        estimated_time=60,
        price=Decimal(0),
        require_result=True,
        attempt=1,
        lease_token="lease_trial",  # noqa: S106 (of no lease)
        lease_expires_at=0,
        lease_expires_in=_LIMIT,
        attempt_expires_in=_LIMIT,
    )


def remembered(file: Path) -> dict[str, float]:
    """Tokens a second by model, as they were last measured here; empty where nothing was."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        return {}


def remember(file: Path, trials: Sequence[Trial]) -> dict[str, float]:
    """Keep what was measured, beside what was measured of other models before; all of it."""
    speeds = remembered(file)
    for trial in trials:
        speeds.pop(trial.model, None)
        if trial.tokens_per_second is not None:
            speeds[trial.model] = round(trial.tokens_per_second, 3)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(msgspec.json.encode(speeds, order="sorted"))
    temporary.replace(file)
    return speeds
