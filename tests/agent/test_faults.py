"""Faults that agents of this kind are known for, those that the coordinator alone cannot rule out (tests/http/test_faults.py)."""

import asyncio
from typing import Any

import pytest
from tests.agent.nvml import Driver, Gpu, load
from tests.agent.rig import Rig, answered, lost_answer, lost_request
from tests.agent.test_finished import paid_once
from tests.agent.test_llama import assignment

from pithead.agent.gpus import Inventory, discover
from pithead.agent.runners.base import RunFailed
from pithead.agent.runners.llama import BUILT_IN, Llama, built_in


async def test_fault_10_fetching_what_a_client_names(rig: Rig) -> None:
    """An address in a job's input is text or a fault: nothing opens it, and the agent calls nobody but its coordinator."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("a request")
        writer.close()

    runner = Llama(built_in())
    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for url in (address, "file:///etc/passwd", "http://169.254.169.254/latest/meta-data/"):
            refused: tuple[dict[str, Any], ...] = (
                {"url": url},
                {"prompt": "Hi", "webhook": url},
                {"prompt": "Hi", "callback_url": url},
                {"prompt": {"url": url}},
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]},
                {"messages": [{"role": "user", "content": "Hi", "image": url}]},
            )
            for given in refused:
                with pytest.raises(RunFailed) as failed:
                    await runner.run(assignment(given), lambda *_: None)
                assert failed.value.kind == "bad_input"
            async with rig.life() as life:
                work = await life.given(input={"url": url})
                work.done()
                await rig.settled()
    assert asked == []
    names = {"heartbeat", "update", "available", "accept", "progress", "result", "complete", "orders"}
    assert {said.name for said in rig.line.said} <= names | {rig.miner.id}


async def test_fault_12_work_that_is_lost_after_it_was_done(rig: Rig) -> None:
    """A run blocks no heartbeat, however long; and what it made is sent until it has arrived."""
    async with rig.life() as life:
        work = await life.given(require_result=True)
        before = len(rig.line.calls("heartbeat"))
        await rig.passes(3600, step=5)
        assert len(rig.line.calls("heartbeat")) - before == 240
        rig.line.next("result", lost_request, answered(503), answered(500), lost_answer)
        rig.line.next("complete", lost_request, lost_answer)
        work.done(b"an hour's work")
        await rig.passes(300)
        await paid_once(rig, work, b"an hour's work")


async def test_fault_13_gpus_and_models_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight GPUs are eight; and a model that is not here is a failure, never another model's answer."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    load(Driver(*(Gpu() for _ in range(8))), monkeypatch)
    assert discover() == Inventory("v100", 8)
    runner = Llama(built_in())
    for missing in ("gpt2", BUILT_IN.upper(), BUILT_IN + "-large", ""):
        with pytest.raises(RunFailed) as failed:
            await runner.run(assignment({"prompt": "Hi"}, missing), lambda *_: None)
        assert failed.value.kind == "model_missing"
