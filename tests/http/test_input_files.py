"""Input files: up from the client by their hash, named by jobs, and read by the miner that holds one, and nobody else."""

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.exchange import Client, Party, World, body, problem

from pithead.bootstrap import Application
from pithead.client import AsyncClient, AsyncMinerClient, FileCorrupted, Misused, NotFound, Rest

OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
DAY = 86_400.0


def hex_of(content: bytes) -> str:
    return sha256(content).hexdigest()


async def put(client: Client, content: Any, digest: str | None = None, offset: int | None = None) -> httpx.Response:
    headers = {} if offset is None else {"Upload-Offset": str(offset)}
    return await client.put(f"/v1/files/{digest or hex_of(content)}", content=content, headers=headers)


async def uploaded(client: Client, content: bytes) -> str:
    body(await put(client, content))
    return hex_of(content)


async def named(client: Client, content: bytes = b"a file", **job: Any) -> tuple[str, str]:
    """A job with a file: its id, and the file's hash."""
    digest = await uploaded(client, content)
    return await client.submit(input_files=[{"name": "in.txt", "sha256": digest}], **job), digest


async def left(world: World) -> list[bytes]:
    """What lies in the folder of the blob store."""
    return [file.read_bytes() for file in world.files()]


async def cut_off(application: Application, party: Party, path: str, came: bytes, offset: int = 0) -> dict[str, Any]:
    """Send these bytes of something longer, and go away: the problem that would be the answer."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": came, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-api-key", party.key.encode()), (b"content-length", b"9000000")]
    headers += [(b"upload-offset", str(offset).encode())] if offset else []
    scope = {
        "type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await application.asgi(scope, receive, send)
    assert sent[0]["status"] == 503
    said: dict[str, Any] = json.loads(sent[1]["body"])
    return said


# -- up, and down again to its owner


async def test_a_file_goes_up_and_its_owner_reads_it(world: World) -> None:
    client = await world.client()
    content = bytes(range(256)) * 20
    digest = hex_of(content)
    made = body(await put(client, content))
    assert made == {
        "sha256": digest, "size": 5120, "part_size": None, "created_at": world.clock.now, "touched_at": world.clock.now,
    }  # fmt: skip
    answer = await client.get(f"/v1/files/{digest}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["etag"] == f'"sha256-{digest}"'
    part = await client.get(f"/v1/files/{digest}", headers={"Range": "bytes=256-511"})
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    head = await client.call("HEAD", f"/v1/files/{digest}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5120", b"")
    problem(await client.get(f"/v1/files/{digest}", headers={"Range": "bytes=9999-"}), 416)
    page = body(await client.get("/v1/files"))
    assert page == {"files": [made], "used": 5120, "quota": 107_374_182_400, "next_cursor": None}


async def test_nothing_at_all_is_a_file_too(world: World) -> None:
    client = await world.client()
    digest = await uploaded(client, b"")
    assert (await client.get(f"/v1/files/{digest}")).content == b""


async def test_the_same_content_a_second_time_takes_no_room_and_need_not_be_sent(world: World) -> None:
    client = await world.client()
    digest = await uploaded(client, b"x" * 1000)
    world.clock.now += 50
    again = body(await put(client, b"", digest, offset=1000))
    assert (again["size"], again["touched_at"]) == (1000, world.clock.now)
    body(await put(client, b"x" * 1000))
    # What comes for a file that is there is not looked at: it cannot change it.
    body(await put(client, b"something else", digest))
    assert (await client.get(f"/v1/files/{digest}")).content == b"x" * 1000
    assert await left(world) == [b"x" * 1000]


async def test_bytes_of_another_hash_are_refused_and_leave_nothing(world: World) -> None:
    client = await world.client()
    problem(await put(client, b"one thing", hex_of(b"another")), 422, "sha256")
    problem(await client.get(f"/v1/files/{hex_of(b'another')}"), 404)
    assert body(await client.get("/v1/files"))["files"] == []
    assert await left(world) == []
    for digest in ("A" * 64, "a" * 63, "..", "a" * 65):
        problem(await put(client, b"x", digest), 404)


async def test_an_upload_that_breaks_off_is_gone_on_with(world: World) -> None:
    client = await world.client()
    content = b"".join(bytes([n]) * 1_000_000 for n in range(5))
    path = f"/v1/files/{hex_of(content)}"
    assert body(await client.get(path + "/upload")) == {
        "sha256": hex_of(content), "upload_offset": 0, "complete": False,
    }  # fmt: skip
    await cut_off(world.application, client, path, content[:2_000_000])
    state = await client.get(path + "/upload")
    assert (body(state)["upload_offset"], state.headers["upload-offset"]) == (2_000_000, "2000000")
    [file] = body(await client.get("/v1/files"))["files"]
    assert (file["size"], file["part_size"]) == (None, 2_000_000)
    problem(await client.get(path), 404)
    problem(await put(client, b"x", hex_of(content), offset=5), 409)
    await cut_off(world.application, client, path, content[2_000_000:4_000_000], offset=2_000_000)
    body(await put(client, content[4_000_000:], hex_of(content), offset=4_000_000))
    assert (await client.get(path)).content == content
    assert await left(world) == [content]
    state = await client.get(path + "/upload")
    assert (body(state)["upload_offset"], body(state)["complete"]) == (5_000_000, True)


async def test_a_part_that_was_something_else_is_given_up(world: World) -> None:
    client = await world.client()
    content = b"x" * 2_000_000 + b"end"
    path = f"/v1/files/{hex_of(content)}"
    await cut_off(world.application, client, path, b"y" * 2_000_000)
    problem(await put(client, b"end", hex_of(content), offset=2_000_000), 422, "sha256")
    assert body(await client.get(path + "/upload"))["upload_offset"] == 0
    assert await left(world) == []
    body(await put(client, content))


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


async def test_a_file_has_a_largest_size_and_an_account_a_quota(open_world: OpenWorld) -> None:
    async with open_world(files={"max_bytes": 1000, "quota": 1500}) as world:
        client, other = await world.client(), await world.client()
        problem(await put(client, b"x" * 1001), 400)
        problem(await put(client, chunks(11, 100), hex_of(b"x" * 1100)), 400)
        first = await uploaded(client, b"x" * 1000)
        refused = problem(await put(client, b"y" * 501), 409)
        assert refused["type"] == "/problems/file-quota-exceeded"
        # Where the length is not announced it is found out by counting.
        problem(await put(client, chunks(6, 100), hex_of(b"x" * 600)), 409)
        assert await left(world) == [b"x" * 1000]
        await uploaded(client, b"y" * 500)
        # One's own: somebody else's room is another matter.
        await uploaded(other, b"x" * 1000)
        assert body(await client.get("/v1/files"))["used"] == 1500
        gone = body(await client.delete(f"/v1/files/{first}"))
        assert gone["size"] == 1000
        await uploaded(client, b"z" * 900)


async def test_somebody_else_can_neither_read_nor_name_nor_delete_a_file_nor_find_out_that_it_is_there(
    world: World,
) -> None:
    owner, other = await world.client(), await world.client()
    secret = await uploaded(owner, b"a secret")
    unknown = hex_of(b"nobody's")

    async def ask(digest: str) -> list[tuple[int, str, Any]]:
        path = f"/v1/files/{digest}"
        answers = [
            await other.get(path),
            await other.call("HEAD", path),
            await other.get(path + "/upload"),
            await other.delete(path),
            await other.post("/v1/jobs", json=job_with(digest)),
            # Nor by sending nothing, or something else, in the hope that the rest is there.
            await put(other, b"", digest, offset=8),
            await put(other, b"a guess", digest),
        ]
        return [(a.status_code, a.text.replace(digest, "…"), a.headers.get("upload-offset")) for a in answers]

    def job_with(digest: str) -> dict[str, Any]:
        return {
            "model": "gpt2", "input": {}, "price": 0.05, "input_files": [{"name": "in", "sha256": digest}],
        }  # fmt: skip

    def without_ids(answers: list[tuple[int, str, Any]]) -> list[tuple[int, str, Any]]:
        return [(status, text.partition('"request_id"')[0], offset) for status, text, offset in answers]

    told, nothing = without_ids(await ask(secret)), without_ids(await ask(unknown))
    assert told == nothing
    assert [status for status, _, _ in told] == [404, 404, 200, 404, 422, 409, 422]
    assert body(await other.get("/v1/files"))["files"] == []
    # Who has the bytes has the file, as a file of their own, whoever else has it.
    await uploaded(other, b"a secret")
    await other.delete(f"/v1/files/{secret}")
    assert (await owner.get(f"/v1/files/{secret}")).content == b"a secret"


# -- named by jobs


async def test_a_job_says_what_it_needs_and_its_miner_is_told(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    digest = await uploaded(client, b"a file")
    files = [{"name": "in.txt", "sha256": digest}, {"name": "again", "sha256": digest}]
    limits = {"wall_clock_seconds": 90, "memory_bytes": 1 << 30, "pids": 5}
    job = await client.submit(input_files=files, limits=limits)
    told = [file | {"size": 6} for file in files]
    assert (await client.job(job)).items() >= {"input_files": told, "limits": limits}.items()
    assignment = await miner.take(job)
    assert (assignment["input_files"], assignment["limits"]) == (told, limits)
    assert (await miner.take(job))["input_files"] == told
    only = await client.submit(limits={"output_bytes": 7})
    assignment = await miner.take(only)
    assert assignment["limits"] == {"output_bytes": 7}
    assert "input_files" not in assignment


async def test_a_job_that_needs_nothing_is_told_of_as_before(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(input_files=[])
    for told in (await client.job(job), await miner.take(job)):
        assert not {"input_files", "limits"} & told.keys()


async def test_a_name_that_could_lead_elsewhere_is_refused(world: World) -> None:
    client = await world.client()
    digest = await uploaded(client, b"a file")
    for name in ("", ".", "..", "../x", "a/b", "a\\b", "/x", ".hidden", "a\n", "a b", "ü", "x" * 101, "a\0b"):
        files = [{"name": name, "sha256": digest}]
        answer = await client.post("/v1/jobs", json={"model": "m", "input": {}, "price": 0, "input_files": files})
        problem(answer, 422, "input_files[0].name")


async def test_what_a_job_cannot_name_is_refused_with_its_field(world: World) -> None:
    client = await world.client()
    digest = await uploaded(client, b"a file")
    base: dict[str, Any] = {"model": "m", "input": {}, "price": 0.05}

    async def refused(job: dict[str, Any], *fields: str) -> dict[str, Any]:
        return problem(await client.post("/v1/jobs", json=base | job), 422, *fields)

    twice = [{"name": "a", "sha256": digest}] * 2
    await refused({"input_files": twice}, "input_files[1].name")
    await refused({"input_files": [{"name": "a", "sha256": digest.upper()}]}, "input_files[0].sha256")
    await refused({"input_files": [{"name": f"f{n}", "sha256": digest} for n in range(101)]}, "input_files")
    await refused({"limits": {"memory_bytes": 0}}, "limits.memory_bytes")
    await refused({"limits": {"memory": 5}}, "limits.memory")
    missing = [{"name": "a", "sha256": digest}, {"name": "b", "sha256": "0" * 64}]
    said = await refused({"input_files": missing}, "input_files[1].sha256")
    assert said["type"] == "/problems/input-file-unknown"
    assert f"PUT /v1/files/{'0' * 64}" in said["errors"][0]["message"]
    batch = {"jobs": [base, base | {"input_files": missing}]}
    problem(await client.post("/v1/jobs/batch", json=batch), 422, "jobs[1].input_files[1].sha256")
    assert (await client.balance()) == (100, 0)
    many = base | {"input_files": [{"name": f"f{n}", "sha256": digest} for n in range(100)]}
    problem(await client.post("/v1/jobs/batch", json={"jobs": [many] * 51}), 422, "jobs")
    good = {"jobs": [base | {"input_files": twice[:1]}, base, base | {"input_files": twice[:1]}]}
    assert len(body(await client.post("/v1/jobs/batch", json=good), 201)["jobs"]) == 3


async def test_a_part_of_a_file_cannot_be_named(world: World) -> None:
    client = await world.client()
    content = b"x" * 3_000_000
    await cut_off(world.application, client, f"/v1/files/{hex_of(content)}", content[:2_000_000])
    files = [{"name": "a", "sha256": hex_of(content)}]
    problem(
        await client.post("/v1/jobs", json={"model": "m", "input": {}, "price": 0, "input_files": files}),
        422,
        "input_files[0].sha256",
    )


# -- read by who holds the job


async def test_the_holder_reads_the_jobs_files_and_nobody_else_does(world: World) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job, digest = await named(client)
    unnamed = await uploaded(client, b"not for this job")
    path = f"/jobs/{job}/files/{digest}"
    problem(await miner.get(path), 404)
    token = (await miner.take(job))["lease_token"]
    answer = await miner.get(path, headers={"Lease-Token": token})
    assert (answer.status_code, answer.content) == (200, b"a file")
    assert (await miner.get(path)).content == b"a file"
    part = await miner.get(path, headers={"Range": "bytes=2-", "If-Range": answer.headers["etag"]})
    assert (part.status_code, part.content) == (206, b"file")
    for wrong in (unnamed, "0" * 64, "..", "A" * 64):
        problem(await miner.get(f"/jobs/{job}/files/{wrong}"), 404)
    problem(await miner.get(path, headers={"Lease-Token": "lease_guessed"}), 404)
    # Another miner: on its own path, with its own job, and on the holder's path.
    problem(await other.get(path), 404)
    elsewhere = await client.submit()
    await other.take(elsewhere)
    problem(await other.get(f"/jobs/{elsewhere}/files/{digest}"), 404)
    problem(await Party(world.http, other.key).get(miner.base + path), 404)
    problem(await Party(world.http, client.key).get(miner.base + path), 404)


@pytest.mark.parametrize("end", ["complete", "fail", "release", "cancel", "lapse", "lapse-and-taken", "expire"])
async def test_when_the_lease_ends_so_does_the_reading(world: World, end: str) -> None:
    client, miner, other = await world.client(), await world.miner(), await world.miner()
    job, digest = await named(client, timeout=1000)
    path = f"/jobs/{job}/files/{digest}"
    await miner.take(job)
    assert (await miner.get(path)).status_code == 200
    match end:
        case "complete":
            body(await miner.complete(job))
        case "fail":
            body(await miner.fail(job))
        case "release":
            body(await miner.release(job))
        case "cancel":
            await client.delete(f"/v1/jobs/{job}")
        case "expire":
            await world.later(1001)
        case _:
            await world.later(121)
    if end == "lapse-and-taken":
        await other.beat()
        await other.take(job)
        assert (await other.get(path)).status_code == 200
    problem(await miner.get(path), 409)


# -- how long they are kept


async def test_a_file_is_kept_while_a_job_needs_it_and_then_for_its_time(world: World) -> None:
    client, miner = await world.client(), await world.miner()
    job, digest = await named(client, timeout=60 * DAY)
    await uploaded(client, b"another")
    problem(await client.delete(f"/v1/files/{digest}"), 409)
    await world.later(29 * DAY)
    assert len(await left(world)) == 2
    await world.later(2 * DAY)
    assert await left(world) == [b"a file"], "the other one's time is over"
    problem(await client.delete(f"/v1/files/{digest}"), 409)
    await miner.beat()
    await miner.take(job)
    assert (await miner.get(f"/jobs/{job}/files/{digest}")).content == b"a file"
    body(await miner.complete(job))
    await world.later(1)
    assert await left(world) == []
    assert body(await client.get("/v1/files")) == {
        "files": [], "used": 0, "quota": 107_374_182_400, "next_cursor": None,
    }  # fmt: skip


async def test_naming_it_again_or_sending_it_again_keeps_it(world: World) -> None:
    client = await world.client()
    job, digest = await named(client)
    await client.delete(f"/v1/jobs/{job}")
    for again in ("name", "send", "last"):
        await world.later(20 * DAY)
        assert len(await left(world)) == 1, again
        if again == "name":
            job, _ = await client.submit(input_files=[{"name": "in", "sha256": digest}]), None
            await client.delete(f"/v1/jobs/{job}")
        else:
            body(await put(client, b"", digest, offset=6))
    body(await client.delete(f"/v1/files/{digest}"))
    assert await left(world) == []


async def test_what_is_not_whole_is_kept_for_a_day(open_world: OpenWorld) -> None:
    async with open_world(retention={"files": 0}) as world:
        client = await world.client()
        await uploaded(client, b"whole")
        await cut_off(world.application, client, f"/v1/files/{'0' * 64}", b"x" * 2_000_000)
        await world.later(DAY - 10)
        assert len(await left(world)) == 2
        await world.later(400 * DAY)
        assert await left(world) == [b"whole"], "for ever, where the setting says so"
        # And what a coordinator that died left of one that is gone is an orphan.
        while await world.application.collector.turn():
            pass
        assert await left(world) == [b"whole"]


# -- through the SDK


async def test_the_sdk_uploads_what_is_missing_and_submits(world: World, tmp_path: Path) -> None:
    client, miner = await world.client(), await world.miner()
    big, small = tmp_path / "big.bin", tmp_path / "small.txt"
    keep(big, b"x" * 3_000_000)
    keep(small, b"small")
    told: list[tuple[str, int, int]] = []
    wire = Counting(world.application.asgi)
    async with AsyncClient("http://pithead", client.key, transport=wire) as sdk:
        for _ in range(2):
            job = await sdk.submit(
                "gpt2", {}, price="0.05", gpu_type="v100", estimated_time=600, files=[big, small],
                on_upload=lambda *step: told.append(step), limits={"pids": 3},
            )  # fmt: skip
        assert wire.sent < 3_100_000, "what is there is not sent again"
        assert told[-1] == ("small.txt", 5, 5)
        assert ("big.bin", 3_000_000, 3_000_000) in told
        view = await sdk.job(job.job_id)
        assert isinstance(view.input_files, list)
        assert [(file.name, file.size) for file in view.input_files] == [("big.bin", 3_000_000), ("small.txt", 5)]
        assert [file.size async for file in sdk.iter_files(page_size=1)] == [5, 3_000_000]
        renamed = await sdk.submit("gpt2", {}, price=0, files={"in": small})
        assert [file.name for file in (await sdk.job(renamed.job_id)).input_files or ()] == ["in"]
        copy = await sdk.download_file(hex_of(b"x" * 3_000_000), tmp_path / "copy")
        assert hex_of(copy.read_bytes()) == hex_of(b"x" * 3_000_000)
        with pytest.raises(Misused, match="no file that is there"):
            await sdk.submit("gpt2", {}, price=0, files=[tmp_path / "nowhere"])
        with pytest.raises(Misused, match="two files of the job are called"):
            await sdk.submit("gpt2", {}, price=0, files=[small, small])
        with pytest.raises(Misused, match=r"cannot call a file '\.\./x'"):
            await sdk.submit("gpt2", {}, price=0, files={"../x": small})
        with pytest.raises(NotFound):
            await sdk.download_file("0" * 64, tmp_path / "none")
        assert files_in(tmp_path) == ["big.bin", "copy", "small.txt"]
    await miner.take(job.job_id)
    transport = httpx.ASGITransport(world.application.asgi)
    async with AsyncMinerClient("http://pithead", miner.id, miner.key, transport=transport) as machine:
        begun = io.BytesIO(b"x" * 1_000_000)
        rest = Rest(hex_of(b"x" * 3_000_000), begun, size=3_000_000)
        assert await machine.fetch_input(job.job_id, rest) == 3_000_000
        assert begun.getvalue() == b"x" * 3_000_000
        damaged = io.BytesIO(b"yy")
        with pytest.raises(FileCorrupted, match="another hash"):
            await machine.fetch_input(job.job_id, Rest(hex_of(b"small"), damaged))


class Counting(httpx.AsyncBaseTransport):
    """Counts the bytes that go up."""

    def __init__(self, asgi: Any) -> None:
        self.sent, self._inner = 0, httpx.ASGITransport(asgi)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += len(await request.aread())
        return await self._inner.handle_async_request(request)


def keep(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())
