"""Input files: up from the client, and down to it and to the miner that holds a job which names them."""

import re
from typing import Final

from pithead.core.errors import Fault, Invalid, NotFound
from pithead.exchange import inputs
from pithead.exchange.blobs import name_of
from pithead.exchange.ids import new_id
from pithead.exchange.input_ports import InputFile
from pithead.exchange.ports import Tx
from pithead.http import shapes
from pithead.http.api import Call, Ready, handles
from pithead.http.ranges import StoredResult
from pithead.http.uploads import Incoming, discard
from pithead.wire import jobs as wire
from pithead.wire.base import encode

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def _hash(call: Call) -> str:
    """The hash in the path. Raises `NotFound` where it is none."""
    sha256 = call.path["sha256"]
    if not _SHA256.fullmatch(sha256):
        raise NotFound(f"{sha256[:100]!r} is no SHA-256, which has 64 hex digits in small letters")
    return sha256


@handles("upload_file")
async def upload(call: Call) -> wire.FileView:
    sha256, client_id, rules = _hash(call), call.caller.id, call.exchange.rules
    blobs, fresh = call.services.blobs, new_id("file")
    incoming = Incoming(call, "an input file", call.services.max_file_bytes)
    file = await call.exchange.run(
        lambda tx, now: inputs.begin_upload(tx, now, rules, client_id, sha256, new_id=fresh, length=incoming.announced)
    )
    if file.blob is not None:
        # It is there: whatever comes is not looked at.
        return shapes.file_view(file)
    stored = await incoming.take_in(name_of(file.id, suffix=blobs.suffix), file.part_blob, file.part_size)
    if stored.whole and stored.digest != sha256:
        left = await call.exchange.run(lambda tx, now: inputs.drop_part(tx, client_id, sha256))
        await incoming.settle(stored, [stored.blob, *left])
        raise Invalid(Fault("sha256", f"the {stored.size} bytes that arrived have sha256 {stored.digest}"))
    try:
        file, replaced = await call.exchange.run(
            lambda tx, now: inputs.end_upload(tx, now, rules, client_id, sha256, stored)
        )
    except BaseException:
        await blobs.delete([stored.blob])
        raise
    await incoming.settle(stored, replaced)
    return shapes.file_view(file)


@handles("file_state")
async def state(call: Call) -> Ready:
    sha256, client_id = _hash(call), call.caller.id

    def read(tx: Tx) -> InputFile | None:
        return tx.input_file(inputs.client(tx, client_id).seq, sha256)

    file = await call.exchange.peek(read)
    whole = file is not None and file.blob is not None
    offset = 0 if file is None else (file.size if whole else file.part_size) or 0
    said = wire.FileState(sha256=sha256, upload_offset=offset, complete=whole)
    return Ready(200, encode(said), ((b"upload-offset", str(offset).encode()),))


@handles("get_file")
async def get(call: Call) -> StoredResult:
    sha256, client_id = _hash(call), call.caller.id
    return _served(call, await call.exchange.peek(lambda tx: inputs.find(tx, client_id, sha256)))


@handles("list_files")
async def list_files(call: Call) -> wire.FilePage:
    before, limit, client_id, quota = call.cursor, call.limit, call.caller.id, call.exchange.rules.file_quota

    def read(tx: Tx) -> wire.FilePage:
        owner = inputs.client(tx, client_id).seq
        # One more than asked for tells whether there is a next page.
        found = tx.input_files_page(owner, before, limit + 1)
        return wire.FilePage(
            files=[shapes.file_view(file) for file in found[:limit]],
            used=tx.input_files_used(owner)[1],
            quota=quota or None,
            next_cursor=str(found[limit - 1].seq) if len(found) > limit else None,
        )

    return await call.exchange.read(read)


@handles("delete_file")
async def delete(call: Call) -> wire.FileView:
    sha256, client_id = _hash(call), call.caller.id
    file = await call.exchange.run(lambda tx, now: inputs.delete(tx, client_id, sha256))
    await discard(call.services.blobs, file.blobs)
    return shapes.file_view(file)


@handles("get_input_file")
async def get_input_file(call: Call) -> StoredResult:
    sha256, miner_id, job_id, token = _hash(call), call.caller.id, call.path["job_id"], call.lease_token
    return _served(call, await call.exchange.peek(lambda tx: inputs.of_job(tx, miner_id, job_id, token, sha256)))


def _served(call: Call, file: InputFile) -> StoredResult:
    assert file.blob is not None
    return StoredResult(
        call.services.blobs, file.blob, digest_hex=file.sha256, size=file.size or 0, filename=file.sha256, what="file"
    )
