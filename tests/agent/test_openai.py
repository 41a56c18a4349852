"""A model server that the owner runs: llama.cpp's, for real; and servers that misbehave."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.agent.test_llama import Runs, assignment

from pithead.agent.runners.base import RunFailed
from pithead.agent.runners.llama import BUILT_IN, Llama, Options, built_in
from pithead.agent.runners.openai import OpenAI, Server

ROOT = Path(__file__).parents[2]
KEY = {"THE_KEY": "sesame"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A real llama.cpp server."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.agent.openai_server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        # Its threads would spin, and the other model's wait for them.
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()
        process.wait(10)


@pytest.fixture
async def runs(address: str) -> Runs:
    runner = await OpenAI.discover(Server(url=address, key_env="THE_KEY"), KEY)
    return Runs(runner)  # type: ignore[arg-type]


async def test_models_are_those_that_the_server_names_or_the_owner_picks_of_them(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def models(*picked: str) -> list[str]:
        server = Server(url=address, key_env="THE_KEY", models=list(picked) or None)
        return (await OpenAI.discover(server, KEY)).models()

    assert await models() == ["served"]
    assert await models("served", "other") == ["served"]
    assert "has no model other" in caplog.text
    assert await models("other") == []


async def test_it_answers_as_the_built_in_runner_does(runs: Runs) -> None:
    """In the same shape, and here, where it is the same model on the same machine, with the same words."""
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12}
    text: dict[str, Any] = {"prompt": "1, 2, 3, 4,", "max_tokens": 8, "stop": ["9"]}
    own = Llama(built_in(), Options(context=1024, threads=2))
    for given in (chat, text):
        served = await runs("served", **given)
        assert await runs("served", **given) == served
        assert served | {"model": BUILT_IN} == await Runs(own)(**given)
    assert runs.metrics.completion_tokens
    await own.close()


async def test_a_run_tells_how_far_it_is_and_stops_where_it_is_cancelled(runs: Runs) -> None:
    task = asyncio.create_task(runs("served", prompt="Once upon a time", max_tokens=900, stop=["zzzz"]))
    await asyncio.wait_for(runs.tells.wait(), 30)
    assert runs.told[0][1].endswith(" tokens")
    task.cancel()
    await asyncio.wait([task], timeout=2)
    assert task.cancelled()
    # The server has one place: it is free again at once.
    await asyncio.wait_for(runs("served", prompt="Hi", max_tokens=1), 10)


async def test_what_the_server_refuses_is_the_inputs_fault(runs: Runs) -> None:
    kind, reason = await runs.refused("served", prompt="word " * 3000, max_tokens=1)
    assert kind == "bad_input"
    assert "400" in reason
    assert (await runs.refused("other", prompt="Hi"))[0] == "model_missing"
    assert (await runs.refused("served", prompt="Hi", n=3))[0] == "bad_input"


async def test_a_wrong_key_offers_nothing_and_is_not_told_to_clients(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(url=address, key_env="THE_KEY")
    assert (await OpenAI.discover(server, {"THE_KEY": "guess"})).models() == []
    with pytest.raises(RunFailed) as failed:
        await OpenAI(server, ["served"], "guess").run(assignment({"prompt": "Hi"}, "served"), lambda *_: None)
    assert failed.value.kind == "runner_missing"
    assert "guess" not in failed.value.reason + caplog.text


# ---- servers that misbehave

Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(*said: str, status: str = "200 OK", headers: str = "") -> AsyncIterator[Server]:
    """A server that answers every call with these bytes, and ends there."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = "".join(said)
        writer.write(f"HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield Server(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")


def chunk(**fields: Any) -> str:
    return f"data: {json.dumps({'choices': [fields]})}\n\n"


async def failure(server: Server) -> tuple[str, str]:
    with pytest.raises(RunFailed) as failed:
        await OpenAI(server, ["m"]).run(assignment({"prompt": "Hi"}, "m"), lambda *_: None)
    return failed.value.kind, failed.value.reason


@pytest.mark.parametrize(
    "said",
    [
        (),
        (chunk(text="half"),),
        ("data: [DONE]\n\n",),
        ("data: {\n\n",),
        ("data: []\n\n",),
        ("data: 5\n\n",),
        ('data: {"choices": [5]}\n\n',),
        ('data: {"error": {"message": "no memory"}}\n\n',),
        ('data: {"usage": {"prompt_tokens": "many"}, "choices": []}\n\n',),
    ],
)
async def test_half_an_answer_is_none(said: tuple[str, ...]) -> None:
    async with serving(*said) as server:
        assert (await failure(server))[0] == "error"


async def test_a_server_that_counts_nothing_is_counted_for() -> None:
    async with serving(chunk(text="a"), chunk(text="b", finish_reason="stop"), ": a comment\n\n") as server:
        result = await OpenAI(server, ["m"]).run(assignment({"prompt": "Hi"}, "m"), lambda *_: None)
    document = json.loads(result.data)
    assert document["choices"][0] == {"finish_reason": "stop", "index": 0, "text": "ab"}
    assert document["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [("500 Oops", "error"), ("404 No", "model_missing"), ("422 No", "bad_input"), ("429 Slow", "error")],
)
async def test_refusals_have_the_kind_that_decides_whether_another_may_try(status: str, kind: str) -> None:
    async with serving('{"error": {"message": "see /home/me/secret"}}', status=status) as server:
        found, reason = await failure(server)
    assert found == kind
    assert "/home/me" not in reason


async def test_nothing_leads_from_the_owners_server_to_another() -> None:
    reached = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(1)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as other:
        away = f"Location: http://127.0.0.1:{other.sockets[0].getsockname()[1]}/\r\n"
        async with serving(status="307 Elsewhere", headers=away) as server:
            assert (await failure(server))[0] == "error"
            assert (await OpenAI.discover(server, {})).models() == []
    assert reached == []


async def test_a_server_that_is_not_there_is_for_another_miner_to_make_up_for(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        pass
    assert (await failure(server))[0] == "runner_missing"
    assert (await OpenAI.discover(server, {})).models() == []
    assert "does not name its models" in caplog.text


async def test_what_is_no_list_of_models_offers_none() -> None:
    for said in ("", "[]", '{"data": 5}', '{"data": [{}]}', '{"data": [5]}'):
        async with serving(said) as server:
            assert (await OpenAI.discover(server, {})).models() == []
