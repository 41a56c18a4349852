"""The same request twice is done once: the answer is kept under the caller's `Idempotency-Key`."""

import secrets
from collections.abc import Callable

import msgspec

from pithead.core import sealing
from pithead.core.errors import Fault, Invalid
from pithead.exchange.ids import digest
from pithead.exchange.ports import Tx


class Repeatable(msgspec.Struct, frozen=True):
    """A request that carries an idempotency key."""

    #: Whose key it is: one caller's keys are nothing to another.
    owner: str
    key: str
    #: A hash of the call and its body.
    fingerprint: bytes
    #: Whether the answer carries a secret, and is to be kept sealed.
    secret: bool


def once(tx: Tx, now: float, request: Repeatable, operation: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
    """The status and body of `operation`, or of the time it was done before under this key.

    What it did and the answer become durable together. A refusal is not kept: nothing happened, and the caller may mend
    it and ask again. The key is claimed before anything is done, so that where two transactions run at once, the second
    one waits for the first and then has its answer. Raises `Invalid` where the key was used with another request.
    """
    owner, name, fingerprint = request.owner, digest(request.key).hex(), request.fingerprint
    kept = tx.claim_answer(owner, name, now, fingerprint)
    if kept is not None:
        if kept.fingerprint != fingerprint:
            raise Invalid(Fault("Idempotency-Key", "was used with another request; use a new one for a new request"))
        if request.secret:
            return kept.status, sealing.unseal(kept.body, request.key, owner, fingerprint)
        return kept.status, kept.body
    status, body = operation()
    stored = body
    if request.secret:
        stored = sealing.seal(body, request.key, owner, fingerprint, secrets.token_bytes(sealing.NONCE))
    tx.keep_answer(owner, name, status, stored)
    return status, body
