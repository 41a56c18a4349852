"""A file from a form: taken in as the API takes one, with its limits, and given to a job."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.http.exchange import Client, Clock, World, body, run_world
from tests.web.conftest import Place
from tests.web.visitor import Visitor, inputs

from pithead.client.files import is_name
from pithead.web.multipart import Spool, job_name


def hex_of(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def client(place: Place) -> Client:
    """The same client, by its key."""
    return Client(place.world.http, place.town.client_key)


async def test_a_file_from_a_form_is_one_of_the_api_s(place: Place, client: Client) -> None:
    # Longer than a piece, and with everything in it that stands between parts.
    content = (b"\r\n--" + bytes(range(256)) + b"\r\n\r") * 12_000
    answer = await place.client.upload(content, "in.txt")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/files")
    page = (await place.client.get("/dashboard/files")).text
    assert "in.txt is uploaded." in page
    assert hex_of(content) in page
    assert (await client.get(f"/v1/files/{hex_of(content)}")).content == content
    # Once more is no second one; and nothing at all is a file too.
    assert (await place.client.upload(content)).status_code == 303
    assert (await place.client.upload(b"")).status_code == 303
    assert body(await client.get("/v1/files"))["used"] == len(content)
    folder = place.world.application.settings.folder
    assert not [file for file in folder.iterdir() if file.name.startswith("tmp")]


async def test_it_is_given_to_a_job_from_the_form(place: Place, client: Client) -> None:
    answer = await place.client.upload(b"first", "C:\\talks\\My talk.txt", then="job")
    where = answer.headers["location"]
    assert where == f"/dashboard/submit?file={hex_of(b'first')}&name=My-talk.txt"
    await place.client.upload(b"second")
    page = (await place.client.get(where)).text
    form = inputs(page[page.index('action="/dashboard/submit"') :])
    assert form["name0"] == "My-talk.txt"
    assert f'<option value="{hex_of(b"first")}" selected>' in page
    asked = form | {"model": "command:x", "price": "0.05", "prompt": "sum it up"}
    chosen = {"file0": hex_of(b"first"), "file1": hex_of(b"second")}
    answer = await place.client.post("/dashboard/submit", **asked | chosen)
    assert answer.status_code == 303, answer.text
    job = answer.headers["location"].rpartition("/")[2]
    named = [(file["name"], file["sha256"]) for file in (await client.job(job))["input_files"]]
    assert named == [("My-talk.txt", hex_of(b"first")), ("file-2", hex_of(b"second"))]
    assert "My-talk.txt" in (await place.client.get(answer.headers["location"])).text
    # From the page of files, several at once.
    page = (await place.client.get(f"/dashboard/submit?file={hex_of(b'second')}&file={hex_of(b'first')}")).text
    assert page.count(" selected>") == 2


async def test_what_is_wrong_with_a_job_s_file_stands_at_it(place: Place) -> None:
    await place.client.upload(b"mine")
    page = (await place.client.get("/dashboard/submit")).text
    asked = inputs(page[page.index('action="/dashboard/submit"') :]) | {"model": "m", "price": "0.05"}
    answer = await place.client.post(
        "/dashboard/submit", **asked | {"file0": "", "file1": hex_of(b"mine"), "name1": "a/b"}
    )
    assert answer.status_code == 422
    assert 'id="x-file0"' in answer.text and 'value="a/b"' in answer.text
    # One that this account has not: known to others or to nobody, it is all the same.
    unknown = {"file0": hex_of(b"mine"), "file1": "0" * 64}
    answer = await place.client.post("/dashboard/submit", **asked | unknown)
    assert answer.status_code == 422
    assert 'id="x-file1"' in answer.text and 'id="x-file0"' not in answer.text
    assert f'<option value="{"0" * 64}" selected>' in answer.text


# -- what is not taken in


async def test_a_form_that_is_not_ours_is_not_read(place: Place, client: Client) -> None:
    """Not a byte of its file is looked at: the token comes before it."""
    other = Visitor(place.world.http)
    await other.sign_in(place.town.client_key)
    foreign = inputs((await other.get("/dashboard/files")).text)["csrf"]
    for fields in ({}, {"csrf": ""}, {"csrf": foreign}):
        answer = await place.client.call("POST", "/dashboard/files", data=fields, files={"file": ("x", b"x" * 5000)})
        assert (answer.status_code, "This form cannot be taken" in answer.text) == (403, True)
    # Behind the file it comes too late.
    token = inputs((await place.client.get("/dashboard/files")).text)["csrf"].encode()
    parts = {b'name="file"; filename="x"': b"bytes", b'name="csrf"': token}
    assert (await raw(place.client, parts)).status_code == 403
    stranger = await Visitor(place.world.http).call("POST", "/dashboard/files", files={"file": ("x", b"x")})
    assert stranger.headers["location"] == "/dashboard/sign-in"
    assert (await place.miner.call("POST", "/dashboard/files", files={"file": ("x", b"x")})).status_code == 404
    assert body(await client.get("/v1/files"))["files"] == []


async def raw(
    visitor: Visitor, parts: dict[bytes, bytes], end: bytes = b"--x--\r\n", headers: dict[str, str] | None = None
) -> Any:
    """A form as it is on the wire."""
    lines = [b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % one for one in parts.items()]
    given = {"content-type": "multipart/form-data; boundary=x"} | (headers or {})
    return await visitor.call("POST", "/dashboard/files", content=b"".join([*lines, end]), headers=given)


async def test_what_is_no_form_with_a_file_says_so_on_the_page(place: Place, client: Client) -> None:
    token = b'name="csrf"', inputs((await place.client.get("/dashboard/files")).text)["csrf"].encode()
    file = b'name="file"; filename="x"', b"bytes"
    wrong = {
        "There is no file": (422, await raw(place.client, dict([token, (b'name="file"; filename=""', b"")]))),
        "it ended early": (400, await raw(place.client, dict([token, file]), end=b"")),
        "more than one file": (400, await raw(place.client, dict([token, file, (b'filename="y"', b"")]))),
        "it is no form": (400, await raw(place.client, {}, headers={"content-type": "text/plain"})),
        "what a browser sends": (400, await raw(place.client, {}, end=b"nonsense")),
        "fields are too long": (400, await raw(place.client, dict([token, (b'name="a"', b"x" * 70_000)]))),
        "more than 50 fields": (
            400,
            await raw(place.client, dict([token, *((b'name="%d"' % n, b"") for n in range(50))])),
        ),
    }
    for why, (status, answer) in wrong.items():
        assert (answer.status_code, why in answer.text) == (status, True), (why, answer.text)
        assert 'role="alert"' in answer.text and 'id="file"' in answer.text, "one can try again"
    assert body(await client.get("/v1/files"))["files"] == []


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[World, Visitor, Client]]:
    """A client of a coordinator that takes small files, few, and soon has enough of who says nothing."""
    settings: dict[str, Any] = {"files": {"max_bytes": 100_000, "quota": 150_000}, "http": {"upload_silence": 0.05}}
    async with run_world(tmp_path / "small", Clock(), **settings) as world:
        client, visitor = await world.client(), Visitor(world.http)
        await visitor.sign_in(client.key)
        yield world, visitor, client


async def test_limits_are_those_of_the_api(small: tuple[World, Visitor, Client]) -> None:
    _, visitor, client = small
    form = await visitor.get("/dashboard/files")
    assert "Of 97.7 KiB at the most." in form.text
    announced = await raw(visitor, {}, headers={"content-length": "200000"})
    assert (announced.status_code, "may have 100000 bytes" in announced.text) == (400, True), "before a byte was read"
    assert (await visitor.upload(b"x" * 100_001)).status_code == 400
    assert (await visitor.upload(b"x" * 100_000)).status_code == 303
    for announced in (
        await visitor.upload(b"y" * 60_000),
        await raw(visitor, {}, headers={"content-length": "120000"}),
    ):
        assert (announced.status_code, "more are too many; delete some" in announced.text) == (409, True)
    assert (await visitor.upload(b"y" * 50_000)).status_code == 303
    assert body(await client.get("/v1/files"))["used"] == 150_000


# -- while it is on its way


def test_it_lies_on_the_disk_under_a_key_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", tempfile.NamedTemporaryFile)
    with contextlib.closing(Spool(tmp_path)) as spool:
        content = b"nobody's business " * 100_000
        spool.write(content[:7])
        spool.write(content[7:])
        assert (spool.size, spool.digest) == (len(content), hex_of(content))
        spool.rewind()
        [file] = tmp_path.iterdir()
        assert file.stat().st_size == len(content)
        assert b"nobody" not in file.read_bytes()
        assert b"".join(iter(spool.read, b"")) == content
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_is_full_is_said_as_elsewhere(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tempfile.TemporaryFile

    def full(**where: Any) -> Any:
        file = real(**where)
        file.close()
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = await place.client.upload(b"x" * 2_000_000)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "/dev" not in answer.text and 'id="file"' in answer.text
    assert "could not be put down" in caplog.text


async def test_whoever_falls_silent_or_goes_away_is_not_waited_for(small: tuple[World, Visitor, Client]) -> None:
    """Neither is a fault of ours."""
    world, visitor, _ = small
    heard: list[Any] = []

    async def send(message: Any) -> None:
        heard.append(message)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def silent() -> Any:
        await asyncio.Event().wait()

    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items()).encode()
    scope = {
        "type": "http", "method": "POST", "path": "/dashboard/files", "raw_path": b"/dashboard/files", "root_path": "", "scheme": "http",
        "query_string": b"", "headers": [(b"cookie", cookie), (b"content-type", b"multipart/form-data; boundary=x")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "asgi": {"version": "3.0"}, "http_version": "1.1",
    }  # fmt: skip
    for receive in (gone, silent):
        heard.clear()
        await world.application.asgi(dict(scope, state={}), receive, send)
        assert heard[0]["status"] == 400
        assert b"it ended early" in heard[1]["body"]


@pytest.mark.parametrize(
    ("filename", "name"),
    [("in.txt", "in.txt"), ("/etc/passwd", "passwd"), ("a\\b c.txt", "b-c.txt"), ("..", "file"), ("-x", "x"), ("für.bin", "f-r.bin"),
     ("", "file"), ("x" * 200, "x" * 100)],
)  # fmt: skip
def test_a_name_that_no_job_can_have_becomes_one_that_it_can(filename: str, name: str) -> None:
    assert job_name(filename) == name
    assert is_name(name)
