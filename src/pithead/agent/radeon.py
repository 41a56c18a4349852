"""AMD's GPUs through `amdsmi`, the binding that comes with ROCm: names, and how they do. It is asked for when it is there.

Its functions answer with dictionaries whose unknown values are the text "N/A", and raise exceptions of its own; which of
them a card supports differs from card to card.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: The sensors of a card, the one that its driver throttles by first.
_SENSORS: Final = ("HOTSPOT", "JUNCTION", "EDGE")


class Absent(Exception):
    """There is no library, or it does not answer; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A GPU as it is now, with the names that heartbeats use; `None` where it does not tell."""

    index: int
    name: str
    others_percent: float | None
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: float | None
    power_watts: float | None


def cards(amd: Any = None, ours: Container[int] = ()) -> Iterator[Reading]:
    """Every GPU that the library shows. `amd`: the binding, unless it is to be imported; `ours`: processes that are not
    others'. Raises `Absent`.
    """
    if amd is None:
        try:
            amd = importlib.import_module("amdsmi")
        except Exception:  # It raises what it likes where its library is not there.
            raise Absent("there is no amdsmi here") from None
    try:
        amd.amdsmi_init()
    except Exception as error:
        raise Absent(str(error)) from None
    try:
        handles = _ask(amd, "amdsmi_get_processor_handles") or ()
        yield from [_reading(amd, index, device, ours) for index, device in enumerate(handles)]
    finally:
        with contextlib.suppress(Exception):
            amd.amdsmi_shut_down()


def _reading(amd: Any, index: int, device: Any, ours: Container[int]) -> Reading:
    def told(function: str) -> Mapping[str, Any]:
        answer = _ask(amd, function, device)
        return answer if isinstance(answer, Mapping) else {}

    vram, power, load = (
        told("amdsmi_get_gpu_vram_usage"),
        told("amdsmi_get_power_info"),
        told("amdsmi_get_gpu_activity"),
    )
    total, used = _number(vram.get("vram_total")), _number(vram.get("vram_used"))
    watts = _number(power.get("current_socket_power"))
    busy = _number(load.get("gfx_activity"))
    return Reading(
        index=index,
        name=str(told("amdsmi_get_gpu_asic_info").get("market_name") or "AMD GPU"),
        others_percent=_others(amd, device, busy, ours),
        utilization_percent=busy,
        # It counts in megabytes.
        memory_used_bytes=None if used is None else int(used) << 20,
        memory_total_bytes=None if total is None else int(total) << 20,
        temperature_celsius=next(filter(None, (_temperature(amd, device, sensor) for sensor in _SENSORS)), None),
        # Which of the two a card tells depends on its generation.
        power_watts=_number(power.get("average_socket_power")) if watts is None else watts,
    )


def _temperature(amd: Any, device: Any, sensor: str) -> float | None:
    kind = getattr(getattr(amd, "AmdSmiTemperatureType", None), sensor, None)
    now = getattr(getattr(amd, "AmdSmiTemperatureMetric", None), "CURRENT", None)
    return None if kind is None else _number(_ask(amd, "amdsmi_get_temp_metric", device, kind, now))


def _others(amd: Any, device: Any, busy: float | None, ours: Container[int]) -> float | None:
    """Per cent that processes other than ours use. It tells who holds the GPU, not how much of it: where all of them are
    others it is all, where some are it cannot be told.
    """
    running = _ask(amd, "amdsmi_get_gpu_process_list", device)
    if not isinstance(running, list):
        return None
    pids = [pid for process in running if isinstance(pid := _pid(process), int)]
    others = [pid for pid in pids if pid not in ours]
    if not others:
        return 0.0
    return busy if len(others) == len(pids) else None


def _pid(process: Any) -> Any:
    # Version 5 wrapped each in a dictionary of its own.
    found = process.get("process_info", process) if isinstance(process, Mapping) else {}
    return found.get("pid")


def _ask(amd: Any, function: str, *arguments: Any) -> Any:
    """What it answers; `None` where this version or this card does not."""
    call: Callable[..., Any] | None = getattr(amd, function, None)
    try:
        return None if call is None else call(*arguments)
    except Exception:
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
