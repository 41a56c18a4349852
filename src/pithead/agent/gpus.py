"""What the machine has, and how it does: discovery and telemetry through NVIDIA's management library (NVML).

Without a driver the machine is of type `cpu`. Every function takes the NVML binding as an argument; it is `pynvml`
unless another one with the same functions is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

log = logging.getLogger(__name__)

#: Cores that one slot of a machine without GPU stands for: what a language model uses well.
CORES_PER_SLOT: Final = 4

#: Words of NVIDIA's product names that name the type alone, whatever stands beside them (form factor, memory).
#: To make another card known, add the word here; a card that is not here gets its whole name as slug.
DATA_CENTRE: Final = frozenset(
    [
        "p4",
        "p40",
        "p100",
        "v100",
        "v100s",
        "t4",
        "t4g",
        "a2",
        "a10",
        "a10g",
        "a16",
        "a30",
        "a40",
        "a100",
        "a800",
        "l4",
        "l20",
        "l40",
        "l40s",
        "h20",
        "h100",
        "h200",
        "h800",
        "gh200",
        "b200",
        "b300",
        "gb200",
        "gb300",
    ]
)
#: Words that say nothing about the type.
_NOISE: Final = frozenset(
    ["nvidia", "tesla", "geforce", "graphics", "device", "gpu", "generation", "edition", "with", "max", "q", "design"]
)


@dataclass(frozen=True)
class Inventory:
    """What a machine offers: a type, and how many of it (for `cpu`: slots)."""

    gpu_type: str
    count: int
    #: What the owner should know about it; empty where there is nothing to say.
    note: str = ""

    @property
    def has_gpu(self) -> bool:
        """Whether it is more than a processor."""
        return self.gpu_type != "cpu"


def slug(name: str, types: Mapping[str, str] | None = None) -> str:
    """The gpu type of a product name: `NVIDIA A100-SXM4-80GB` is `a100`, `NVIDIA GeForce RTX 4090` is `rtx-4090`.

    `types` is the owner's table, which goes before ours: a part of the product's name, and the type.
    """
    for part, kind in (types or {}).items():
        if part.lower() in name.lower():
            return kind.lower()
    words: list[str] = re.findall(r"[a-z0-9.]+", name.lower())
    for word in words:
        if word in DATA_CENTRE:
            return word
    # Sizes of memory vary within a type.
    telling = [word for word in words if word not in _NOISE and not re.fullmatch(r"\d+gb", word)]
    return "-".join(telling)[:64].strip("-.") or "nvidia-gpu"


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def discover(nvml: Any = None, types: Mapping[str, str] | None = None, amd: Any = None) -> Inventory:
    """The machine's GPUs. Of several types the most numerous is offered, since a miner has one type; the note says so.

    `CUDA_VISIBLE_DEVICES` holds, with indexes or UUIDs: two agents may share out a machine. Never raises: a library that
    is absent or broken means `cpu`, and the note says what is wrong with it.
    """
    try:
        with opened(nvml) as library:
            names = [name(library, device) for device in devices(library)]
    except errors() as error:
        from pynvml import NVMLError_LibraryNotFound

        if not isinstance(error, NVMLError_LibraryNotFound):
            return _processor(f"NVIDIA's driver does not answer ({error}); only the processor is offered")
        names = []
    if not names:
        from pithead.agent.hardware import others

        found = others(amd, types)
        names = [card.name for card in found.cards] if found is not None else []
    if not names:
        return _processor("")
    (chosen, count), *rest = Counter(slug(name, types) for name in names).most_common()
    left = ", ".join(f"{number} × {kind}" for kind, number in rest)
    note = f"a miner has one type: {left} left out; register them apart, with CUDA_VISIBLE_DEVICES and --profile"
    return Inventory(chosen, count, note if rest else "")


def telemetry(nvml: Any = None, amd: Any = None) -> dict[str, Any]:
    """How the GPUs do, for heartbeats; each value `None` where the library does not tell. Empty without GPUs.

    NVIDIA's through NVML, AMD's through `amdsmi`. Of Apple's GPUs nothing is told: what there is takes root's rights
    (`powermetrics`) or a private interface.
    """
    try:
        with opened(nvml) as library:
            ours = our_processes()
            return {"gpus": [_health(library, device, ours) for device in devices(library)]}
    except errors():
        pass
    from pithead.agent import radeon

    try:
        return {"gpus": [asdict(card) for card in radeon.cards(amd, our_processes())]}
    except radeon.Absent:
        return {}


def _processor(note: str) -> Inventory:
    return Inventory("cpu", max(1, cores() // CORES_PER_SLOT), note)


def errors() -> tuple[type[Exception], ...]:
    """What the binding raises."""
    from pynvml import NVMLError, NVMLLibraryMismatchError

    # An AttributeError is a binding too old for a function; a UnicodeDecodeError, a name that the binding cannot read.
    return (NVMLError, NVMLLibraryMismatchError, AttributeError, UnicodeDecodeError)


@contextlib.contextmanager
def opened(nvml: Any) -> Iterator[Any]:
    """The library, ready to be asked."""
    if nvml is None:
        import pynvml

        nvml = pynvml
    nvml.nvmlInit()
    try:
        yield nvml
    finally:
        ask(nvml.nvmlShutdown)


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the library answers; `None` where this driver or this card does not."""
    try:
        return function(*arguments)
    except errors():
        return None


