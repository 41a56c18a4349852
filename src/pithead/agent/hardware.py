"""What is in the machine, in full, for `pithead miner doctor`: NVIDIA with MIG, AMD, Apple silicon, or the processor."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pithead.agent import gpus, radeon

#: `nvmlDeviceGetMigMode`: it is on.
_MIG_ON: Final = 1


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU. What it does not tell is `None`."""

    index: int
    name: str
    #: As a job would ask for it.
    gpu_type: str
    uuid: str = ""
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    utilization_percent: float | None = None
    #: The parts that it is cut into, by name, where MIG is on.
    mig: list[str] | None = None


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    #: `nvidia`, `amd`, `apple` or `cpu`.
    vendor: str
    cards: list[Card] = []
    driver: str | None = None
    #: The newest CUDA that the driver serves.
    cuda: str | None = None
    cores: int = 0
    #: What was looked for and not found, and why.
    missing: list[str] = []


def survey(nvml: Any = None, amd: Any = None, types: dict[str, str] | None = None) -> Hardware:
    """Look at the machine. `nvml` and `amd` are the bindings `pynvml` and `amdsmi`, unless others are given. Never raises."""
    missing: list[str] = []
    found = _nvidia(nvml, types or {}, missing) or _amd(amd, missing, types or {}) or _apple()
    return msgspec.structs.replace(found or Hardware(vendor="cpu"), cores=gpus.cores(), missing=missing)


def others(amd: Any = None, types: Mapping[str, str] | None = None) -> Hardware | None:
    """What there is of other makers than NVIDIA. Never raises."""
    return _amd(amd, [], dict(types or {})) or _apple()


def _nvidia(nvml: Any, types: dict[str, str], missing: list[str]) -> Hardware | None:
    try:
        with gpus.opened(nvml) as library:
            ask = gpus.ask
            cards = [_card(library, index, device, types) for index, device in enumerate(gpus.devices(library))]
            if not cards:
                missing.append("NVIDIA: the driver answers, and shows no GPU (see CUDA_VISIBLE_DEVICES)")
                return None
            driver, version = ask(library.nvmlSystemGetDriverVersion), ask(library.nvmlSystemGetCudaDriverVersion)
            cuda = None if version is None else f"{version // 1000}.{version % 1000 // 10}"
            return Hardware(vendor="nvidia", cards=cards, driver=driver and gpus.text(driver), cuda=cuda)
    except gpus.errors() as error:
        missing.append(f"NVIDIA: {error}")
        return None


def _card(nvml: Any, index: int, device: Any, types: dict[str, str]) -> Card:
    ask, name = gpus.ask, gpus.name(nvml, device)
    memory, load = ask(nvml.nvmlDeviceGetMemoryInfo, device), ask(nvml.nvmlDeviceGetUtilizationRates, device)
    power, mode = ask(nvml.nvmlDeviceGetPowerUsage, device), ask(nvml.nvmlDeviceGetMigMode, device)
    return Card(
        index=index,
        name=name,
        gpu_type=gpus.slug(name, types),
        uuid=gpus.text(ask(nvml.nvmlDeviceGetUUID, device) or ""),
        memory_total_bytes=memory and memory.total,
        memory_used_bytes=memory and memory.used,
        temperature_celsius=ask(nvml.nvmlDeviceGetTemperature, device, gpus.CORE_SENSOR),
        power_watts=None if power is None else power / 1000,
        utilization_percent=load and load.gpu,
        mig=list(_mig(nvml, device)) if mode and mode[0] == _MIG_ON else None,
    )


def _mig(nvml: Any, device: Any) -> Iterator[str]:
    for number in range(gpus.ask(nvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0):
        part = gpus.ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, device, number)
        if part is not None:
            yield gpus.name(nvml, part) or f"part {number}"


def _amd(amd: Any, missing: list[str], types: dict[str, str]) -> Hardware | None:
    try:
        found = list(radeon.cards(amd))
    except radeon.Absent as absent:
        missing.append(f"AMD: {absent}")
        return None
    cards = [
        Card(
            index=card.index,
            name=card.name,
            gpu_type=gpus.slug(card.name, types),
            memory_total_bytes=card.memory_total_bytes,
            memory_used_bytes=card.memory_used_bytes,
            temperature_celsius=card.temperature_celsius,
            power_watts=card.power_watts,
            utilization_percent=card.utilization_percent,
        )
        for card in found
    ]
    if cards:
        return Hardware(vendor="amd", cards=cards)
    missing.append("AMD: the driver answers, and shows no GPU")
    return None


def _apple() -> Hardware | None:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    try:
        said = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = "Apple silicon"
    return Hardware(vendor="apple", cards=[Card(index=0, name=said, gpu_type=gpus.slug(said))])
