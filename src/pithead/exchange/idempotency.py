"""The same request twice is done once: the answer is kept under the caller's `Idempotency-Key`."""

from collections.abc import Callable

from pithead.core.errors import Fault, Invalid
from pithead.exchange.ports import Kept, Tx


def once(
    tx: Tx, now: float, owner: str, key: str | None, fingerprint: bytes, operation: Callable[[], tuple[int, bytes]]
) -> tuple[int, bytes]:
    """The status and body of `operation`, or of the time it was done before under this key.

    What it did and the answer become durable together. A refusal is not kept: nothing happened, and the caller may mend
    it and ask again. Raises `Invalid` where the key was used with another request.
    """
    if key is None:
        return operation()
    kept = tx.kept(owner, key)
    if kept is not None:
        if kept.fingerprint != fingerprint:
            raise Invalid(Fault("Idempotency-Key", "was used with another request; use a new one for a new request"))
        return kept.status, kept.body
    status, body = operation()
    tx.keep(owner, key, now, Kept(fingerprint, status, body))
    return status, body
