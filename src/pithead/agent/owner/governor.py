"""Keeps the owner's decisions in force: reads the file when it changes, judges, and says what changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pithead.agent.owner.alerts import DAY, Bell, Facts, raised
from pithead.agent.owner.decide import Gpu, Readings, Standing, standing
from pithead.agent.owner.settings import Owner, Unreadable, load, options, value_of
from pithead.agent.record import Record

log = logging.getLogger(__name__)


def free_memory() -> float:
    """Bytes of this machine's memory that are free."""
    import psutil

    return float(psutil.virtual_memory().available)


class Governor:
    """The owner's word, as it stands. `look` again and again; what it says is in `owner` and `standing`."""

    def __init__(
        self,
        file: Path | None,
        record: Record,
        *,
        profile: str = "default",
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        memory: Callable[[], float] = free_memory,
    ) -> None:
        """Raises `Unreadable` where the file cannot be used now; later on, what held before goes on."""
        self._file, self._profile, self._record = file, profile, record
        self._clock, self._now, self._memory = clock, now, memory
        self._seen = self._stamp()
        self.owner = load(file, profile) if file is not None else Owner()
        self.standing = Standing()
        self.bell = Bell()

    def look(self, telemetry: Mapping[str, Any]) -> bool:
        """Judge anew; whether the settings or the standing are others than before."""
        changed = self._read_again()
        record, gpus = self._record, readings(telemetry)
        alerts = raised(
            self.owner.alerts,
            Facts(
                gpus=gpus,
                failures=record.state.failures_in_a_row,
                since_failure=record.since_failure(),
                earned=record.earned_in(DAY),
            ),
        )
        self.bell.hear(alerts, self.owner.alerts.command)
        acts = {alert.action: f"alert: {alert.text}" for alert in alerts}
        found = Readings(
            gpus=gpus,
            free_memory=self._memory() if self.owner.limits.free_memory is not None else None,
            data_today=record.data_today(),
            throttle=acts.get("throttle", ""),
            pause=acts.get("pause", ""),
        )
        before = self.standing
        self.standing = standing(self.owner, self._now(), self._clock(), found, before)
        if self.standing.may != before.may:
            log.info("%s", "taking work again" if self.standing.may else f"taking no work: {self.standing.why}")
        elif self.standing.at_once != before.at_once:
            log.info("at most %s jobs at a time%s", self.standing.at_once or "the registered number of", _why(self))
        state = record.state
        state.may, state.why, state.alerts = self.standing.may, self.standing.why, self.bell.ringing
        state.gpus = list(telemetry.get("gpus", ()))
        return changed or (self.standing.may, self.standing.at_once) != (before.may, before.at_once)

    def _read_again(self) -> bool:
        stamp = self._stamp()
        if self._file is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            owner = load(self._file, self._profile)
        except Unreadable as error:
            log.warning("%s; what held before goes on", error)
            return False
        for option in options():
            was, now = value_of(self.owner, option.name), value_of(owner, option.name)
            if was != now:
                log.info("the owner's %s is %s now", option.name, _word(now))
        changed, self.owner = owner != self.owner, owner
        return changed

    def _stamp(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from the next, without reading it."""
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def readings(telemetry: Mapping[str, Any]) -> list[Gpu]:
    """The GPUs of a sample, as the rules see them."""
    found = []
    for index, gpu in enumerate(telemetry.get("gpus", ())):
        used, total = gpu.get("memory_used_bytes"), gpu.get("memory_total_bytes")
        found.append(
            Gpu(
                index=index if gpu.get("index") is None else gpu["index"],
                name=gpu.get("name") or "GPU",
                utilization=gpu.get("utilization_percent"),
                others=gpu.get("others_percent"),
                memory=100 * used / total if used is not None and total else None,
                temperature=gpu.get("temperature_celsius"),
                power=gpu.get("power_watts"),
            )
        )
    return found


def _why(governor: Governor) -> str:
    return f": {governor.standing.why}" if governor.standing.why else ""


def _word(value: Any) -> str:
    return "not set" if value is None else msgspec.json.encode(value).decode()
