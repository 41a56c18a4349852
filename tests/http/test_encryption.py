"""Encryption at rest, from outside: nothing readable on the disk, and everything where it was."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.buckets import Service
from tests.http.exchange import Client, Clock, Miner, World, body, hash_of, run_world
from tests.http.test_results import cut_off, state
from tests.postgres import Server

from pithead.exchange.blobs import name_of

KEY, OTHER = "5e" * 32, "07" * 32
ON: dict[str, Any] = {"db_encryption_enabled": True, "db_encryption_key": KEY}
PROMPT = "the prompt that nobody else may read"
RESULT = b"the result that nobody else may read\n" * 5000


async def deliver(world: World) -> tuple[Client, str]:
    """A completed job with this prompt and result: its client, and the path of the result."""
    client, miner = await world.client(), await world.miner()
    job = await client.submit(input={"prompt": PROMPT}, require_result=True)
    assigned = await miner.take(job)
    assert assigned["input"] == {"prompt": PROMPT}
    body(await miner.upload(job, RESULT))
    body(await miner.complete(job, hash_of(RESULT)))
    return client, f"/v1/jobs/{job}/result"


def readable(folder: Path) -> set[str]:
    """The files in which something can be read that should not be."""
    secrets = [PROMPT.encode(), RESULT[:30], b"CREATE TABLE", b"PRIVATE KEY", bytes.fromhex(KEY), KEY.encode()]
    return {
        file.name
        for file in folder.rglob("*")
        if file.is_file() and any(secret in file.read_bytes() for secret in secrets)
    }


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_nothing_can_be_read_while_it_runs_or_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with run_world(folder, Clock(), **ON) as world:
        client, path = await deliver(world)
        assert (await client.get(path)).content == RESULT
        part = await client.get(path, headers={"Range": "bytes=65000-66000"})
        assert (part.status_code, part.content) == (206, RESULT[65000:66001])
        assert readable(folder) == set()
        assert (folder / "pithead.db-wal").stat().st_size > 0
        key, keyring = world.application._key, world.application._keyring
        assert key is not None
    # Stopped: one file, no log, and no key.
    assert names(folder) == {"pithead.db", "results", "signing.sealed", "lock"}
    assert readable(folder) == set()
    assert not key._key
    assert not keyring._keys
    # Without encryption, all of it can: the search finds what there is.
    async with run_world(tmp_path / "plain", Clock()) as world:
        await deliver(world)
        found = readable(tmp_path / "plain")
        assert len(found) == 3, found  # the log, the signing key and the result
    assert readable(tmp_path / "plain") >= {"pithead.db", "signing.pem"}


async def test_the_next_coordinator_reads_all_of_it(tmp_path: Path) -> None:
    async with run_world(tmp_path / "data", Clock(), **ON) as world:
        client, path = await deliver(world)
        keys = body(await world.http.get("/v1/receipt-keys"))
    async with run_world(tmp_path / "data", Clock(), **ON) as world:
        assert (await Client(world.http, client.key).get(path)).content == RESULT
        assert body(await world.http.get("/v1/receipt-keys")) == keys


async def test_results_in_a_bucket_are_encrypted_too(tmp_path: Path, s3: Service) -> None:
    bucket = s3.bucket()
    async with run_world(tmp_path / "data", Clock(), blob_store=bucket, s3=s3.settings, **ON) as world:
        client, path = await deliver(world)
        [stored] = s3.objects(bucket).values()
        assert RESULT[:20] not in stored
        assert (await client.get(path)).content == RESULT
        part = await client.get(path, headers={"Range": "bytes=-10"})
        assert part.content == RESULT[-10:]


async def test_an_upload_that_broke_off_leaves_nothing_readable_and_goes_on(tmp_path: Path) -> None:
    folder, whole = tmp_path / "data", RESULT * 20
    async with run_world(folder, Clock(), **ON) as world:
        client, miner = await world.client(), await world.miner()
        job = await client.submit()
        await miner.take(job)
        await cut_off(world, miner, job, whole[:1_500_000])
        assert readable(folder) == set()
        assert await state(miner, job) == (1_500_000, False)
        body(await miner.upload(job, whole[1_500_000:], offset=1_500_000))
        body(await miner.complete(job, hash_of(whole)))
        assert (await client.get(f"/v1/jobs/{job}/result")).content == whole
        assert readable(folder) == set()


async def test_input_files_are_encrypted_too(tmp_path: Path) -> None:
    folder, path = tmp_path / "data", "/v1/files/" + hash_of(RESULT).removeprefix("sha256:")
    async with run_world(folder, Clock(), **ON) as world:
        client = await world.client()
        body(await client.put(path, content=RESULT))
        assert readable(folder) == set()
        assert [file.suffix for file in world.files()] == [".sealed"]
        assert (await client.get(path)).content == RESULT
        assert (await client.get(path, headers={"Range": "bytes=10-19"})).content == RESULT[10:20]


async def test_a_result_that_was_changed_on_the_disk_is_not_served(tmp_path: Path) -> None:
    async with run_world(tmp_path / "data", Clock(), **ON) as world:
        client, path = await deliver(world)
        [file] = world.files()
        stored = bytearray(file.read_bytes())
        stored[1000] ^= 1
        file.write_bytes(stored)
        assert (await client.get(path)).status_code == 503


# ---- The commands, as an operator gives them


def pithead(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pithead")), *words]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=inherited | environment)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why; exit code 2."""
    assert done.returncode == 2, done.stderr
    assert not done.stdout
    assert KEY not in done.stderr
    [line] = done.stderr.splitlines()[-1:]
    assert line.startswith("pithead: ")
    assert "Traceback" not in done.stderr
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "lock"}


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[tuple[Path, str, str]]:
    """A folder with an encrypted coordinator's data, the client's key, and the path of the result."""
    async with run_world(tmp_path / "data", Clock(), **ON) as world:
        client, path = await deliver(world)
    yield tmp_path / "data", client.key, path


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true"}, "there is no key"),
        ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY": OTHER}, "the key does not open"),
        ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY": "x"}, "holds no key"),
        ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY_PATH": "/no/key"}, "No such file"),
        ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY_COMMAND": "false"}, "ended with 1"),
        ({}, "db_encryption_enabled"),
    ],
    ids=["no key", "another key", "no key at all", "no file", "no command", "not enabled"],
)  # fmt: skip
async def test_without_the_key_a_start_is_one_line_and_touches_nothing(
    encrypted: tuple[Path, str, str], environment: dict[str, str], said: str
) -> None:
    folder, *_ = encrypted
    before = contents(folder)
    assert said in refused(pithead("serve", "--port", "0", "--data", str(folder), **environment))
    assert contents(folder) == before


