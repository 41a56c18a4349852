"""What the owner is told of, and what else is done: alerts on temperature, memory, failures in a row and earnings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pithead.agent.owner.decide import Gpu
from pithead.agent.owner.settings import Action, Alerts

log = logging.getLogger(__name__)

#: Seconds after which failures are old news: a miner that they paused tries again.
FORGIVEN_AFTER: Final = 3600.0
#: Seconds over which earnings are judged, and for which there must have been a chance to earn.
DAY: Final = 86_400.0
#: Seconds that the owner's program may take.
_PATIENCE: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What alerts are judged by."""

    gpus: Sequence[Gpu] = ()
    #: Jobs that failed one after the other, and how many seconds ago the last one did.
    failures: int = 0
    since_failure: float = 0.0
    #: In the last 24 hours; `None` while it is not that long that earnings are counted.
    earned: Decimal | None = None


@dataclass(frozen=True)
class Raised:
    """An alert that holds."""

    name: str
    text: str
    action: Action


def raised(alerts: Alerts, facts: Facts) -> list[Raised]:
    """The alerts that these facts raise."""
    return [Raised(name, text, getattr(alerts, name).action) for name, text in _found(alerts, facts)]


def _found(alerts: Alerts, facts: Facts) -> Iterator[tuple[str, str]]:
    hottest = max((gpu.temperature for gpu in facts.gpus if gpu.temperature is not None), default=None)
    if alerts.temperature.at is not None and hottest is not None and hottest >= alerts.temperature.at:
        yield "temperature", f"a GPU has {hottest:.0f} °C"
    fullest = max((gpu.memory for gpu in facts.gpus if gpu.memory is not None), default=None)
    if alerts.memory.at is not None and fullest is not None and fullest >= alerts.memory.at:
        yield "memory", f"a GPU's memory is {fullest:.0f} % full"
    at = alerts.failures.at
    if at is not None and facts.failures >= at and facts.since_failure < FORGIVEN_AFTER:
        yield "failures", f"{facts.failures} jobs failed one after the other"
    least = alerts.earnings.at
    if least is not None and facts.earned is not None and facts.earned < Decimal(str(least)):
        yield "earnings", f"{facts.earned} earned in 24 hours, less than {least:g}"


class Bell:
    """Tells the owner of an alert once, when it begins, and once when it is over."""

    def __init__(self) -> None:
        self._ringing: dict[str, Raised] = {}
        self._running: set[asyncio.Task[None]] = set()

    def hear(self, alerts: Sequence[Raised], command: str) -> None:
        """These hold now."""
        now = {alert.name: alert for alert in alerts}
        for name, alert in now.items():
            if name not in self._ringing:
                log.warning("alert (%s): %s", name, alert.text)
                if command:
                    task = asyncio.get_running_loop().create_task(_run(command, alert.text), name=f"alert {name}")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        for name in self._ringing.keys() - now.keys():
            log.info("alert (%s) is over", name)
        self._ringing = now

    @property
    def ringing(self) -> list[str]:
        """The texts of the alerts that hold."""
        return [alert.text for alert in self._ringing.values()]

    async def quiet(self) -> None:
        """Wait for the owner's programs, which end in time."""
        if self._running:
            await asyncio.wait(self._running)


async def _run(command: str, text: str) -> None:
    """Run the owner's program: no shell, so the text is a word and nothing else."""
    process = None
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), text, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        async with asyncio.timeout(_PATIENCE):
            if code := await process.wait():
                log.warning("the alert's command ended with %d", code)
    except (OSError, ValueError) as error:
        log.warning("the alert's command cannot be run: %s", error)
    except TimeoutError:
        log.warning("the alert's command is killed: it took more than %g s", _PATIENCE)
    finally:
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
