"""Backups: of one moment, with all that it names, made while others work; and restored into an empty place only."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.http.exchange import World, body, hash_of, run_world
from tests.postgres import Server

from pithead.backup import Restored, put_back, take
from pithead.offline import make_key
from pithead.settings import Settings
from pithead.store import manifest
from pithead.store.errors import StoreError
from pithead.store.migrate import migrations

DAY = 86_400.0
CONTENT = b"forty-two"


class Quiet:
    """A teller that says nothing, and lets a test do something at a step."""

    def __init__(self, at: Callable[[str], None] = lambda what: None) -> None:
        self._at = at

    def step(self, what: str) -> None:
        self._at(what)

    def done(self, files: int, size: int) -> None:
        assert files > 0
        assert size >= 0


@pytest.fixture
def place(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Callable[..., Settings]:
    """Makes settings of an empty place of the same kind to restore into."""

    def make(name: str = "restored", **more: Any) -> Settings:
        given = {"data": str(tmp_path / name), "operator_key": "key_operator-of-these-tests"} | more
        if database:
            server: Server = request.getfixturevalue("postgres")
            given.setdefault("database", server.url(server.create()))
        return msgspec.convert(given, Settings)

    return make


async def back_up(world: World, target: Path, teller: Quiet | None = None) -> manifest.Manifest:
    return await asyncio.to_thread(take, world.application.settings, target, teller or Quiet())


async def restore(settings: Settings, source: Path) -> Restored:
    return await asyncio.to_thread(put_back, settings, source, Quiet())


def opened(settings: Settings, world: World) -> AbstractAsyncContextManager[World]:
    """A coordinator on what was restored, on the same clock."""
    encryption: dict[str, Any] = {
        "db_encryption_enabled": settings.db_encryption_enabled,
        "db_encryption_key_path": settings.db_encryption_key_path,
    }
    return run_world(settings.folder, world.clock, database=settings.database, **encryption)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def deliver(miner: Any, job: str, content: bytes = CONTENT) -> None:
    await miner.take(job)
    body(await miner.upload(job, content))
    body(await miner.complete(job, hash_of(content)))


async def test_what_is_restored_is_what_was_there(world: World, tmp_path: Path, place: Callable[..., Settings]) -> None:
    client, miner = await world.client(), await world.miner(max_concurrent=10)
    done, held, queued = [await client.submit() for _ in range(3)]
    await deliver(miner, done)
    lease = (await miner.take(held))["lease_token"]
    file = "/v1/files/" + hash_of(b"a file").removeprefix("sha256:")
    body(await client.put(file, content=b"a file"))
    pages = ("/v1/jobs", "/v1/clients/me", "/v1/clients/me/ledger", f"/v1/jobs/{done}", "/v1/files", file)
    before = [(await client.get(page)).text for page in pages]
    keys = (await world.http.get("/v1/receipt-keys")).text
    made = await back_up(world, tmp_path / "backup")
    assert (made.results, made.missing, made.tables["jobs"].rows) == (2, [], 3)
    # What happens afterwards is not in it.
    await deliver(miner, queued)

    settings = place()
    found = await restore(settings, tmp_path / "backup")
    assert (found.results, found.checked.faulty, found.checked.jobs, found.migrated) == (2, 0, 3, 0)
    async with opened(settings, world) as again:
        client.http = miner.http = again.http
        assert [(await client.get(page)).text for page in pages] == before
        assert (await again.http.get("/v1/receipt-keys")).text == keys
        assert (await client.get(f"/v1/jobs/{done}/result")).content == CONTENT
        # It goes on: the lease is good, the queue is there, and new numbers are new.
        assert await miner.offered() == [queued]
        body(await miner.complete(held, token=lease))
        await deliver(miner, queued)
        await deliver(miner, await client.submit())
        await again.client()
        await again.miner()
        assert await client.balance() == (99.8, 0)
        await again.ledger()


async def test_the_time_between_backup_and_restore_counts_against_nobody(
    world: World, tmp_path: Path, place: Callable[..., Settings]
) -> None:
    client, miner = await world.client(), await world.miner()
    job = await client.submit(timeout=3600)
    left = (await miner.take(job))["lease_expires_in"]
    await world.later(1)
    await back_up(world, tmp_path / "backup")
    world.clock.now += DAY
    settings = place()
    await restore(settings, tmp_path / "backup")
    async with opened(settings, world) as again:
        client.http = miner.http = again.http
        await again.later(left - 2)
        assert (await client.job(job))["status"] == "assigned"
        assert await miner.status() == "active"
        await again.later(2)
        assert (await client.job(job))["status"] == "queued"


async def test_a_result_that_is_given_up_meanwhile_is_not_named(
    tmp_path: Path, place: Callable[..., Settings], open_world: Callable[..., AbstractAsyncContextManager[World]]
) -> None:
    """It comes after results were copied and goes after the snapshot that names it: another snapshot is taken."""
    async with open_world(retention={"results": 60.0}) as world:
        loop = asyncio.get_running_loop()
        client, miner = await world.client(), await world.miner()
        steps: list[str] = []

        def wait_for(work: Coroutine[Any, Any, None]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(20)

        def at(what: str) -> None:
            steps.append(what)
            if what == "copying the database" and steps.count(what) == 1:
                wait_for(one_more())
            if what == "copying results that came meanwhile" and steps.count(what) == 1:
                wait_for(world.later(61))

        async def one_more() -> None:
            await deliver(miner, await client.submit())

        made = await back_up(world, tmp_path / "backup", Quiet(at))
        assert steps.count("copying the database") == 2
        assert (made.results, made.missing, made.tables["jobs"].rows) == (0, [], 1)
        found = await restore(place(), tmp_path / "backup")
        assert found.checked.faulty == 0


async def test_a_result_that_was_lost_before_is_named_as_missing(
    world: World, tmp_path: Path, place: Callable[..., Settings]
) -> None:
    client, miner = await world.client(), await world.miner()
    jobs = [await client.submit() for _ in range(2)]
    for job in jobs:
        await deliver(miner, job)
    lost = world.files()[0]
    lost.unlink()
    made = await back_up(world, tmp_path / "backup")
    assert (made.results, made.missing) == (1, [f"{lost.parent.name}/{lost.name}"])
    assert (await restore(place(), tmp_path / "backup")).missing == 1


async def test_one_that_cannot_be_made_leaves_nothing(world: World, tmp_path: Path) -> None:
    client, miner = await world.client(), await world.miner()
    await deliver(miner, await client.submit())
    there = names_in(tmp_path)
    # Nobody can read a folder as if it were bytes.
    [result] = world.files()
    result.unlink()
    result.mkdir()
    with pytest.raises(StoreError, match=r"cannot read a result: .*; there is no backup"):
        await back_up(world, tmp_path / "backup")
    result.rmdir()
    with pytest.raises(StoreError, match=r"there is no folder .* to put the backup into"):
        await back_up(world, tmp_path / "none" / "backup")
    assert names_in(tmp_path) == there


async def test_only_its_owner_reads_it_and_other_programs_can_check_it(world: World, tmp_path: Path) -> None:
    client, miner = await world.client(), await world.miner()
    await deliver(miner, await client.submit())
    target = tmp_path / "backup"
    made = await back_up(world, target)
    files = [path for path in target.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (target, *target.rglob("*")) if path.is_dir()} == {0o700}
    assert made.files == len(files) - 2
    assert made.bytes == sum(p.stat().st_size for p in files if p.name not in (manifest.MANIFEST, manifest.SUMS))
    checked = await asyncio.create_subprocess_exec("sha256sum", "--check", "--quiet", manifest.SUMS, cwd=target)
    assert await checked.wait() == 0
    assert [path.name for path in files if "partial" in str(path)] == []


async def test_a_damaged_backup_changes_nothing(world: World, tmp_path: Path, place: Callable[..., Settings]) -> None:
    client, miner = await world.client(), await world.miner()
    await deliver(miner, await client.submit())
    source = tmp_path / "backup"
    await back_up(world, source)
    settings = place()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    assert len(files) >= 5
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b"more")
        if path.name != manifest.MANIFEST:
            with pytest.raises(StoreError, match=r"is damaged: .*; nothing was changed"):
                await restore(settings, source)
        path.unlink()
        with pytest.raises(StoreError, match=r"is damaged|has no manifest\.json"):
            await restore(settings, source)
        path.write_bytes(whole)
    assert not settings.folder.exists()
    # Mended, it is good: nothing is in its way.
    assert (await restore(settings, source)).checked.faulty == 0


async def test_a_newer_program_s_backup_is_refused(
    world: World, tmp_path: Path, place: Callable[..., Settings]
) -> None:
    source, settings = tmp_path / "backup", place()
    made = await back_up(world, source)
    newest = migrations("sqlite")[-1][0]
    for change, said in (
        ({"format": manifest.FORMAT + 1}, "of format 2 and this program reads up to 1"),
        ({"schema": newest + 1}, f"at version {newest + 1} and this program knows up to {newest}"),
    ):
        (source / manifest.MANIFEST).unlink()
        manifest.write(source, msgspec.structs.replace(made, **change))
        with pytest.raises(StoreError, match=said):
            await restore(settings, source)
    assert not settings.folder.exists()


async def test_nothing_is_restored_over_anything(world: World, tmp_path: Path, place: Callable[..., Settings]) -> None:
    source = tmp_path / "backup"
    await back_up(world, source)
    with pytest.raises(StoreError, match="is there already"):
        await back_up(world, source)
    there = place("there")
    there.folder.mkdir()
    (there.folder / "pithead.db").write_bytes(b"somebody's")
    with pytest.raises(StoreError, match=r"is not empty: it has pithead\.db"):
        await restore(there, source)
    assert (there.folder / "pithead.db").read_bytes() == b"somebody's"
    if world.application.settings.database:
        used = place("other", database=world.application.settings.database)
        with pytest.raises(StoreError, match="the database is not empty"):
            await restore(used, source)
    with pytest.raises(StoreError, match="another coordinator uses"):
        await restore(world.application.settings, source)


async def test_what_a_restore_left_that_was_cut_short_is_not_served_and_goes_with_the_next(
    world: World, tmp_path: Path, place: Callable[..., Settings]
) -> None:
    await world.client()
    source, settings = tmp_path / "backup", place()
    await back_up(world, source)
    settings.folder.mkdir()
    (settings.folder / "restoring").touch()
    (settings.folder / "results").mkdir()
    (settings.folder / "results" / "half").touch()
    with pytest.raises(StoreError, match="has not ended: do it again, or empty the folder"):
        async with opened(settings, world):
            pass
    await restore(settings, source)
    assert not (settings.folder / "results" / "half").exists()
    async with opened(settings, world) as again:
        assert len(body(await again.operator.get("/clients"))["clients"]) == 1


async def test_it_is_of_its_own_kind_of_database(world: World, tmp_path: Path) -> None:
    source = tmp_path / "backup"
    await back_up(world, source)
    other = "" if world.application.settings.database else "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(StoreError, match="the backup is of a database of the kind"):
        await restore(Settings(data=str(tmp_path / "restored"), database=other), source)


async def test_where_there_is_nothing_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*; name the coordinator's with --data"):
        await asyncio.to_thread(take, Settings(data=str(tmp_path / "none")), tmp_path / "backup", Quiet())
    with pytest.raises(StoreError, match=r"there is no database .*; name the coordinator's folder with --data"):
        await asyncio.to_thread(take, Settings(data=str(tmp_path)), tmp_path / "backup", Quiet())
    assert not (tmp_path / "backup").exists()
    with pytest.raises(StoreError, match="there is no backup"):
        await restore(Settings(data=str(tmp_path / "restored")), tmp_path / "backup")


async def test_what_is_encrypted_stays_so_under_the_same_key(
    tmp_path: Path, place: Callable[..., Settings], open_world: Callable[..., AbstractAsyncContextManager[World]]
) -> None:
    make_key(tmp_path / "key")
    make_key(tmp_path / "other")
    encryption = {"db_encryption_enabled": True, "db_encryption_key_path": str(tmp_path / "key")}
    source = tmp_path / "backup"
    async with open_world(**encryption) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit(model="a-secret-model")
        await deliver(miner, job)
        assert (await back_up(world, source)).results == 1
        kept = b"".join(path.read_bytes() for path in source.rglob("*") if path.is_file())
        assert CONTENT not in kept
        assert b"PRIVATE KEY" not in kept
        if not world.application.settings.database:
            assert b"a-secret-model" not in kept
            for wrong in ({}, encryption | {"db_encryption_key_path": str(tmp_path / "other")}):
                settings = place("wrong", **wrong)
                with pytest.raises(StoreError, match=r"is encrypted, or is none|the key does not open"):
                    await restore(settings, source)
                assert not settings.folder.exists()
        settings = place(**encryption)
        assert (await restore(settings, source)).checked.faulty == 0
        async with opened(settings, world) as again:
            client.http = again.http
            assert (await client.get(f"/v1/jobs/{job}/result")).content == CONTENT
