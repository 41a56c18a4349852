"""The bytes of results: up from the miner, hashed as they arrive, and down to the client."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import Any

import pytest
from tests.http.exchange import HASH, Api, Client, World, body, hash_of, problem

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]


async def test_a_hash_that_is_not_that_of_the_bytes_changes_nothing(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    uploaded = body(await miner.upload(job, b"result"))
    assert uploaded == {"job_id": job, "result_hash": hash_of(b"result"), "size": 6}
    problem(await miner.complete(job), 422, "result_hash")
    assert (await client.job(job)).items() >= {"status": "uploading", "result_hash": None}.items()
    assert (await miner.stats())["earnings"] == 0
    body(await miner.complete(job, hash_of(b"result")))
    assert (await client.job(job)).items() >= {"result_hash": hash_of(b"result"), "result_size": 6}.items()


async def test_require_result(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(require_result=True)
    await miner.take(job)
    problem(await miner.complete(job), 409)
    body(await miner.upload(job, b""))
    body(await miner.complete(job, hash_of(b"")))
    answer = await client.get(f"/v1/jobs/{job}/result")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_result_by_its_hash_alone_has_no_bytes(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    problem(await client.get(f"/v1/jobs/{job}/result"), 409)
    await miner.take(job)
    body(await miner.complete(job))
    assert (await client.job(job)).items() >= {"result_hash": HASH, "result_size": None}.items()
    problem(await client.get(f"/v1/jobs/{job}/result"), 404)


async def chunks(count: int, size: int = 100_000) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


async def test_an_upload_is_streamed(roomy: Api) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="stream")
    job = await client.submit(gpu_type="stream")
    await miner.take(job)
    whole = b"".join([chunk async for chunk in chunks(35)])
    assert body(await miner.upload(job, chunks(35))) == {
        "job_id": job, "result_hash": hash_of(whole), "size": 3_500_000,
    }  # fmt: skip
    # Sent again it replaces the first, and the last one counts.
    body(await miner.upload(job, b"another"))
    body(await miner.upload(job, whole))
    body(await miner.complete(job, hash_of(whole)))
    assert (await client.get(f"/v1/jobs/{job}/result")).content == whole


async def test_an_upload_over_the_limit(roomy: Api) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="stream")
    job = await client.submit(gpu_type="stream")
    await miner.take(job)
    problem(await miner.upload(job, b"x" * 4_000_001), 400)
    problem(await miner.upload(job, chunks(41)), 400)
    body(await miner.complete(job))  # nothing is left of them that its hash would be compared with
    assert (await client.job(job))["result_size"] is None


async def test_an_upload_that_is_replaced_or_too_large_leaves_no_file(open_world: OpenWorld) -> None:
    async with open_world(http={"max_result_bytes": 2_000_000}) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        await miner.take(job)
        problem(await miner.upload(job, chunks(21)), 400)
        problem(await miner.upload(job, b"x" * 2_000_001), 400)
        assert world.files() == []
        body(await miner.upload(job, b"one"))
        body(await miner.upload(job, b"two"))
        assert [file.read_bytes() for file in world.files()] == [b"two"]


async def test_an_upload_that_is_cut_leaves_nothing(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    sent: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x" * 1_500_000, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"{miner.base}/jobs/{job}/result"
    headers = [(b"x-api-key", miner.key.encode()), (b"content-length", b"3000000")]
    scope = {
        "type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await world.application.asgi(scope, receive, send)
    assert sent[0]["status"] == 400
    assert world.files() == []
    body(await miner.complete(job))
    assert (await client.job(job))["result_size"] is None


@pytest.fixture
async def delivered(world: World) -> tuple[Client, str, bytes]:
    """A client, its completed job, and the bytes of the result."""
    client, miner = await world.client(), await world.miner()
    job, content = await client.submit(), bytes(range(256)) * 40
    await miner.take(job)
    body(await miner.upload(job, content))
    body(await miner.complete(job, hash_of(content)))
    return client, f"/v1/jobs/{job}/result", content


async def test_a_download_carries_its_digest(delivered: tuple[Client, str, bytes]) -> None:
    client, path, content = delivered
    answer = await client.get(path)
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"sha256-{sha256(content).hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(sha256(content).digest()).decode()}:"
    head = await client.call("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "repr-digest", "accept-ranges"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=10200-", 10_200, 10_240), ("bytes=-40", 10_200, 10_240),
     ("bytes=0-99999", 0, 10_240), ("bytes=-99999", 0, 10_240)],
)  # fmt: skip
async def test_a_range(delivered: tuple[Client, str, bytes], wanted: str, start: int, end: int) -> None:
    client, path, content = delivered
    whole = await client.get(path)
    part = await client.get(path, headers={"Range": wanted})
    assert part.status_code == 206
    assert part.content == content[start:end]
    assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
    for name in ("etag", "repr-digest"):
        assert part.headers[name] == whole.headers[name]


async def test_several_ranges(delivered: tuple[Client, str, bytes]) -> None:
    client, path, content = delivered
    answer = await client.get(path, headers={"Range": "bytes=0-9,100-109"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert content[:10] in answer.content
    assert content[100:110] in answer.content


async def test_other_ranges_and_validators(delivered: tuple[Client, str, bytes]) -> None:
    client, path, content = delivered
    tag = (await client.get(path)).headers["etag"]
    beyond = await client.get(path, headers={"Range": "bytes=10240-"})
    problem(beyond, 416)
    assert beyond.headers["content-range"] == "bytes */10240"
    for unreadable in ("bytes=abc", "lines=1-2", "bytes"):
        answer = await client.get(path, headers={"Range": unreadable})
        assert (answer.status_code, answer.content) == (200, content)
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await client.get(path, headers={"If-None-Match": given})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    # A range of what it was then: the whole, where it is another now.
    assert (await client.get(path, headers={"Range": "bytes=0-9", "If-Range": tag})).status_code == 206
    assert (await client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'})).status_code == 200


async def test_a_connection_that_breaks_off_leaves_nothing(roomy: Api) -> None:
    client, miner = await roomy.client(), await roomy.miner(gpu_type="cut")
    job = await client.submit(gpu_type="cut", require_result=True)
    await miner.take(job)
    url = roomy.http.base_url
    head = f"PUT {miner.base}/jobs/{job}/result HTTP/1.1\r\nHost: x\r\nX-Api-Key: {miner.key}\r\nContent-Length: 2000000\r\n\r\n"
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head.encode() + b"x" * 1_500_000)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    problem(await miner.complete(job), 409)  # what came does not count as the result
    whole = b"y" * 2_000_000
    body(await miner.upload(job, whole))
    body(await miner.complete(job, hash_of(whole)))
    assert (await client.get(f"/v1/jobs/{job}/result")).content == whole
