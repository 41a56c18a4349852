"""Input files on the miner's machine: fetched once, checked, kept, and never where a name leads."""

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agent.rig import Hands, Life, Rig, Work, answered
from tests.http.exchange import body

from pithead.agent.cache import Cache
from pithead.agent.line import Pace
from pithead.client import Rest

A, B, C = b"a" * 1000, b"b" * 1000, b"c" * 1000


def hex_of(content: bytes) -> str:
    return sha256(content).hexdigest()


class Reader(Hands):
    """A runner that makes use of files."""

    def takes_files(self, model: str) -> bool:
        return True


class Place:
    """A cache, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limit = 10_000
        self.moved = 0
        self.cache = Cache(folder, lambda: self.limit, self._moved)

    def _moved(self, size: int) -> None:
        self.moved += size

    def there(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()} if self.folder.is_dir() else set()

    def file(self, content: bytes) -> Path:
        return self.folder / hex_of(content)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "cache")


@contextlib.asynccontextmanager
async def reading(rig: Rig, place: Place, **more: Any) -> AsyncIterator[Life]:
    async with rig.life(Reader("gpt2"), cache=place.cache, **more) as life:
        yield life


async def submitted(rig: Rig, *contents: bytes, **job: Any) -> str:
    for content in contents:
        body(await rig.client.put(f"/v1/files/{hex_of(content)}", content=content))
    files = [{"name": f"in{number}", "sha256": hex_of(content)} for number, content in enumerate(contents)]
    return await rig.client.submit(input_files=files, **job)


async def given(rig: Rig, life: Life, *contents: bytes, **job: Any) -> Work:
    """A job with these files, which the agent must run: its run."""
    known = len(life.hands.works)
    job_id = await submitted(rig, *contents, **job)
    await rig.settled()
    [work] = life.hands.works[known:]
    assert work.job == job_id
    return work


def read(work: Work) -> list[bytes]:
    return [path.read_bytes() for _, path in sorted(work.assignment.files.items())]  # type: ignore[attr-defined]


def fetches(rig: Rig, content: bytes) -> int:
    return sum(said.name == hex_of(content) for said in rig.line.said)


async def failure(rig: Rig, job: str) -> tuple[str, str]:
    said = (await rig.client.job(job))["failure"]
    return said["kind"], said["reason"]


async def test_a_file_is_fetched_once_and_is_there_for_later_jobs(rig: Rig, place: Place) -> None:
    async with reading(rig, place) as life:
        first = await given(rig, life, A, B)
        assert read(first) == [A, B]
        assert list(first.assignment.files) == ["in0", "in1"]  # type: ignore[attr-defined]
        second = await given(rig, life, B, A)
        assert read(second) == [B, A]
        for work in (first, second):
            work.done()
        await rig.settled()
        third = await given(rig, life, A, A)
        assert read(third) == [A, A]
        assert (fetches(rig, A), fetches(rig, B), place.moved) == (1, 1, 2000)
        assert place.file(A).stat().st_mode & 0o777 == 0o444
        assert place.folder.stat().st_mode & 0o777 == 0o700
    # And for the next life.
    async with reading(rig, Place(place.folder)) as life:
        await rig.passes(130)
        fourth = await given(rig, life, A)
        assert read(fourth) == [A]
        assert fetches(rig, A) == 1


async def test_jobs_that_need_the_same_file_at_once_wait_for_one_fetch(rig: Rig, place: Place) -> None:
    async with reading(rig, place) as life:
        gate = rig.line.gate(hex_of(A))
        jobs = [await submitted(rig, A) for _ in range(3)]
        await rig.settled()
        assert gate.reached
        assert life.hands.works == []
        gate.open()
        await rig.settled()
        assert sorted(work.job for work in life.hands.works) == sorted(jobs)
        assert [read(work) for work in life.hands.works] == [[A]] * 3
        assert fetches(rig, A) == 1


async def test_a_fetch_whose_job_ends_is_gone_on_with_by_the_next(rig: Rig, place: Place) -> None:
    big = os.urandom(3_000_000)
    place.limit = 10_000_000
    async with reading(rig, place) as life:
        rig.line.next(hex_of(big), cut_after(1_500_000))
        gate = rig.line.gate(hex_of(big))
        first, second = await submitted(rig, big), await submitted(rig, big)
        await rig.passes(3)
        assert gate.reached
        await rig.client.delete(f"/v1/jobs/{first}")
        await rig.passes(20)
        [work] = life.hands.works
        assert (work.job, read(work)) == (second, [big])
        asked = [said.range for said in rig.line.said if said.name == hex_of(big)]
        assert asked == [None, "bytes=1048576-", "bytes=1048576-"]


def cut_after(count: int) -> Callable[[Callable[[], Awaitable[httpx.Response]]], Awaitable[httpx.Response]]:
    """The connection breaks after so many bytes of the answer."""

    async def fault(forward: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        response = await forward()
        content = await response.aread()

        async def some() -> AsyncIterator[bytes]:
            yield content[:count]
            raise httpx.ReadError("the connection broke")

        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return httpx.Response(response.status_code, headers=headers, content=some())

    return fault


async def test_a_broken_line_and_an_absent_coordinator_cost_no_byte_twice(rig: Rig, place: Place) -> None:
    big = os.urandom(5_000_000)
    place.limit = 10_000_000
    async with reading(rig, place) as life:
        rig.line.next(hex_of(big), cut_after(1_500_000), answered(503), cut_after(2_500_000))
        await submitted(rig, big)
        await rig.passes(30)
        [work] = life.hands.works
        assert read(work) == [big]
        asked = [said.range for said in rig.line.said if said.name == hex_of(big)]
        assert asked == [None, "bytes=1048576-", "bytes=1048576-", "bytes=3145728-"]
        assert place.moved == 5_000_000


async def test_a_file_that_arrives_as_another_is_fetched_again_and_else_fails_the_job(rig: Rig, place: Place) -> None:
    async def other(forward: Any) -> httpx.Response:
        return httpx.Response(200, content=B)

    async def longer(forward: Any) -> httpx.Response:
        return httpx.Response(200, content=A + b"more")

    async with reading(rig, place) as life:
        rig.line.next(hex_of(A), other)
        work = await given(rig, life, A)
        assert read(work) == [A]
        work.done()
        rig.line.next(hex_of(C), other, longer)
        job = await submitted(rig, C, max_attempts=1)
        await rig.settled()
        assert await failure(rig, job) == ("error", "input file in0 arrives with another hash than the job names")
        assert place.there() == {hex_of(A), hex_of(C) + ".part"}
        assert (place.folder / f"{hex_of(C)}.part").read_bytes() == b""


@pytest.mark.parametrize("damage", ["changed", "shorter", "link", "folder", "gone"])
async def test_what_is_no_longer_what_it_was_is_fetched_anew(
    rig: Rig, place: Place, damage: str, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(A)
    async with reading(rig, place) as life:
        (await given(rig, life, A)).done()
        await rig.settled()
        file = place.file(A)
        match damage:
            case "changed":
                file.chmod(0o644)
                file.write_bytes(A[:-1] + b"!")
            case "shorter":
                file.chmod(0o644)
                file.write_bytes(A[:-1])
            case "link":
                file.unlink()
                file.symlink_to(precious)
            case "folder":
                file.unlink()
                file.mkdir()
            case "gone":
                file.unlink()
        job = await submitted(rig, A, max_attempts=1)
        await rig.settled()
        if damage == "folder":
            # Nothing of ours, and not to be removed with all that may be in it.
            kind, reason = await failure(rig, job)
            assert (kind, reason) == ("error", "this miner cannot write to its disk for the job's input files")
            return
        assert read(life.hands.works[-1]) == [A]
        assert fetches(rig, A) == 2
        assert not file.is_symlink()
        assert precious.read_bytes() == A


async def test_nothing_is_written_through_a_link(rig: Rig, place: Place, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    place.folder.mkdir()
    (place.folder / f"{hex_of(A)}.part").symlink_to(precious)
    place.file(B).symlink_to(precious)
    async with reading(rig, place) as life:
        work = await given(rig, life, A, B)
        assert read(work) == [A, B]
    assert precious.read_bytes() == b"mine"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    linked = Place(tmp_path / "linked")
    linked.folder.symlink_to(elsewhere)
    async with reading(rig, linked) as life:
        await rig.passes(130)
        job = await submitted(rig, A, max_attempts=1)
        await rig.settled()
        assert (await failure(rig, job))[0] == "error"
    assert list(elsewhere.iterdir()) == []


async def test_of_what_no_job_reads_the_longest_unused_goes_first(rig: Rig, place: Place) -> None:
    place.limit = 2500
    (tmp := place.folder).mkdir()
    (tmp / "not-ours").write_bytes(b"x" * 5000)
    async with reading(rig, place) as life:
        for number, content in enumerate((A, B)):
            (await given(rig, life, content)).done()
            await rig.settled()
            os.utime(place.file(content), (number, number))
        (await given(rig, life, A)).done()
        await rig.settled()
        (await given(rig, life, C)).done()
        await rig.settled()
        assert place.there() == {hex_of(A), hex_of(C), "not-ours"}
        # What is read stays, whatever its age, and a smaller limit holds at once for the rest.
        held = await given(rig, life, A)
        place.limit = 500
        await rig.passes(3)
        assert place.there() == {hex_of(A), "not-ours"}
        held.done()
        await rig.settled()
        assert place.there() == {"not-ours"}


async def test_a_job_waits_for_room_and_one_that_needs_more_than_there_is_fails(rig: Rig, place: Place) -> None:
    place.limit = 2500
    async with reading(rig, place) as life:
        first = await given(rig, life, A, B)
        waiting = await submitted(rig, C, max_attempts=1)
        shares = await given(rig, life, B)
        await rig.passes(5)
        assert [work.job for work in life.hands.works] == [first.job, shares.job]
        first.done()
        shares.done()
        await rig.settled()
        assert [work.job for work in life.hands.running] == [waiting]
        job = await submitted(rig, A, B, C, max_attempts=1)
        await rig.settled()
        assert await failure(rig, job) == (
            "over_limit", "the job's files have 3000 bytes; this miner keeps 2500 at the most",
        )  # fmt: skip
        assert place.there() == {hex_of(B), hex_of(C)} or place.there() == {hex_of(A), hex_of(C)}


async def test_on_a_full_disk_what_nobody_reads_goes_and_if_that_is_not_enough_another_miner_may_try(
    rig: Rig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Rest.write

    def full(rest: Rest, chunk: bytes) -> None:
        # As if all of the disk were this folder's.
        if sum(file.stat().st_size for file in place.folder.iterdir()) + len(chunk) > 2500:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(rest, chunk)

    monkeypatch.setattr(Rest, "write", full)
    async with reading(rig, place) as life:
        for content in (A, B):
            (await given(rig, life, content)).done()
            await rig.settled()
        work = await given(rig, life, C)
        assert read(work) == [C]
        assert place.there() == {hex_of(C)}
        more = await submitted(rig, A, B, max_attempts=1)
        await rig.settled()
        assert await failure(rig, more) == ("error", "this miner has no room on its disk for the job's input files")


async def test_a_job_with_files_for_what_makes_no_use_of_them_is_refused_before_they_are_fetched(rig: Rig) -> None:
    async with rig.life(Hands("gpt2")) as life:
        job = await submitted(rig, A)
        await rig.settled()
        assert await failure(rig, job) == (
            "bad_input", "gpt2 makes no use of input files; submit the job without them",
        )  # fmt: skip
        assert (fetches(rig, A), life.hands.works) == (0, [])


async def test_a_job_that_is_cancelled_while_its_files_are_fetched_ends_and_frees_its_room(
    rig: Rig, place: Place
) -> None:
    place.limit = 1500
    async with reading(rig, place, pace=Pace(heartbeat=1)) as life:
        gate = rig.line.gate(hex_of(A))
        job = await submitted(rig, A)
        await rig.settled()
        assert gate.reached
        await rig.client.delete(f"/v1/jobs/{job}")
        await rig.passes(3)
        gate.open()
        work = await given(rig, life, B)
        assert read(work) == [B]


async def test_the_jobs_own_time_and_length_of_result_hold_for_every_kind_of_work(rig: Rig, place: Place) -> None:
    async with reading(rig, place) as life:
        slow = await given(rig, life, A, limits={"wall_clock_seconds": 30}, max_attempts=1)
        await rig.passes(29)
        assert not slow.stopped()
        await rig.passes(2)
        assert slow.stopped()
        assert await failure(rig, slow.job) == ("timeout", "not done within the job's own 30 s")
        long = await given(rig, life, A, limits={"output_bytes": 5}, max_attempts=1)
        long.done(b"123456")
        await rig.settled()
        assert await failure(rig, long.job) == ("error", "the result is longer than the 5 bytes that the job allows")
        short = await given(rig, life, A, limits={"output_bytes": 5})
        short.done(b"12345")
        await rig.settled()
        assert (await rig.client.job(short.job))["status"] == "completed"