async def test_a_plain_folder_is_not_served_as_an_encrypted_one(tmp_path: Path) -> None:
    async with run_world(tmp_path / "data", Clock()) as world:
        await deliver(world)
    before = contents(tmp_path / "data")
    environment = {"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY": KEY}
    line = refused(pithead("serve", "--port", "0", "--data", str(tmp_path / "data"), **environment))
    assert "pithead admin encrypt" in line
    assert contents(tmp_path / "data") == before


def write_key(path: Path, key: str) -> str:
    path.write_text(key)
    path.chmod(0o600)
    return str(path)


async def served(folder: Path, client_key: str, path: str, **settings: Any) -> bytes:
    async with run_world(folder, Clock(), **settings) as world:
        ledger = await world.ledger()
        assert ledger
        return (await Client(world.http, client_key).get(path)).content


async def test_a_folder_is_encrypted_rekeyed_and_decrypted_by_commands(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with run_world(folder, Clock()) as world:
        client, path = await deliver(world)
        keys = body(await world.http.get("/v1/receipt-keys"))
        # And bytes that are no result yet, and such as no attempt names.
        miner = await world.miner()
        job = await client.submit()
        await miner.take(job)
        body(await miner.upload(job, RESULT + b"more"))
        file = "/v1/files/" + hash_of(RESULT).removeprefix("sha256:")
        body(await client.put(file, content=RESULT))
        orphan = folder / "results" / name_of(job, 1)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(RESULT)
    data = ("--data", str(folder))
    assert pithead("admin", "keygen", str(tmp_path / "made")).returncode == 0
    made = {"PITHEAD_DB_ENCRYPTION_KEY_PATH": str(tmp_path / "made")}

    done = pithead("admin", "encrypt", *data, **made)
    assert done.returncode == 0, done.stderr
    assert "is encrypted" in done.stdout
    assert "db_encryption_enabled = true" in done.stdout
    assert readable(folder) == set()
    on = {"db_encryption_enabled": True, "db_encryption_key_path": str(tmp_path / "made")}
    for each in (path, file):
        assert await served(folder, client.key, each, **on) == RESULT
    again = pithead("admin", "encrypt", *data, "--json", **made)
    assert re.search(r'"rewritten": false', again.stdout), again.stderr

    write_key(tmp_path / "new", OTHER)
    before = {name: content for name, content in contents(folder).items() if "results" in name}
    done = pithead("admin", "rekey", *data, "--new-key-path", str(tmp_path / "new"), **made)
    assert done.returncode == 0, done.stderr
    assert {name: content for name, content in contents(folder).items() if "results" in name} == before
    assert "key does not open" in refused(
        pithead("serve", "--port", "0", *data, PITHEAD_DB_ENCRYPTION_ENABLED="true", **made)
    )
    on["db_encryption_key_path"] = str(tmp_path / "new")
    assert await served(folder, client.key, path, **on) == RESULT
    assert readable(folder) == set()

    done = pithead("admin", "decrypt", *data, PITHEAD_DB_ENCRYPTION_KEY=OTHER)
    assert done.returncode == 0, done.stderr
    assert names(folder) == {"pithead.db", "results", "signing.pem", "lock"}
    assert not list((folder / "results").rglob("*.sealed"))
    for each in (path, file):
        assert await served(folder, client.key, each) == RESULT
    async with run_world(folder, Clock()) as world:
        assert body(await world.http.get("/v1/receipt-keys")) == keys
        body(await Miner(world.http, miner.key, miner.base).complete(job, hash_of(RESULT + b"more")))
        assert (await Client(world.http, client.key).get(f"/v1/jobs/{job}/result")).content == RESULT + b"more"


async def test_commands_that_cannot_be_carried_out_say_so_in_a_line(
    encrypted: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder, *_ = encrypted
    data, key = ("--data", str(folder)), {"PITHEAD_DB_ENCRYPTION_KEY": KEY}
    before = contents(folder)
    assert "there is no key" in refused(pithead("admin", "encrypt", *data))
    assert "neither key opens" in refused(pithead("admin", "encrypt", *data, PITHEAD_DB_ENCRYPTION_KEY=OTHER))
    assert "does not open" in refused(pithead("admin", "decrypt", *data, PITHEAD_DB_ENCRYPTION_KEY=OTHER))
    assert "--new-key-path" in refused(pithead("admin", "rekey", *data, **key))
    same = write_key(tmp_path / "same", KEY)
    assert "is the old one" in refused(pithead("admin", "rekey", *data, "--new-key-path", same, **key))
    assert "no folder" in refused(pithead("admin", "encrypt", "--data", str(tmp_path / "nowhere"), **key))
    assert "is there already" in refused(pithead("admin", "keygen", same))
    assert contents(folder) == before
    async with run_world(folder, Clock(), **ON):
        assert "another coordinator uses" in refused(pithead("admin", "decrypt", *data, **key))


async def test_a_key_in_a_file_of_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pithead.toml").write_text(f'db_encryption_key = "{KEY}"\n')
    assert "PITHEAD_DB_ENCRYPTION_KEY" in refused(pithead("serve", "--port", "0", "--data", str(tmp_path)))
    shown = pithead("settings", "--json", PITHEAD_DB_ENCRYPTION_KEY=KEY)
    assert KEY not in shown.stdout + shown.stderr
    assert "nothing is encrypted" in shown.stdout


async def test_results_that_are_not_in_the_blob_store_keep_their_keys(
    encrypted: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder, client_key, path = encrypted
    key = {"PITHEAD_DB_ENCRYPTION_KEY": KEY}
    elsewhere = key | {"PITHEAD_BLOB_STORE": str(tmp_path / "another place")}
    line = refused(pithead("admin", "decrypt", "--data", str(folder), **elsewhere))
    assert "1 encrypted results are not in the blob store; check blob_store" in line
    assert await served(folder, client_key, path, **ON) == RESULT
    # Lost in earnest, they are given up only when that is said.
    for file in (folder / "results").rglob("*.sealed"):
        file.unlink()
    assert "--give-up-missing" in refused(pithead("admin", "decrypt", "--data", str(folder), **key))
    done = pithead("admin", "decrypt", "--data", str(folder), "--give-up-missing", **key)
    assert done.returncode == 0, done.stderr
    assert "1 results are not in the blob store" in done.stdout
    assert names(folder) == {"pithead.db", "results", "signing.pem", "lock"}


# ---- With PostgreSQL, the database is its operator's to encrypt, and the rest is ours


async def test_with_postgresql_results_and_the_signing_key_are_encrypted(tmp_path: Path, postgres: Server) -> None:
    folder = tmp_path / "data"
    with postgres.lent() as database:
        url = postgres.url(database)
        data = ("--data", str(folder))
        ours = {"PITHEAD_DATABASE": url, "PITHEAD_DB_ENCRYPTION_KEY": KEY}
        async with run_world(folder, Clock(), database=url) as world:
            client, path = await deliver(world)
            keys = body(await world.http.get("/v1/receipt-keys"))
        assert readable(folder) == {"signing.pem", *(file.name for file in (folder / "results").glob("??/*"))}

        done = pithead("admin", "encrypt", *data, **ours)
        assert done.returncode == 0, done.stderr
        assert "1 results were rewritten" in done.stdout
        assert readable(folder) == set()
        assert await served(folder, client.key, path, database=url, **ON) == RESULT
        for environment, said in (
            ({}, "the results are encrypted; set db_encryption_enabled"),
            ({"PITHEAD_DB_ENCRYPTION_ENABLED": "true", "PITHEAD_DB_ENCRYPTION_KEY": OTHER}, "is not the one"),
        ):
            line = refused(pithead("serve", "--port", "0", *data, PITHEAD_DATABASE=url, **environment))
            assert said in line

        new = write_key(tmp_path / "new", OTHER)
        for answer in ("are wrapped anew", "are under the new key already"):
            done = pithead("admin", "rekey", *data, "--new-key-path", new, **ours)
            assert done.returncode == 0, (answer, done.stderr)
        on: dict[str, Any] = {"db_encryption_enabled": True, "db_encryption_key": OTHER, "database": url}
        async with run_world(folder, Clock(), **on) as world:
            assert (await Client(world.http, client.key).get(path)).content == RESULT
            assert body(await world.http.get("/v1/receipt-keys")) == keys
            # A second folder, so that it is not the lock of the first that keeps it out.
            (tmp_path / "second").mkdir()
            line = refused(
                pithead(
                    "admin",
                    "decrypt",
                    "--data",
                    str(tmp_path / "second"),
                    **ours | {"PITHEAD_DB_ENCRYPTION_KEY": OTHER},
                )
            )
            assert "coordinators run on this database; stop all of them" in line

        done = pithead("admin", "decrypt", *data, **ours | {"PITHEAD_DB_ENCRYPTION_KEY": OTHER})
        assert done.returncode == 0, done.stderr
        assert names(folder) == {"results", "signing.pem", "lock"}
        assert await served(folder, client.key, path, database=url) == RESULT


async def test_two_coordinators_on_one_database_read_each_others_results(
    tmp_path: Path, postgres: Server, s3: Service
) -> None:
    with postgres.lent() as database:
        shared: dict[str, Any] = {
            "database": postgres.url(database),
            "blob_store": s3.bucket(),
            "s3": s3.settings,
            **ON,
        }
        async with (
            run_world(tmp_path / "one", Clock(), **shared) as one,
            run_world(tmp_path / "two", Clock(), **shared) as two,
        ):
            for here, there in ((one, two), (two, one)):
                client, path = await deliver(here)
                assert (await Client(there.http, client.key).get(path)).content == RESULT
