"""Whose a key is, and the keys that were seen so far, in memory."""

from hmac import compare_digest
from typing import Final

import msgspec

from pithead.exchange.ports import OwnerKind, Tx

#: Keys kept in memory at the most; far more than a coordinator has miners.
_MOST: Final = 500_000


class Principal(msgspec.Struct, frozen=True):
    """Whose key it is, and what limits it has of its own."""

    kind: OwnerKind
    id: str
    digest: bytes
    expires_at: float | None
    requests_per_minute: int | None = None
    job_operations_per_minute: int | None = None


def read_principal(tx: Tx, hashed: bytes) -> Principal | None:
    """Whose key has this digest."""
    key = tx.key(hashed)
    if key is None:
        return None
    requests = job_operations = None
    if key.kind == "miner":
        miner = tx.miner_by_id(key.owner)
        if miner is not None:
            requests, job_operations = miner.requests_per_minute, miner.job_operations_per_minute
    return Principal(key.kind, key.owner, hashed, key.expires_at, requests, job_operations)


def valid(found: Principal, hashed: bytes, now: float) -> Principal | None:
    """What was found, if it is what was looked for and has not ended."""
    if not compare_digest(found.digest, hashed) or (found.expires_at is not None and found.expires_at <= now):
        return None
    return found


class Keys:
    """The keys that were seen, until they change."""

    def __init__(self) -> None:
        #: Counts what was told of changes.
        self.changes = 0
        self._found: dict[bytes, Principal] = {}
        self._of: dict[str, set[bytes]] = {}

    def find(self, hashed: bytes) -> Principal | None:
        """What is kept of a key."""
        return self._found.get(hashed)

    def keep(self, found: Principal, since: int) -> None:
        """Keep what was read after so many changes; not where there was one since, which it may be older than."""
        if since != self.changes:
            return
        if len(self._found) >= _MOST:
            self._found.clear()
            self._of.clear()
        self._found[found.digest] = found
        self._of.setdefault(found.id, set()).add(found.digest)

    def forget(self, owner: str) -> None:
        """The keys of this owner changed."""
        self.changes += 1
        for known in self._of.pop(owner, ()):
            self._found.pop(known, None)

    def forget_all(self) -> None:
        """Any key may have changed."""
        self.changes += 1
        self._found.clear()
        self._of.clear()
