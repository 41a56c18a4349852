"""The load generator: what it reads of an answer, and that nothing odd is counted as one."""

import asyncio
from collections.abc import Callable

import pytest
from bench.load import Answer, LoadError, Script, Stop, drive, find_answer

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


def test_a_whole_answer_is_found() -> None:
    assert find_answer(OK) == Answer(200, len(OK) - 5, len(OK))


@pytest.mark.parametrize("length", range(len(OK)))
def test_a_part_of_an_answer_is_none_yet(length: int) -> None:
    assert find_answer(OK[:length]) is None


def test_the_header_is_found_however_it_is_spelt() -> None:
    assert find_answer(OK.replace(b"content-length", b"Content-Length")) == find_answer(OK)


def test_a_body_that_looks_like_a_header_is_no_header() -> None:
    with pytest.raises(LoadError, match="without a Content-Length"):
        find_answer(b"HTTP/1.1 200 OK\r\n\r\n\r\ncontent-length: 3\r\n\r\nabc")


async def _against(answers: list[list[bytes]], script: Callable[[], Script], seconds: float = 10.0) -> int:
    """Drive a server that gives `answers` in turn, each in pieces; how many requests were counted."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pieces in answers:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                # The pieces go out one by one.
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        window = await drive([port], [script()], 2, Stop(), warm_up=0.0, seconds=seconds)
    return window.requests


async def test_a_script_is_sent_the_bodies_and_its_requests_are_counted() -> None:
    seen: list[bytes] = []

    def script() -> Script:
        seen.append((yield 0, b"GET / HTTP/1.1\r\n\r\n"))
        seen.append((yield 1, b"GET / HTTP/1.1\r\n\r\n"))

    assert await _against([[OK], [OK[:30], OK[30:70], OK[70:]]], script) == 2
    assert seen == [b"hello", b"hello"]


async def test_a_stall_at_the_end_counts_as_time() -> None:
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        await stalled.wait()
        writer.write(OK)
        writer.close()

    def script() -> Script:
        yield 0, b"GET / HTTP/1.1\r\n\r\n"
        yield 0, b"GET / HTTP/1.1\r\n\r\n"

    marks: list[int] = []

    def mark() -> None:
        marks.append(1)
        if len(marks) == 2:
            stalled.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        window = await drive([port], [script()], 1, Stop(), warm_up=0.0, seconds=0.2, mark=mark)
    assert window.requests == 1
    assert window.seconds >= 0.2
    assert window.worst >= 0.1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (OK.replace(b"200 OK", b"409 Conflict"), "an answer of 409: hello"),
        (OK + OK, "more than one answer"),
        (b"", "connection was closed"),
    ],
)
async def test_anything_but_one_good_answer_ends_the_run(answer: bytes, says: str) -> None:
    def script() -> Script:
        yield 0, b"GET / HTTP/1.1\r\n\r\n"

    with pytest.raises(LoadError, match=says):
        await _against([[answer]], script)
