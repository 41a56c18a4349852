"""Runs in the sandbox as somebody: in a process of its own, which becomes that user first.

Root in a test is any root; an ordinary user is one who owns nothing here. Jobs speak shell and perl, which every Debian
has.
"""

import asyncio
import base64
import concurrent.futures.thread  # noqa: F401 (asyncio imports it when it is too late)
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pithead.agent.sandbox import Limits, Outcome, Sandbox, View
from pithead.agent.sandbox.cgroups import ROOT as GROUPS

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
#: A user who is nobody here.
NOBODY = 64999
#: What a job gets unless a test says otherwise: little, so that nothing takes long.
SMALL = Limits(memory=96 * MIB, processes=24, scratch=8 * MIB, output=MIB, seconds=20)


@dataclass(frozen=True)
class Who:
    """Who runs the agent, and whether control groups are there."""

    uid: int
    groups: bool

    def __str__(self) -> str:
        return ("root" if self.uid == 0 else "user") + ("-groups" if self.groups else "-limits")


#: As everybody that this process can become.
EVERYBODY = [Who(0, True), Who(0, False), Who(NOBODY, False)] if os.geteuid() == 0 else [Who(os.geteuid(), False)]


@dataclass(frozen=True)
class Job:
    """What to run."""

    command: tuple[str, ...]
    limits: Limits = SMALL
    stdin: bytes = b""
    files: tuple[tuple[str, bytes], ...] = ()
    read: tuple[str, ...] = ()
    #: Files on the disk, by their names in /input.
    shown: tuple[tuple[str, str], ...] = ()


def sh(script: str, **options: Any) -> Job:
    return Job(("/bin/sh", "-c", script), **options)


def perl(script: str, **options: Any) -> Job:
    return Job(("/usr/bin/perl", "-e", "$|=1;" + script), **options)


def start(who: Who, *jobs: Job, **environment: str) -> "subprocess.Popen[bytes]":
    """Begin to run the jobs, all at the same time."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.agent.jail import main; main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | environment,
    )  # fmt: skip
    assert process.stdin is not None
    told = [asdict(job) | {"stdin": _text(job.stdin), "files": [(n, _text(d)) for n, d in job.files]} for job in jobs]
    process.stdin.write(json.dumps({"uid": who.uid, "groups": who.groups, "jobs": told}).encode())
    process.stdin.close()
    process.stdin = None
    return process


def run(who: Who, *jobs: Job, **environment: str) -> list[Outcome]:
    """What the jobs come to."""
    with start(who, *jobs, **environment) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [Outcome(**one | {"output": base64.b64decode(one["output"])}) for one in json.loads(output)]


def with_mark(mark: str) -> list[int]:
    """The processes whose command line has these characters, this one's own driver left out."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue
        if mark.encode() in line:
            found.append(int(folder.name))
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    """The process that becomes somebody."""
    told = json.load(sys.stdin)
    if told["uid"] != os.geteuid():
        os.setgroups([])
        os.setgid(told["uid"])
        os.setuid(told["uid"])
    sys.stdout.write(json.dumps(asyncio.run(_run(told))))


async def _run(told: dict[str, Any]) -> list[dict[str, Any]]:
    sandbox = Sandbox(groups=GROUPS if told["groups"] else None)
    await sandbox.check()

    async def one(job: dict[str, Any]) -> dict[str, Any]:
        outcome = await sandbox.run(
            job["command"],
            Limits(**job["limits"]),
            view=View(read=tuple(map(Path, job["read"]))),
            stdin=base64.b64decode(job["stdin"]),
            files={name: base64.b64decode(data) for name, data in job["files"]}
            | {name: Path(path) for name, path in job["shown"]},
        )
        return asdict(outcome) | {"output": _text(outcome.output)}

    return await asyncio.gather(*map(one, told["jobs"]))
