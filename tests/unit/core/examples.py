"""A job, an attempt and a miner to begin with; each test changes what it is about."""

from typing import Any

from pithead.core.jobs import Attempt, Job, State
from pithead.core.leases import Policy, take
from pithead.core.miners import Admission, Miner
from pithead.core.money import affordable_rate

NOW = 1_000_000.0
POLICY = Policy(lease_ttl=120.0, retry_base=5.0, retry_cap=300.0, avoid_for=60.0)


def job(**over: Any) -> Job:
    """A queued job that pays 0.05 for 600 s on one v100: up to 0.3 per GPU and hour."""
    given: dict[str, Any] = {
        "seq": 7, "id": "job_7", "client": 100, "model": "gpt2", "gpu_type": "v100", "gpu_count": 1,
        "estimated_ms": 600_000, "price": 50_000, "priority": 0, "timeout": 1000.0, "attempt_timeout": None,
        "max_attempts": 3, "require_result": False, "created_at": NOW, "deadline": NOW + 1000.0,
    } | over  # fmt: skip
    given.setdefault("rate", affordable_rate(given["price"], given["gpu_count"], given["estimated_ms"]))
    return Job(**given)


def held(state: State = State.ASSIGNED, **over: Any) -> tuple[Job, Attempt]:
    """The same in the hands of miner 200, in a held state, and its attempt."""
    taken, attempt = take(job(**over), 200, "lease_1", NOW, POLICY)
    fields = {name: getattr(taken, name) for name in Job.__struct_fields__}
    return Job(**fields | {"state": state}), attempt


def miner(**over: Any) -> Miner:
    """An active miner with one v100 at 0.05 per hour that takes any model."""
    given: dict[str, Any] = {
        "seq": 200, "id": "miner_200", "name": "rig", "gpu_type": "v100", "gpu_count": 1, "location": "cellar",
        "price_per_hour": 50_000, "max_concurrent": 4, "models": None, "created_at": NOW,
        "admission": Admission.ADMITTED, "online": True, "last_seen_at": NOW, "offline_at": NOW + 180,
    } | over  # fmt: skip
    return Miner(**given)
