"""A rig for each test of the agent, on a clock that the test moves."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.agent import podman
from tests.agent.rig import Line, Rig, Time
from tests.http.exchange import run_world

#: What needs a container engine that works, or PyTorch; where there is none, `test_containers.py` and `test_transformers.py`
#: test what these would be told.
collect_ignore = [
    *([] if podman.works() else ["test_container_escape.py"]),
    *([] if find_spec("torch") and find_spec("transformers") else ["test_pipelines.py"]),
]
#: Seconds – real ones – that a test of the agent may take.
PATIENCE = 30.0


@pytest.fixture
async def dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """A rig without a coordinator yet."""
    loop, time = asyncio.get_running_loop(), Time()
    rig = Rig(time, partial(run_world, tmp_path / "data", time), tmp_path / "spool", Line())
    in_executor = loop.run_in_executor

    def counted(*args: Any) -> "asyncio.Future[Any]":
        # Threads take real time: it is waited for them, not passed over.
        future = in_executor(*args)
        rig.threads += 1

        def ended(_: object) -> None:
            rig.threads -= 1
            rig.line.stirred.set()

        future.add_done_callback(ended)
        return future

    monkeypatch.setattr(loop, "run_in_executor", counted)
    monkeypatch.setattr(loop, "time", time.monotonic)
    watch = threading.Timer(PATIENCE, loop.call_soon_threadsafe, (rig.give_up,))
    watch.start()
    yield rig
    watch.cancel()


@pytest.fixture
async def rig(dark: Rig) -> AsyncIterator[Rig]:
    """A rig with a coordinator, a client and the agent's miner."""
    async with dark.peopled():
        yield dark