def devices(nvml: Any) -> list[Any]:
    """The GPUs that are visible to CUDA."""
    handles = [ask(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(nvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [handle for handle in handles if handle is not None]
    wanted = [word.strip() for word in visible.split(",") if word.strip()]

    def named(index: int, handle: Any) -> bool:
        uuid = text(ask(nvml.nvmlDeviceGetUUID, handle) or "") if any(w.startswith("GPU-") for w in wanted) else ""
        return str(index) in wanted or any(w.startswith("GPU-") and uuid.startswith(w) for w in wanted)

    return [handle for index, handle in enumerate(handles) if handle is not None and named(index, handle)]


def name(nvml: Any, device: Any) -> str:
    """The product's name."""
    return text(ask(nvml.nvmlDeviceGetName, device) or "")


def text(value: str | bytes) -> str:
    """What the binding says, as text."""
    # Older bindings answer in bytes.
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _health(nvml: Any, device: Any, ours: Container[int]) -> dict[str, Any]:
    load = ask(nvml.nvmlDeviceGetUtilizationRates, device)
    memory = ask(nvml.nvmlDeviceGetMemoryInfo, device)
    power = ask(nvml.nvmlDeviceGetPowerUsage, device)
    return {
        "index": ask(nvml.nvmlDeviceGetIndex, device),
        "name": name(nvml, device) or None,
        "others_percent": _others(nvml, device, None if load is None else load.gpu, ours),
        "utilization_percent": None if load is None else load.gpu,
        "memory_used_bytes": None if memory is None else memory.used,
        "memory_total_bytes": None if memory is None else memory.total,
        "temperature_celsius": ask(nvml.nvmlDeviceGetTemperature, device, CORE_SENSOR),
        "power_watts": None if power is None else power / 1000,
    }


def _others(nvml: Any, device: Any, load: float | None, ours: Container[int]) -> float | None:
    """Per cent of the GPU that processes other than ours use; `None` where that cannot be told.

    Within a container the driver tells numbers of processes outside of it: those are nobody that we know, and not counted.
    """
    since = int((time.time() - _LATELY) * 1e6)
    samples = ask(nvml.nvmlDeviceGetProcessUtilization, device, since)
    if samples is not None:
        last = {sample.pid: sample for sample in sorted(samples, key=lambda sample: int(sample.timeStamp))}
        return float(min(100, sum(s.smUtil for pid, s in last.items() if pid not in ours and _is_here(pid))))
    running = ask(nvml.nvmlDeviceGetComputeRunningProcesses, device)
    if running is None:
        return None
    others = [process.pid for process in running if process.pid not in ours and _is_here(process.pid)]
    if not others:
        return 0.0
    # Where both are at it, whose share is whose cannot be told.
    return load if len(others) == len(running) else None


def our_processes() -> set[int]:
    """This process and all below it."""
    import psutil

    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}


def _is_here(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


#: Seconds over which the use of a GPU is looked at.
_LATELY: Final = 5.0
#: NVML_TEMPERATURE_GPU
CORE_SENSOR: Final = 0


class Sampler:
    """Takes samples in a thread of its own: a driver that hangs must neither hold up a heartbeat nor the end of the agent."""

    def __init__(self, sample: Callable[[], dict[str, Any]] = telemetry) -> None:
        self._sample = sample
        self._running: threading.Thread | None = None
        self._last: dict[str, Any] = {}

    async def take(self, within: float = 1.0) -> dict[str, Any]:
        """A new sample if it comes within so many seconds, else the last one."""
        if self._running is None or not self._running.is_alive():
            done, loop = asyncio.Event(), asyncio.get_running_loop()

            def run() -> None:
                try:
                    self._last = self._sample()
                except Exception:
                    # Nothing depends on a sample.
                    log.exception("the driver's answer cannot be used")
                # The loop may have ended meanwhile.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(done.set)

            self._running = threading.Thread(target=run, name="telemetry", daemon=True)
            self._running.start()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), within)
        return self._last


async def look(within: float = 10.0, types: Mapping[str, str] | None = None) -> Inventory:
    """What `discover` finds within so many seconds; only the processor where the driver hangs. Never raises."""
    found: Inventory | None = (await Sampler(lambda: {"found": discover(types=types)}).take(within)).get("found")
    return found or _processor(f"NVIDIA's driver gave no answer within {within:g} s; only the processor is offered")
