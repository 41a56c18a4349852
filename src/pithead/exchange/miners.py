"""Miners: registration, heartbeats, and what an operator decides about them."""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from pithead.core.errors import Conflict, Fault, Forbidden, Invalid, NotFound
from pithead.core.jobs import State
from pithead.core.miners import Admission, Miner, status
from pithead.core.money import micros
from pithead.exchange.dispatch import take_back
from pithead.exchange.events import KeysChanged, MinerChanged
from pithead.exchange.ids import digest
from pithead.exchange.ports import Held, Key, Tx
from pithead.exchange.rules import Rules


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What a miner says of itself. `None` in an update: as it was (for the models, `keep_models` says so)."""

    name: str | None = None
    gpu_type: str | None = None
    gpu_count: int | None = None
    location: str | None = None
    price_per_hour: float | None = None
    max_concurrent: int | None = None
    models: frozenset[str] | None = None
    keep_models: bool = False
    draining: bool | None = None
    payout_destination: str | None = None
    #: Measured by the miner itself: model to tokens a second.
    speeds: dict[str, float] | None = None


class Beat(msgspec.Struct, frozen=True):
    """How a miner stands after its heartbeat."""

    miner: Miner
    held: list[Held]
    #: Jobs to stop, and why: `cancelled`, `expired` or `lost`.
    stop: list[tuple[str, str]]


def find(tx: Tx, miner_id: str) -> Miner:
    """The miner. Raises `NotFound`."""
    miner = tx.miner_by_id(miner_id)
    if miner is None:
        raise NotFound(f"there is no miner {miner_id}")
    return miner


def register(
    tx: Tx, now: float, rules: Rules, *, miner_id: str, key: str, registration: Registration, token: str | None
) -> Miner:
    """A new miner with a key. A name that is in use gives a second miner and touches nothing of the first.

    Raises `Forbidden` without the enrolment token that the rules ask for, `Invalid`.
    """
    if rules.enrollment == "token" and not (token and tx.use_enrollment_token(digest(token), now)):
        raise Forbidden("registering here needs an enrollment_token that is valid; ask the operator for one")
    seq = tx.new_account(miner_id, ["miner"])
    miner = _with(
        Miner(
            seq=seq, id=miner_id, name="", gpu_type="", gpu_count=1, location="", price_per_hour=0, max_concurrent=1,
            models=None, created_at=now,
        ),
        registration,
    )  # fmt: skip
    tx.add_miner(miner)
    if registration.speeds:
        tx.set_speeds(seq, registration.speeds)
    tx.add_key(Key(digest(key), "miner", miner_id, now, None))
    tx.emit(MinerChanged(seq, profile=True))
    return miner


def update(tx: Tx, miner_id: str, registration: Registration) -> Miner:
    """Change a registration. Raises `NotFound`, `Invalid`, and `Conflict` once the miner is retired."""
    miner = find(tx, miner_id)
    if miner.admission is Admission.RETIRED:
        raise Conflict("the miner is retired")
    changed = _with(miner, registration)
    tx.save_miner(changed)
    if registration.speeds is not None:
        tx.set_speeds(miner.seq, registration.speeds)
    tx.emit(MinerChanged(miner.seq, profile=True))
    return changed


def _with(miner: Miner, r: Registration) -> Miner:
    changes: dict[str, object] = {
        name: value
        for name in ("name", "gpu_count", "location", "max_concurrent", "draining", "payout_destination")
        if (value := getattr(r, name)) is not None
    }
    faults: list[Fault] = []
    if r.gpu_type is not None:
        if r.gpu_type.lower() == "any":
            faults.append(Fault("gpu_type", "must be the machine's own type; `any` is for jobs"))
        changes["gpu_type"] = r.gpu_type.lower()
    if r.price_per_hour is not None:
        try:
            changes["price_per_hour"] = micros(r.price_per_hour, "price_per_hour")
        except Invalid as refusal:
            faults.extend(refusal.faults)
    if faults:
        raise Invalid(*faults)
    if not r.keep_models:
        changes["models"] = r.models
    return msgspec.structs.replace(miner, **changes)


def heartbeat(
    tx: Tx, now: float, rules: Rules, miner_id: str, names: Sequence[str], telemetry: bytes | None = None
) -> Beat:
    """The miner is there: renew the leases of the jobs it names, or of all where it names none. Raises `NotFound`."""
    miner = find(tx, miner_id)
    offline_at, was_there = now + rules.offline_after, miner.online
    if miner.admission is Admission.PENDING and rules.enrollment != "approval":
        miner = msgspec.structs.replace(miner, admission=Admission.ADMITTED)
        tx.save_miner(miner)
        was_there = False
    tx.beat(miner.seq, now, offline_at)
    tx.emit(MinerChanged(miner.seq, seen=not was_there))
    miner = msgspec.structs.replace(miner, online=True, last_seen_at=now, offline_at=offline_at)
    if telemetry is not None:
        tx.set_telemetry(miner.seq, now, telemetry)
    held = tx.held(miner.seq)
    if held:
        tx.renew(miner.seq, list(names) or None, now + rules.leases.lease_ttl)
        held = tx.held(miner.seq)
    return Beat(miner, held, to_stop(tx, miner, held, names))


def to_stop(tx: Tx, miner: Miner, held: Sequence[Held], names: Sequence[str]) -> list[tuple[str, str]]:
    """Which jobs a miner must stop working on, and why, where it holds these and believes to hold those of the names."""
    stop = {notice.job_id: notice.reason for notice in tx.notices(miner.seq)}
    mine = {h.job_id for h in held}
    for name in names:
        if name not in mine:
            stop.setdefault(name, "lost")
    # A job that it lost and then took anew is its own again.
    # Nor is one that it completed after all, late or under a new lease, anything to stop.
    return [(j, why) for j, why in stop.items() if j not in mine and not _completed(tx, miner, j)]


class Orders(msgspec.Struct, frozen=True):
    """What a miner has to hear of."""

    miner: Miner
    stop: list[tuple[str, str]]
    #: Another one for all that is different; the times of notices make it so where a job was lost twice.
    version: str


def orders(tx: Tx, miner_id: str) -> Orders:
    """What a heartbeat would tell the miner. Raises `NotFound`."""
    miner = find(tx, miner_id)
    stop = to_stop(tx, miner, tx.held(miner.seq), ())
    at = {notice.job_id: notice.at for notice in tx.notices(miner.seq)}
    told = (status(miner).value, [(job_id, why, at[job_id]) for job_id, why in stop])
    return Orders(miner, stop, f"{crc32(repr(told).encode()):08x}")


def _completed(tx: Tx, miner: Miner, job_id: str) -> bool:
    job = tx.job_by_id(job_id)
    return job is not None and job.state is State.COMPLETED and job.miner == miner.seq


def approve(tx: Tx, now: float, rules: Rules, actor: str, miner_id: str) -> Miner:
    """Let a pending or suspended miner work. Raises `NotFound`, `Conflict` once it is retired."""
    miner = find(tx, miner_id)
    if miner.admission is Admission.RETIRED:
        raise Conflict("the miner is retired; its owner can register anew")
    # It counts as online from now on, so that it need not wait for its next heartbeat to see jobs.
    changed = msgspec.structs.replace(
        miner, admission=Admission.ADMITTED, online=True, offline_at=now + rules.offline_after
    )
    return _decided(tx, now, actor, "miner.approve", changed)


def suspend(tx: Tx, now: float, actor: str, miner_id: str, reason: str) -> Miner:
    """Give the miner no more jobs. Raises `NotFound`, `Conflict` once it is retired."""
    miner = find(tx, miner_id)
    if miner.admission is Admission.RETIRED:
        raise Conflict("the miner is retired")
    return _decided(
        tx, now, actor, "miner.suspend", msgspec.structs.replace(miner, admission=Admission.SUSPENDED), reason
    )


def retire(tx: Tx, now: float, rules: Rules, actor: str, miner_id: str) -> Miner:
    """End a miner for good: what it holds goes back to the queue, its keys end. Repeating it changes nothing."""
    miner = find(tx, miner_id)
    if miner.admission is Admission.RETIRED:
        return miner
    for job in tx.held_jobs(miner.seq):
        take_back(tx, now, rules, job)
    tx.end_keys(miner_id, now)
    tx.emit(KeysChanged(miner_id))
    changed = msgspec.structs.replace(miner, admission=Admission.RETIRED, online=False)
    return _decided(tx, now, actor, "miner.retire", changed)


def set_limits(
    tx: Tx, now: float, actor: str, miner_id: str, requests: int | None, job_operations: int | None
) -> Miner:
    """Limits for one miner: `None` is the coordinator's setting, 0 is none. Raises `NotFound`."""
    changed = msgspec.structs.replace(
        find(tx, miner_id), requests_per_minute=requests, job_operations_per_minute=job_operations
    )
    tx.emit(KeysChanged(miner_id))
    detail = f"requests_per_minute={requests} job_operations_per_minute={job_operations}"
    return _decided(tx, now, actor, "miner.limits", changed, detail)


def _decided(tx: Tx, now: float, actor: str, action: str, miner: Miner, detail: str = "") -> Miner:
    tx.save_miner(miner)
    tx.emit(MinerChanged(miner.seq, profile=True))
    tx.audit(now, actor, action, miner.id, detail)
    return miner
