"""The bytes of results: up from the miner, hashed as they arrive, and down to the client."""

import asyncio
import base64
import email
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from email import policy
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.exchange import HASH, Api, Client, Miner, World, body, hash_of, problem

from pithead.client import AsyncMinerClient

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


async def cut_off(
    world: World, miner: Miner, job: str, came: bytes, offset: int = 0, length: int = 5_000_000
) -> dict[str, Any]:
    """Send these bytes of a longer result, and go away: the problem that would be the answer."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": came, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"{miner.base}/jobs/{job}/result"
    headers = [(b"x-api-key", miner.key.encode()), (b"content-length", str(length).encode())]
    headers += [(b"upload-offset", str(offset).encode())] if offset else []
    scope = {
        "type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await world.application.asgi(scope, receive, send)
    assert sent[0]["status"] == 503
    said: dict[str, Any] = json.loads(sent[1]["body"])
    return said


async def state(miner: Miner, job: str) -> tuple[int, bool]:
    """From which byte on to send, and whether a whole result is there."""
    path = f"/jobs/{job}/result"
    answer = await miner.get(path)
    said = body(answer)
    head = await miner.call("HEAD", path)
    assert head.status_code == 200
    assert head.headers["upload-offset"] == answer.headers["upload-offset"] == str(said["upload_offset"])
    return said["upload_offset"], said["complete"]


async def test_little_of_an_upload_that_is_cut_is_not_kept(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    await cut_off(world, miner, job, b"x" * 1_000_000)
    assert await state(miner, job) == (0, False)
    assert world.files() == []
    body(await miner.complete(job))
    assert (await client.job(job))["result_size"] is None


async def test_an_upload_that_is_cut_is_no_result_and_can_be_gone_on_with(blob_world: World) -> None:
    world = blob_world
    client, miner = await world.client(), await world.miner()
    job = await client.submit(require_result=True)
    whole = bytes(range(256)) * 20_000
    await miner.take(job)
    await cut_off(world, miner, job, whole[:1_500_000])
    assert await state(miner, job) == (1_500_000, False)
    problem(await miner.complete(job, hash_of(whole[:1_500_000])), 409)
    # Cut again, with too little to keep, and then with enough.
    await cut_off(world, miner, job, whole[1_500_000:1_600_000], 1_500_000)
    assert await state(miner, job) == (1_500_000, False)
    await cut_off(world, miner, job, whole[1_500_000:4_000_000], 1_500_000)
    assert await state(miner, job) == (4_000_000, False)
    uploaded = body(await miner.upload(job, whole[4_000_000:], offset=4_000_000))
    assert uploaded == {"job_id": job, "result_hash": hash_of(whole), "size": len(whole)}
    assert await state(miner, job) == (0, True)
    body(await miner.complete(job, hash_of(whole)))
    assert (await client.get(f"/v1/jobs/{job}/result")).content == whole
    assert len(await world.blobs()) == 1  # the parts are gone


async def test_an_upload_that_stands_still_counts_as_broken_off(open_world: OpenWorld) -> None:
    async with open_world(http={"upload_silence": 0.05}) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        await miner.take(job)

        async def stalls() -> AsyncIterator[bytes]:
            yield b"x" * 2_000_000
            await asyncio.Event().wait()

        answer = await miner.upload(job, stalls())
        problem(answer, 503)
        assert (answer.headers["upload-offset"], answer.headers["retry-after"]) == ("2000000", "1")
        assert await state(miner, job) == (2_000_000, False)


async def test_an_upload_can_always_begin_anew(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    await cut_off(world, miner, job, b"x" * 2_000_000)
    assert body(await miner.upload(job, b"short"))["result_hash"] == hash_of(b"short")
    assert await state(miner, job) == (0, True)
    assert [file.read_bytes() for file in world.files()] == [b"short"]


async def test_going_on_from_another_byte_is_refused_and_changes_nothing(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit()
    await miner.take(job)
    problem(await miner.upload(job, b"rest", offset=5), 409)
    await cut_off(world, miner, job, b"x" * 2_000_000)
    for offset in (1, 1_999_999, 2_000_001):
        answer = await miner.upload(job, b"rest", offset=offset)
        problem(answer, 409)
        assert answer.headers["upload-offset"] == "2000000"
    for unreadable in ("-1", "1.5", "x", "9" * 30):
        answer = await miner.put(f"/jobs/{job}/result", content=b"rest", headers={"Upload-Offset": unreadable})
        problem(answer, 422, "Upload-Offset")
    assert await state(miner, job) == (2_000_000, False)


async def test_all_of_an_upload_counts_against_the_limit(open_world: OpenWorld) -> None:
    async with open_world(http={"max_result_bytes": 2_500_000}) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        await miner.take(job)
        await cut_off(world, miner, job, b"x" * 2_000_000, length=2_400_000)
        problem(await miner.upload(job, b"x" * 600_000, offset=2_000_000), 400)
        problem(await miner.upload(job, chunks(6), offset=2_000_000), 400)
        assert body(await miner.upload(job, b"x" * 500_000, offset=2_000_000))["size"] == 2_500_000


async def test_how_far_an_upload_is_is_the_holders_to_know(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job = await client.submit()
    token = (await miner.take(job))["lease_token"]
    problem(await other.get(f"/jobs/{job}/result"), 409)
    problem(await other.get(f"/jobs/{job}/result", headers={"Lease-Token": token}), 409)
    await cut_off(world, miner, job, b"x" * 2_000_000)
    await miner.release(job)
    await world.later(120)
    await other.take(job)
    assert await state(other, job) == (0, False)  # the part is of another attempt
    problem(await miner.get(f"/jobs/{job}/result", headers={"Lease-Token": "lease_other"}), 409)


async def test_another_coordinator_goes_on_with_it(open_world: OpenWorld) -> None:
    whole = b"abcd" * 600_000
    async with open_world() as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        await miner.take(job)
        await cut_off(world, miner, job, whole[:2_000_000])
    async with open_world() as world:
        client, miner = Client(world.http, client.key), Miner(world.http, miner.key, miner.base)
        assert await state(miner, job) == (2_000_000, False)
        body(await miner.upload(job, whole[2_000_000:], offset=2_000_000))
        body(await miner.complete(job, hash_of(whole)))
        assert (await client.get(f"/v1/jobs/{job}/result")).content == whole


@pytest.fixture
async def delivered(blob_world: World) -> tuple[Client, str, bytes]:
    """A client, its completed job, and the bytes of the result."""
    world = blob_world
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
    answer = await client.get(path, headers={"Range": "bytes=100-109,0-9,200-"})
    assert answer.status_code == 206
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/byteranges; boundary=")
    parts = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.content, policy=policy.HTTP)
    found = [(part["content-range"], part.get_payload(decode=True)) for part in parts.walk() if not part.is_multipart()]
    assert found == [
        ("bytes 0-9/10240", content[:10]), ("bytes 100-109/10240", content[100:110]),
        ("bytes 200-10239/10240", content[200:]),
    ]  # fmt: skip
    # Those that touch come as one.
    answer = await client.get(path, headers={"Range": "bytes=0-9,5-19,20-29"})
    assert (answer.headers["content-range"], answer.content) == ("bytes 0-29/10240", content[:30])


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


async def test_bytes_that_are_gone_from_the_store_are_a_clear_answer(
    blob_world: World, delivered: tuple[Client, str, bytes]
) -> None:
    client, path, _ = delivered
    await blob_world.application.blobs.delete([entry.name for entry in await blob_world.blobs()])
    problem(await client.get(path), 404)
    problem(await client.get(path, headers={"Range": "bytes=0-9"}), 404)
    problem(await client.get(path, headers={"Range": "bytes=0-9,20-29"}), 404)


async def test_a_connection_that_breaks_off_leaves_no_result(roomy: Api) -> None:
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


@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "a file"])
async def test_the_sdk_goes_on_with_an_upload_that_broke_off(
    roomy: Api, roomy_url: str, as_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.client.calls.RESUME_FROM", 2_000_000)
    client, miner = await roomy.client(), await roomy.miner(gpu_type="resume")
    job = await client.submit(gpu_type="resume", require_result=True)
    await miner.take(job)
    whole = bytes(range(256)) * 12_000
    url = roomy.http.base_url
    head = f"PUT {miner.base}/jobs/{job}/result HTTP/1.1\r\nHost: x\r\nX-Api-Key: {miner.key}\r\nContent-Length: {len(whole)}\r\n\r\n"
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head.encode() + whole[:2_000_000])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):  # until the coordinator has seen it break
        while body(await miner.get(f"/jobs/{job}/result"))["upload_offset"] != 2_000_000:
            pass
    file = tmp_path / "result"
    file.write_bytes(whole)
    sent: list[tuple[str | None, str | None]] = []

    class Watched(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PUT":
                sent.append((request.headers.get("upload-offset"), request.headers.get("content-length")))
            return await super().handle_async_request(request)

    async with AsyncMinerClient(roomy_url, miner.id, miner.key, transport=Watched()) as sdk:
        uploaded = await sdk.upload(job, file if as_file else whole)
        assert (uploaded.result_hash, uploaded.size) == (hash_of(whole), len(whole))
        assert sent == [("2000000", str(len(whole) - 2_000_000))]
        assert (await sdk.upload_state(job)).complete
        await sdk.complete(job, uploaded.result_hash)
    assert (await client.get(f"/v1/jobs/{job}/result")).content == whole
