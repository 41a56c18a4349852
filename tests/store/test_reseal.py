"""Results change their form one after the other: at any moment, each that is named can be read."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.store.test_blobs import LONG, Source, keyring, read

from pithead.exchange.blobs import BlobError
from pithead.store.blobs import LocalBlobs
from pithead.store.errors import StoreError
from pithead.store.reseal import reseal
from pithead.store.sealed import SUFFIX, SealedBlobs

RESULTS = {f"{n:02x}/job_{n}-1-c0": LONG[n : n * 100_000] for n in (1, 2, 3)}


class Stop(Exception):
    pass


class Books:
    """Implements `Names`; ends in an error before or after it has changed something, if it is to."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)
        self.fail: str | None = None

    def has(self, job_id: str, blob: str) -> bool:
        return blob in self.names

    def change(self, job_id: str, before: str, after: str) -> None:
        if self.fail == "before":
            raise Stop
        self.names.remove(before)
        self.names.add(after)
        if self.fail == "after":
            raise Stop


class Folder(LocalBlobs):
    fail = False

    async def delete(self, names: Sequence[str]) -> None:
        if self.fail:
            raise BlobError("not now")
        await super().delete(names)


class Store:
    def __init__(self, folder: Path) -> None:
        self.inner = Folder(folder)
        self.sealed = SealedBlobs(self.inner, keyring())
        self.books = Books(list(RESULTS))
        self.told: list[tuple[int, int]] = []

    async def fill(self) -> None:
        for name, content in {**RESULTS, "04/job_4-1-c0": b"orphan", "ab/not-ours": b"foreign"}.items():
            await self.inner.put(name, Source(content)())

    async def go(self, to_sealed: bool) -> int:
        return await reseal(
            self.inner, self.sealed, self.books, to_sealed=to_sealed, tell=lambda *far: self.told.append(far)
        )

    async def check(self) -> None:
        """Whatever is named is there, under the one name or the other."""
        assert {name.removesuffix(SUFFIX) for name in self.books.names} == set(RESULTS)
        for name in self.books.names:
            content = RESULTS[name.removesuffix(SUFFIX)]
            assert await read(self.sealed, name, 0, len(content)) == content

    async def files(self) -> set[str]:
        return {entry.name async for batch in self.inner.list() for entry in batch}


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    await made.fill()
    return made


async def test_there_and_back(store: Store) -> None:
    assert await store.go(True) == 3
    assert store.books.names == {name + SUFFIX for name in RESULTS}
    assert await store.files() == store.books.names | {"ab/not-ours"}
    assert store.told[-1] == (3, sum(map(len, RESULTS.values())))
    await store.check()
    assert await store.go(True) == 0
    assert await store.go(False) == 3
    assert await store.files() == set(RESULTS) | {"ab/not-ours"}
    await store.check()


@pytest.mark.parametrize("to_sealed", [True, False])
@pytest.mark.parametrize("when", ["before", "after", "at the deletion"])
async def test_wherever_it_ends_it_can_be_gone_on_with(store: Store, when: str, to_sealed: bool) -> None:
    if not to_sealed:
        await store.go(True)
    if when == "at the deletion":
        store.inner.fail = True
    else:
        store.books.fail = when
    for _ in range(3):
        with pytest.raises((Stop, StoreError)):
            await store.go(to_sealed)
        await store.check()
    store.inner.fail, store.books.fail = False, None
    await store.go(to_sealed)
    await store.check()
    wanted = {name + SUFFIX for name in RESULTS} if to_sealed else set(RESULTS)
    assert await store.files() == wanted | {"ab/not-ours"}


async def test_a_copy_that_reads_differently_is_not_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put = SealedBlobs.put

    async def spoil(self: SealedBlobs, name: str, chunks: object) -> None:
        async for _ in chunks:  # type: ignore[attr-defined]
            pass
        await put(self, name, Source(b"x" * 1_000_000)())

    monkeypatch.setattr(SealedBlobs, "put", spoil)
    with pytest.raises(StoreError, match="reads differently"):
        await store.go(True)
    assert store.books.names == set(RESULTS)
    await store.check()


async def test_a_result_that_cannot_be_read_stops_it(store: Store) -> None:
    await store.inner.delete(["02/job_2-1-c0"])
    await store.go(True)
    (sealed,) = [name for name in store.books.names if "job_3" in name]
    await store.inner.put(sealed, Source(b"damaged" * 100)())
    with pytest.raises(StoreError, match="cannot go on"):
        await store.go(False)
    assert sealed in await store.files()
