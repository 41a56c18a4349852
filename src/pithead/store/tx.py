"""One transaction over whatever understands `execute(sql, values)`: `sqlcipher3` and `psycopg` both do.

What differs between databases is not here but in the queries that are given to it (`store.queries`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from operator import is_not
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from pithead.core import board
from pithead.core.board import Kind
from pithead.core.jobs import HELD, Attempt, Job, State
from pithead.core.miners import Admission, Miner
from pithead.core.money import Transfer
from pithead.core.payouts import Payout
from pithead.core.why import Group
from pithead.exchange.blobs import FILE
from pithead.exchange.events import Event
from pithead.exchange.ports import (
    LARGEST_TELEMETRY,
    Archived,
    AuditRecord,
    Client,
    Details,
    Held,
    JobFilter,
    Kept,
    Key,
    Notice,
    PayoutFilter,
    Settlement,
    Task,
    WrappedKey,
)
from pithead.store.inputs import InputsSql, needs_of
from pithead.store.ledger import TOP, LedgerReads, payout_of
from pithead.store.live import Live
from pithead.store.pages import PageReads
from pithead.store.queries import setting
from pithead.store.webhooks import WebhooksSql

_STATE: Final = {str(s): s for s in State}
_ADMISSION: Final = {str(a): a for a in Admission}
_JOB_FIELDS: Final = Job.__struct_fields__
_JOB_PLACES: Final = range(len(_JOB_FIELDS))
_JOB_STATE_AT: Final = Job.__struct_fields__.index("state")
_JOB_FLAG_AT: Final = Job.__struct_fields__.index("require_result")
_MINER_MODELS_AT: Final = Miner.__struct_fields__.index("models")
_MINER_ADMISSION_AT: Final = Miner.__struct_fields__.index("admission")
_MINER_DRAINING_AT: Final = Miner.__struct_fields__.index("draining")
_MINER_ONLINE_AT: Final = Miner.__struct_fields__.index("online")
_OPEN_STATES: Final = HELD | {State.QUEUED}


def _job(row: Sequence[Any]) -> Job:
    fields = list(row)
    fields[_JOB_STATE_AT] = _STATE[fields[_JOB_STATE_AT]]
    fields[_JOB_FLAG_AT] = bool(fields[_JOB_FLAG_AT])
    return Job(*fields)


def _miner(row: Sequence[Any]) -> Miner:
    fields = list(row)
    fields[_MINER_MODELS_AT] = _models(fields[_MINER_MODELS_AT])
    fields[_MINER_ADMISSION_AT] = _ADMISSION[fields[_MINER_ADMISSION_AT]]
    fields[_MINER_DRAINING_AT] = bool(fields[_MINER_DRAINING_AT])
    fields[_MINER_ONLINE_AT] = bool(fields[_MINER_ONLINE_AT])
    return Miner(*fields)


@lru_cache(maxsize=10_000)
def _models(text: str | None) -> frozenset[str] | None:
    # Few lists of models are many miners': they share one set.
    return None if text is None else frozenset(msgspec.json.decode(text))


def _miner_row(miner: Miner) -> dict[str, Any]:
    row = msgspec.structs.asdict(miner)
    row["models"] = None if miner.models is None else msgspec.json.encode(sorted(miner.models)).decode()
    row["admission"] = str(miner.admission)
    return row


def _group(row: Sequence[Any]) -> Group:
    gpu_type, gpu_count, price_per_hour, models, admission, draining, online, busy, miners, slots, free = row
    like = Miner(
        seq=0, id="", name="", gpu_type=gpu_type, gpu_count=gpu_count, location="", price_per_hour=price_per_hour,
        max_concurrent=1, models=_models(models), created_at=0.0, admission=_ADMISSION[admission],
        draining=bool(draining), online=bool(online),
    )  # fmt: skip
    return Group(like, bool(busy), int(miners), int(slots), int(free))


class SqlTx(LedgerReads, InputsSql, Live, PageReads, WebhooksSql):
    """The store's side of one transaction (see `exchange.ports.Tx`)."""

    def __init__(self, execute: Callable[[str, Mapping[str, Any]], Any], queries: Mapping[str, str]) -> None:
        """`execute` gives a cursor; `queries` are those of its dialect, by name."""
        self._execute = execute
        self._queries = queries
        self.events: list[Event] = []

    def _one(self, query: str, **values: Any) -> Any:
        return self._execute(self._queries[query], values).fetchone()

    def _all(self, query: str, **values: Any) -> list[Any]:
        return list(self._execute(self._queries[query], values).fetchall())

    def _do(self, query: str, **values: Any) -> int:
        """Change rows; how many."""
        return self._count(self._queries[query], values)

    def _put(self, query: str, **values: Any) -> None:
        """Change rows, however many."""
        self._execute(self._queries[query], values)

    def _count(self, sql: str, values: Mapping[str, Any]) -> int:
        return int(self._execute(sql, values).rowcount)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    # -- accounts and the ledger

    def new_account(self, owner: str, kinds: Sequence[str]) -> int:
        first = int(self._one("next_account")[0])
        for seq, kind in enumerate(kinds, first):
            self._put("new_account", seq=seq, owner=owner, kind=kind)
        return first

    def post(self, now: float, transfers: Sequence[Transfer]) -> None:
        for t in transfers:
            self._put("add_transfer", at=now, **msgspec.structs.asdict(t))
            self.move(t.debit, -t.amount)
            self.move(t.credit, t.amount)

    def move(self, account: int, amount: int) -> None:
        """Bring a balance up to date with a transfer."""
        self._put("move_balance", account=account, amount=amount)

    def balance(self, account: int) -> int:
        row = self._one("balance", account=account)
        return int(row[0]) if row else 0

    def set_credit_line(self, client: int, amount: int) -> None:
        self._put("set_credit_line", client=client, amount=amount)

    def balances_by_kind(self) -> dict[str, int]:
        return dict(self._all("balances_by_kind"))

    # -- payouts

    def add_payout(self, payout: Payout) -> Payout:
        row = msgspec.structs.asdict(payout)
        del row["seq"]
        row["state"] = str(payout.state)
        return msgspec.structs.replace(payout, seq=int(self._one("add_payout", **row)[0]))

    def payout_by_id(self, payout_id: str) -> Payout | None:
        row = self._one("payout_by_id", id=payout_id)
        return payout_of(row) if row else None

    def save_payout(self, before: Payout, after: Payout) -> bool:
        row = msgspec.structs.asdict(after)
        row["state"] = str(after.state)
        return self._do("save_payout", was_state=str(before.state), **row) == 1

    def payouts_page(self, where: PayoutFilter, before: int | None, limit: int) -> list[Payout]:
        if where.miner is not None:
            rows = self._all("payouts_of_miner", miner=where.miner, before=before or TOP, limit=limit)
        elif where.state is not None:
            rows = self._all("payouts_in_state", state=where.state, before=before or TOP, limit=limit)
        else:
            rows = self._all("payouts_page", before=before or TOP, limit=limit)
        return [payout_of(row) for row in rows]

    def miners_due(self, period: float, least: int, limit: int) -> list[Miner]:
        return [_miner(row) for row in self._all("miners_due", period=period, least=least, limit=limit)]

    # -- keys

    def add_key(self, key: Key) -> None:
        self._put("add_key", **msgspec.structs.asdict(key))

    def key(self, digest: bytes) -> Key | None:
        row = self._one("key", digest=digest)
        return Key(*row) if row else None

    def end_keys(self, owner: str, at: float) -> int:
        return self._do("end_keys", owner=owner, at=at)

    def forget_ended_keys(self, owner: str, before: float) -> None:
        self._put("forget_ended_keys", owner=owner, before=before)

    def has_operator_key(self) -> bool:
        return bool(self._one("has_operator_key")[0])

    # -- clients

    def add_client(self, client: Client) -> None:
        self._put("add_client", **msgspec.structs.asdict(client))

    def client_by_id(self, client_id: str) -> Client | None:
        row = self._one("client_by_id", id=client_id)
        return Client(*row) if row else None

    def client_by_seq(self, seq: int) -> Client | None:
        row = self._one("client_by_seq", seq=seq)
        return Client(*row) if row else None

    def clients_page(self, before: int | None, limit: int) -> list[Client]:
        return [Client(*row) for row in self._all("clients_page", before=before or TOP, limit=limit)]

    # -- miners

    def add_miner(self, miner: Miner) -> None:
        self._put("add_miner", **_miner_row(miner))

    def miner_by_id(self, miner_id: str) -> Miner | None:
        row = self._one("miner_by_id", id=miner_id)
        return _miner(row) if row else None

    def miner_by_seq(self, seq: int) -> Miner | None:
        row = self._one("miner_by_seq", seq=seq)
        return _miner(row) if row else None

    def save_miner(self, miner: Miner) -> None:
        self._put("save_miner", **_miner_row(miner))

    def beat(self, miner: int, now: float, offline_at: float) -> None:
        self._put("beat", miner=miner, now=now, offline_at=offline_at)

    def heard(self, miner: int, at: float, offline_at: float) -> None:
        self._put("heard", miner=miner, at=at, offline_at=offline_at)

    def count_ended(
        self,
        miner: int,
        outcome: str,
        *,
        wall: float = 0.0,
        gpu_seconds: float = 0.0,
        earned: int = 0,
        undo: bool = False,
    ) -> None:
        one = -1 if undo else 1
        counts = {name: one if name == outcome else 0 for name in ("completed", "failed", "lapsed")}
        self._put("count_ended", miner=miner, wall=wall, gpu_seconds=gpu_seconds, earned=earned, **counts)

    def miners_page(self, before: int | None, limit: int, status: str | None) -> list[Miner]:
        return [_miner(row) for row in self._all("miners_page", before=before or TOP, limit=limit, status=status)]

    def miners_by_status(self) -> dict[str, int]:
        return dict(self._all("miners_by_status"))

    def census(self) -> list[Group]:
        return [_group(row) for row in self._all("census")]

    def set_telemetry(self, miner: int, now: float, body: bytes) -> None:
        self._put("set_telemetry", miner=miner, now=now, body=body)
        if len(body) <= LARGEST_TELEMETRY:
            self._put("add_telemetry", miner=miner, minute=int(now // 60), body=body)

    def telemetry_since(self, miner: int, since: float, limit: int) -> list[tuple[float, bytes]]:
        rows = self._all("telemetry_since", miner=miner, minute=math.ceil(since / 60), limit=limit)
        return [(60.0 * row[0], row[1]) for row in rows]

    def prune_telemetry(self, before: float) -> int:
        return self._do("prune_telemetry", minute=int(before // 60))

    def set_speeds(self, miner: int, speeds: Mapping[str, float]) -> None:
        self._put("forget_speeds", miner=miner)
        for model, speed in speeds.items():
            self._put("add_speed", miner=miner, model=model, speed=speed)

    def speeds_of_miner(self, miner: int) -> dict[str, float]:
        return dict(self._all("speeds_of_miner", miner=miner))

    def speeds_of_model(self, model: str) -> list[float]:
        return [row[0] for row in self._all("speeds_of_model", model=model)]

    def telemetry(self, miner: int) -> bytes | None:
        row = self._one("telemetry", miner=miner)
        return row[0] if row else None

    # -- enrolment

    def add_enrollment_token(self, digest: bytes, uses: int, expires_at: float) -> None:
        self._put("add_enrollment_token", digest=digest, uses=uses, expires_at=expires_at)

    def use_enrollment_token(self, digest: bytes, now: float) -> bool:
        return self._do("use_enrollment_token", digest=digest, now=now) == 1

    # -- jobs

    def add_job(self, job: Job, body: bytes) -> Job:
        row = msgspec.structs.asdict(job)
        del row["seq"]
        row["state"] = str(job.state)
        seq = int(self._one("add_job", **row)[0])
        self._put("add_input", job=seq, body=body)
        return msgspec.structs.replace(job, seq=seq)

    def job_by_id(self, job_id: str) -> Job | None:
        row = self._one("job_by_id", id=job_id)
        return _job(row) if row else None

    def save_job(self, before: Job, after: Job) -> bool:
        # Only what changed is written: an index over columns that are not named is not touched.
        was, now = astuple(before), astuple(after)
        values = {_JOB_FIELDS[at]: now[at] for at in compress(_JOB_PLACES, map(is_not, was, now)) if was[at] != now[at]}
        if "state" in values:
            values["state"] = str(after.state)
        query = setting(self._queries["save_job"], tuple(values))
        values["seq"], values["was_state"], values["was_attempts"] = before.seq, str(before.state), before.attempts
        return self._count(query, values) == 1

    def job_details(self, job: Job) -> Details:
        row = self._one("job_details", job=job.seq, miner=job.miner, attempt=job.completed_attempt)
        return Details(row[0], row[1], row[2], needs_of(row[3]))

    def jobs_page(self, where: JobFilter, before: int | None, limit: int) -> list[Job]:
        if where.client is None:
            query = "jobs_page"
        else:
            query = "client_open_jobs_page" if where.state in _OPEN_STATES else "client_jobs_page"
        rows = self._all(query, before=before or TOP, limit=limit, **msgspec.structs.asdict(where))
        return [_job(row) for row in rows]

    def jobs_by_state(self) -> dict[str, int]:
        return dict(self._all("jobs_by_state"))

    def held_by_state(self) -> dict[str, int]:
        return dict(self._all("held_by_state"))

    def queue_by_model(self) -> list[tuple[str, str, int, float]]:
        return [tuple(row) for row in self._all("queue_by_model")]

    def queued_kinds(self, now: float) -> list[tuple[Kind, int]]:
        counts = {Kind(*kind): int(count) for *kind, count in self._all("queued_kinds")}
        for *kind, count in self._all("resting_kinds", now=now):
            counts[Kind(*kind)] -= int(count)
        return [(kind, count) for kind, count in counts.items() if count]

    def queued_resting(self, now: float) -> list[Job]:
        return [_job(row) for row in self._all("queued_resting", now=now)]

    def newest_job(self) -> int:
        return int(self._one("newest_job")[0])

    def queued(self, kind: Kind, after: board.Key | None, now: float, limit: int) -> list[Job]:
        if after is None:
            rows = self._all("queued", now=now, limit=limit, **kind._asdict())
        else:
            rows = self._all("queued_after", now=now, priority=-after[0], seq=after[1], limit=limit, **kind._asdict())
        return [_job(row) for row in rows]

    def queued_before(self, kind: Kind, key: board.Key) -> int:
        return int(self._one("queued_before", priority=-key[0], seq=key[1], **kind._asdict())[0])

    def held(self, miner: int) -> list[Held]:
        return [Held(*row) for row in self._all("held", miner=miner)]

    def held_count(self, miner: int) -> int:
        return int(self._one("held_count", miner=miner)[0])

    def held_jobs(self, miner: int) -> list[Job]:
        return [_job(row) for row in self._all("held_jobs", miner=miner)]

    def renew(self, miner: int, job_ids: Sequence[str] | None, expires_at: float) -> None:
        if job_ids is None:
            self._put("renew_all", miner=miner, expires_at=expires_at)
        else:
            for job_id in job_ids:
                self._put("renew_one", miner=miner, id=job_id, expires_at=expires_at)

    # -- attempts

    def add_attempt(self, attempt: Attempt) -> None:
        self._put("add_attempt", **msgspec.structs.asdict(attempt))

    def newest_attempt(self, job: int, miner: int, token: str | None) -> Attempt | None:
        if token is None:
            row = self._one("newest_attempt", job=job, miner=miner)
        else:
            row = self._one("attempt_by_token", job=job, miner=miner, token=token)
        return Attempt(*row) if row else None

    def end_attempt(self, job: int, number: int, now: float, outcome: str, reason: str = "") -> None:
        self._put("end_attempt", job=job, number=number, now=now, outcome=outcome, reason=reason)

    def set_upload(self, job: int, number: int, digest: str, size: int, blob: str) -> None:
        self._put("set_upload", job=job, number=number, digest=digest, size=size, blob=blob)

    def set_part(self, job: int, number: int, size: int, blob: str) -> None:
        self._put("set_part", job=job, number=number, size=size, blob=blob)

    def settle(self, job: int, number: int, now: float, settlement: Settlement) -> None:
        self._put("settle", job=job, number=number, now=now, **msgspec.structs.asdict(settlement))

    def settlement(self, job: int, number: int) -> Settlement | None:
        row = self._one("settlement", job=job, number=number)
        return Settlement(*row) if row else None

    def result_blob(self, job: int, number: int) -> str | None:
        row = self._one("result_blob", job=job, number=number)
        return row[0] if row else None

    def is_orphan(self, owner: str, blob: str) -> bool:
        if owner.startswith(FILE):
            return self.input_is_orphan(owner, blob)
        return bool(self._one("is_orphan", job_id=owner, blob=blob)[0])

    def names_blob(self, owner: str, blob: str) -> bool:
        if owner.startswith(FILE):
            return self.names_input_blob(owner, blob)
        return bool(self._one("names_blob", job_id=owner, blob=blob)[0])

    def count_blobs(self, suffix: str) -> tuple[int, int]:
        named, ending = self._one("count_blobs", pattern="%" + suffix)
        return int(named), int(ending)

    def rename_blob(self, owner: str, before: str, after: str) -> None:
        if owner.startswith(FILE):
            self.rename_input_blob(owner, before, after)
            return
        self._put("rename_blob", job_id=owner, before=before, after=after)
        self._put("rename_part", job_id=owner, before=before, after=after)

    # -- the keys that blobs are encrypted under

    def data_keys(self) -> list[WrappedKey]:
        return [WrappedKey(bytes(one), bytes(wrapped), at) for one, wrapped, at in self._all("data_keys")]

    def add_data_key(self, key: WrappedKey) -> None:
        self._put("add_data_key", **msgspec.structs.asdict(key))

    def save_data_key(self, key: WrappedKey) -> None:
        self._put("save_data_key", id=key.id, wrapped=key.wrapped)

    def delete_data_keys(self) -> None:
        self._put("delete_data_keys")

    # -- what miners are told

    def add_notice(self, miner: int, job_id: str, reason: str, now: float) -> None:
        self._put("add_notice", miner=miner, job_id=job_id, reason=reason, now=now)

    def notices(self, miner: int) -> list[Notice]:
        return [Notice(*row) for row in self._all("notices", miner=miner)]

    # -- idempotency

    def claim_answer(self, owner: str, name: str, now: float, fingerprint: bytes) -> Kept | None:
        if self._do("claim_answer", owner=owner, name=name, now=now, fingerprint=fingerprint, nothing=b""):
            return None
        return Kept(*self._one("kept_answer", owner=owner, name=name))

    def keep_answer(self, owner: str, name: str, status: int, body: bytes) -> None:
        self._put("keep_answer", owner=owner, name=name, status=status, body=body)

    # -- care

    def lapsed(self, now: float, limit: int) -> list[Job]:
        return [_job(row) for row in self._all("lapsed", now=now, limit=limit)]

    def overdue(self, now: float, limit: int) -> list[Job]:
        return [_job(row) for row in self._all("overdue", now=now, limit=limit)]

    def mark_offline(self, now: float) -> list[int]:
        return [int(row[0]) for row in self._all("mark_offline", now=now)]

    def prune(self, notices_before: float) -> None:
        self._put("prune_notices", before=notices_before)

    # -- retention

    def forget_answers(self, before: float, limit: int) -> int:
        return self._do("forget_answers", before=before, limit=limit)

    def results_to_expire(self, before: float, limit: int) -> list[Job]:
        return [_job(row) for row in self._all("results_to_expire", before=before, limit=limit)]

    def expire_result(self, job: int, now: float) -> list[str]:
        self._put("expire_result", job=job, now=now)
        blobs = self._blobs_of(job)
        self._put("forget_blobs", job=job)
        return blobs

    def jobs_to_archive(self, before: float, limit: int) -> list[Job]:
        return [_job(row) for row in self._all("jobs_to_archive", before=before, limit=limit)]

    def archive_job(self, job: int) -> list[str]:
        blobs = self._blobs_of(job)
        for query in ("archive", "drop_input", "drop_job_files", "drop_trace", "drop_attempts", "drop_job"):
            self._put(query, job=job)
        return blobs

    def _blobs_of(self, job: int) -> list[str]:
        return [name for row in self._all("blobs_of_job", job=job) for name in row if name is not None]

    def archived(self, job_id: str) -> Archived | None:
        row = self._one("archived", id=job_id)
        return Archived(*row) if row else None

    def meta(self, name: str) -> float | None:
        row = self._one("meta", key=name)
        return float(row[0]) if row else None

    def set_meta(self, name: str, value: float | None) -> None:
        if value is None:
            self._put("drop_meta", key=name)
        else:
            self._put("set_meta", key=name, value=value)

    def alone(self, task: Task) -> bool:
        return True

    def only_one(self) -> bool:
        return True

    def alive_at(self) -> float | None:
        row = self._one("alive_at")
        return float(row[0]) if row else None

    def set_alive(self, now: float) -> None:
        self._put("set_alive", now=now)

    def extend(self, seconds: float) -> int:
        self._put("extend_miners", seconds=seconds)
        return self._do("extend_leases", seconds=seconds)

    # -- signatures

    def add_signing_key(self, key_id: str, public_key: bytes, now: float) -> None:
        self._put("add_signing_key", key_id=key_id, public_key=public_key, now=now)

    def signing_keys(self) -> list[tuple[str, bytes]]:
        return [(key_id, bytes(public_key)) for key_id, public_key in self._all("signing_keys")]

    # -- the audit log

    def audit(self, now: float, actor: str, action: str, subject: str, detail: str = "") -> None:
        self._put("audit", now=now, actor=actor, action=action, subject=subject, detail=detail)

    def audit_page(self, before: int | None, limit: int) -> list[AuditRecord]:
        return [AuditRecord(*row) for row in self._all("audit_page", before=before or TOP, limit=limit)]

    # -- beyond the ports: what only the coordinator's own process asks of its store

    def due(self, now: float) -> bool:
        """Whether any lease, deadline or miner is due."""
        return bool(self._one("due", now=now)[0])

    def jobs_by_seq(self, seqs: Sequence[int]) -> list[Job]:
        """Jobs by their numbers (PostgreSQL)."""
        return [_job(row) for row in self._all("jobs_by_seq", seqs=seqs)]
