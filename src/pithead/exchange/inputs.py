"""Files that clients upload for their jobs: content by its hash, each client's its own, and read by who holds a job.

A client has the file that it uploaded, and no other: that somebody else has the same bytes makes no difference, can be
found out by nobody, and gives nobody access. So knowing a hash is worth nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pithead.core.errors import Fault, FileInUse, FileUnknown, Invalid, JobFinished, NotFound, OverQuota
from pithead.core.leases import Standing, standing
from pithead.core.needs import NamedFile
from pithead.exchange.blobs import Stored
from pithead.exchange.input_ports import InputFile
from pithead.exchange.ports import Client, Tx
from pithead.exchange.rules import Rules

#: Seconds for which what came of an upload that broke off is kept.
KEEP_PARTS: Final = 86_400.0
#: Files that the jobs of one submission may name, each counted for every job that does.
MOST_NAMED: Final = 5_000
#: Files, parts included, that a client may have: their rows cost something too.
MOST_FILES: Final = 100_000


def client(tx: Tx, client_id: str) -> Client:
    """The client. Raises `NotFound`."""
    found = tx.client_by_id(client_id)
    if found is None:
        raise NotFound(f"there is no client {client_id}")
    return found


def find(tx: Tx, client_id: str, sha256: str) -> InputFile:
    """The client's whole file of this hash. Raises `NotFound`."""
    file = tx.input_file(client(tx, client_id).seq, sha256)
    if file is None or file.blob is None:
        raise NotFound(f"this account has no file {sha256}")
    return file


def check_room(tx: Tx, rules: Rules, client_id: str, length: int) -> None:
    """Whether another `length` bytes would be taken. Raises `NotFound`, `OverQuota`."""
    _check_quota(rules, tx.input_files_used(client(tx, client_id).seq)[1], length)


def begin_upload(
    tx: Tx, now: float, rules: Rules, client_id: str, sha256: str, *, new_id: str, length: int | None
) -> InputFile:
    """The file that bytes are to be taken in for, before they are; `length` is how many are announced.

    One that is whole is there already: nothing need be taken in. Raises `NotFound`, `OverQuota`.
    """
    owner = client(tx, client_id)
    file = tx.input_file(owner.seq, sha256)
    if file is not None and file.blob is not None:
        file = msgspec.structs.replace(file, touched_at=now)
        tx.save_input_file(file)
        return file
    count, used = tx.input_files_used(owner.seq)
    if file is None and count >= MOST_FILES:
        raise OverQuota(f"this account has {count} files, which is all that it may; delete some")
    _check_quota(rules, used, length or 0)
    if file is None:
        return tx.add_input_file(InputFile(0, new_id, owner.seq, sha256, now, now))
    file = msgspec.structs.replace(file, touched_at=now)
    tx.save_input_file(file)
    return file


def end_upload(
    tx: Tx, now: float, rules: Rules, client_id: str, sha256: str, stored: Stored
) -> tuple[InputFile, list[str]]:
    """Record the bytes that arrived; the file as it then is, and the names of the blobs that nothing names any more.

    Raises `NotFound` where the file was deleted meanwhile, `OverQuota`. Bytes of another hash are not to come here but to
    `drop_part`.
    """
    owner = client(tx, client_id)
    file = tx.input_file(owner.seq, sha256)
    if file is None:
        raise NotFound(f"the file {sha256} was deleted while it was uploaded")
    if file.blob is not None:
        # Another upload of it was faster.
        return file, [stored.blob]
    replaced = [file.part_blob] if file.part_blob is not None else []
    _, used = tx.input_files_used(owner.seq)
    _check_quota(rules, used - (file.part_size or 0), stored.size)
    if stored.whole:
        after = msgspec.structs.replace(
            file, touched_at=now, size=stored.size, blob=stored.blob, part_size=None, part_blob=None
        )
    else:
        after = msgspec.structs.replace(file, touched_at=now, part_size=stored.size, part_blob=stored.blob)
    tx.save_input_file(after)
    return after, replaced


def drop_part(tx: Tx, client_id: str, sha256: str) -> list[str]:
    """What arrived turned out to be something else: the blobs that nothing names any more, so that it begins anew."""
    file = tx.input_file(client(tx, client_id).seq, sha256)
    if file is None or file.blob is not None:
        return []
    tx.drop_input_file(file.seq)
    return file.blobs


def delete(tx: Tx, client_id: str, sha256: str) -> InputFile:
    """Forget a file, or a part of one; the caller deletes its blobs. Raises `NotFound`, `FileInUse`."""
    file = tx.input_file(client(tx, client_id).seq, sha256)
    if file is None:
        raise NotFound(f"this account has no file {sha256}")
    if tx.input_file_in_use(file.seq):
        raise FileInUse(f"a job that is not finished names the file {sha256}; wait for it, or cancel it")
    tx.drop_input_file(file.seq)
    return file


def named(
    tx: Tx, now: float, owner: Client, wanted: Sequence[tuple[str, str]], known: dict[str, InputFile | None], where: str
) -> tuple[NamedFile, ...]:
    """The files that a job names, as (name, hash), each of which must be there; `known` are those looked up before.

    Raises `Invalid`, `FileUnknown`.
    """
    faults, unknown, found = [], [], []
    seen: set[str] = set()
    for index, (name, sha256) in enumerate(wanted):
        if name in seen:
            faults.append(Fault(f"{where}input_files[{index}].name", "is given twice"))
        seen.add(name)
        if sha256 not in known:
            known[sha256] = tx.touch_input_file(owner.seq, sha256, now)
        file = known[sha256]
        if file is None or file.size is None:
            detail = f"this account has no such file: upload it first, with PUT /v1/files/{sha256}"
            unknown.append(Fault(f"{where}input_files[{index}].sha256", detail))
        else:
            found.append(NamedFile(name, sha256, file.size))
    if faults:
        raise Invalid(*faults)
    if unknown:
        raise FileUnknown(*unknown)
    return tuple(found)


def of_job(tx: Tx, miner_id: str, job_id: str, token: str | None, sha256: str) -> InputFile:
    """A file of a job, for the miner that holds the job now.

    Raises `NotFound` for who never held it and for a hash that is none of the job's, else what a call under a lease
    raises: `Fenced`, `JobTaken`, `JobFinished`.
    """
    miner, job = tx.miner_by_id(miner_id), tx.job_by_id(job_id)
    mine = None if miner is None or job is None else tx.newest_attempt(job.seq, miner.seq, token)
    if job is None or mine is None:
        raise NotFound(f"there is no such file of a job {job_id} of yours")
    if standing(job, mine, token) is not Standing.HOLDS:
        raise JobFinished(f"your attempt at job {job.id} was {mine.outcome}: its files are no longer yours to read")
    needs = tx.needs(job.seq)
    file = tx.input_file(job.client, sha256) if needs is not None and needs.find(sha256) is not None else None
    if file is None or file.blob is None:
        raise NotFound(f"job {job.id} has no input file {sha256}")
    return file


def _check_quota(rules: Rules, used: int, more: int) -> None:
    quota = rules.file_quota
    if quota and used + more > quota:
        raise OverQuota(
            f"the files of this account have {used} bytes of {quota}, and {more} more are too many; delete some"
        )
