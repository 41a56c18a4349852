"""What is right and wrong with this machine for a miner, and what to do about each fault."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from pithead.agent import registration
from pithead.agent.checkup import checkup
from pithead.agent.findings import Finding
from pithead.agent.hardware import Hardware, survey
from pithead.agent.owner.settings import Owner, Unreadable, load
from pithead.client import ApiError, MinerClient, PitheadError
from pithead.saved import registrations
from pithead.saved.place import Unusable
from pithead.saved.registrations import Registration

#: Bytes of free disk below which results may not find room.
_LITTLE_DISK: Final = 2 << 30
#: Seconds by which the clocks may differ. Nothing depends on it but what people read.
_SKEW: Final = 30.0


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    hardware: Hardware
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether there is no fault."""
        return all(finding.grade != "fault" for finding in self.findings)


def examine(
    profile: str,
    models_dir: Path,
    *,
    look: Callable[..., Hardware] = survey,
    transport: Any = None,
    wall: Callable[[], float] = time.time,
) -> Diagnosis:
    """Look at everything. `transport` and `wall` are httpx's and the clock's, unless others are given."""
    settings, owner = _settings(profile)
    hardware = look(types=owner.gpu_types)
    findings = [
        *_hardware(hardware),
        settings,
        *_registered(profile, hardware, transport, wall),
        *_disk({"results": registration.spool_of("any").parent, "models": models_dir}),
        _cache(owner),
        *asyncio.run(_runners(models_dir, owner)),
    ]
    return Diagnosis(hardware=hardware, findings=findings)


def _hardware(hardware: Hardware) -> Iterator[Finding]:
    if hardware.vendor == "cpu":
        why = "; ".join(hardware.missing)
        yield Finding(
            name="gpu",
            grade="note",
            found=f"none, only a processor with {hardware.cores} cores ({why})",
            do="if there is a GPU here, install its driver; else offer the machine as cpu",
        )
        return
    kinds = ", ".join(f"{card.index}: {card.name} ({card.gpu_type})" for card in hardware.cards)
    yield Finding(name="gpu", grade="ok", found=kinds)
    if len({card.gpu_type for card in hardware.cards}) > 1:
        yield Finding(
            name="gpu types",
            grade="note",
            found="several types: a miner offers one",
            do="register one --profile for each, with the setting gpus",
        )
    for card in hardware.cards:
        if card.mig is not None:
            parts = ", ".join(card.mig) or "no part of it is made"
            yield Finding(
                name=f"mig of GPU {card.index}",
                grade="note" if card.mig else "fault",
                found=parts,
                do="name the part to offer with CUDA_VISIBLE_DEVICES=MIG-…"
                if card.mig
                else "make one: nvidia-smi mig -cgi",
            )
    if hardware.vendor == "nvidia":
        yield Finding(name="driver", grade="ok", found=hardware.driver or "it does not tell its version")
        if hardware.cuda is None:
            yield Finding(
                name="cuda", grade="fault", found="the driver serves none", do="install NVIDIA's driver with CUDA"
            )
        else:
            yield Finding(name="cuda", grade="ok", found=f"up to {hardware.cuda}")


def _settings(profile: str) -> tuple[Finding, Owner]:
    file = registration.settings_file()
    try:
        owner = load(file, profile)
    except Unreadable as error:
        return Finding(name="settings", grade="fault", found=str(error), do=f"mend {file}"), Owner()
    found = str(file) if file.exists() else "none: everything is allowed"
    if owner.pause not in (None, "no"):
        return Finding(name="settings", grade="note", found=f"paused ({owner.pause})", do="pithead miner resume"), owner
    return Finding(name="settings", grade="ok", found=found), owner


def _registered(profile: str, hardware: Hardware, transport: Any, wall: Callable[[], float]) -> Iterator[Finding]:
    more = "" if profile == "default" else f" --profile {profile}"
    try:
        who = registrations.load(profile)
    except Unusable as unusable:
        yield Finding(name="registration", grade="fault", found=str(unusable), do=f"pithead miner register{more}")
        return
    yield Finding(name="registration", grade="ok", found=f"{who.miner_id} at {who.url}")
    yield from _coordinator(who, hardware, transport, wall)


def _coordinator(who: Registration, hardware: Hardware, transport: Any, wall: Callable[[], float]) -> Iterator[Finding]:
    import httpx

    began = time.monotonic()
    try:
        with MinerClient(who.url, who.miner_id, who.key, retry_for=0, timeout=10, transport=transport) as client:
            view = client.get()
    except ApiError as error:
        yield Finding(
            name="coordinator",
            grade="fault",
            found=error.detail,
            do="if its key was changed give --key to 'pithead miner run', else register again with --force",
        )
        return
    except PitheadError as error:
        yield Finding(
            name="network",
            grade="fault",
            found=str(error),
            do="look at the line, the proxy and the firewall; is it up?",
        )
        return
    yield Finding(name="network", grade="ok", found=f"answered in {1000 * (time.monotonic() - began):.0f} ms")
    working = view.status in ("active", "pending", "offline")
    yield Finding(
        name="coordinator",
        grade="ok" if working else "note",
        found=f"has this miner as {view.status}: {view.gpu_count} × {view.gpu_type}",
        do="" if working else "see 'pithead miner status'",
    )
    kinds = {card.gpu_type for card in hardware.cards}
    if kinds and view.gpu_type not in kinds:
        yield Finding(
            name="gpu as registered",
            grade="fault",
            found=f"{view.gpu_type}, but here is {', '.join(sorted(kinds))}",
            do="register again with --force, or set gpu_types",
        )
    with contextlib.suppress(httpx.HTTPError), httpx.Client(transport=transport, timeout=10) as http:
        said = http.get(who.url).headers.get("Date")
        if said is not None:
            skew = wall() - email.utils.parsedate_to_datetime(said).timestamp()
            grave = abs(skew) > _SKEW
            yield Finding(
                name="clock",
                grade="note" if grave else "ok",
                found=f"{skew:+.0f} s from the coordinator's",
                do="have it set by the network (timedatectl set-ntp true)" if grave else "",
            )


def _disk(folders: dict[str, Path]) -> Iterator[Finding]:
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        little = free < _LITTLE_DISK
        yield Finding(
            name=f"disk for {name}",
            grade="fault" if little else "ok",
            found=f"{free / 1e9:.1f} GB free at {there}",
            do="make room there" if little else "",
        )


def _cache(owner: Owner) -> Finding:
    """Whether there is room for the input files that the owner wants kept."""
    folder = registration.files_folder("any").parent
    there = next(path for path in (folder, *folder.parents) if path.exists())
    kept = sum(file.stat().st_size for file in folder.glob("*/*") if file.is_file())
    room = (kept + shutil.disk_usage(there).free) / 1e9
    little = room < owner.file_cache
    return Finding(
        name="disk for input files",
        grade="note" if little else "ok",
        found=f"{kept / 1e9:.1f} GB kept, of {owner.file_cache:g} GB allowed"
        + (f"; there is room for {room:.1f}" * little),
        do=f"make room at {there}, or pithead miner set file_cache {int(room)}" if little else "",
    )


async def _runners(models_dir: Path, owner: Owner) -> list[Finding]:
    return [found async for found in checkup(models_dir, registration.runners_file(), owner, os.environ)]
