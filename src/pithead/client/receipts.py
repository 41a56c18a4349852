"""Checking a receipt without asking anybody: all it takes is the coordinator's public key, fetched once and kept."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pithead.wire.miners import Receipt, ReceiptBatch, ReceiptKeys

#: Name the formats within the signed bytes: of one receipt, and of the root over many.
FORMAT: Final = "pithead-receipt-1"
BATCH_FORMAT: Final = "pithead-receipts-1"

_DIGEST: Final = 32


def canonical(receipt: Receipt) -> bytes:
    """The bytes that vouch for the receipt (docs/reference/receipts.md): signed, or the leaf of the tree whose root is."""
    document = {
        "amount": int(receipt.amount * 1_000_000),
        "attempt": receipt.attempt,
        "completed_at": round(receipt.completed_at * 1000),
        "format": FORMAT,
        "job_id": receipt.job_id,
        "miner_id": receipt.miner_id,
        "receipt_id": receipt.receipt_id,
        "result_hash": receipt.result_hash,
    }
    return msgspec.json.encode(document, order="deterministic")


def signed_bytes(receipt: Receipt) -> bytes:
    """The bytes that were signed. Raises `ValueError` where the receipt's batch is none."""
    if not isinstance(receipt.batch, ReceiptBatch):
        return canonical(receipt)
    root, size = _root(canonical(receipt), receipt.batch), receipt.batch.size
    return f'{{"format":"{BATCH_FORMAT}","root":"{root.hex()}","size":{size}}}'.encode()


def _root(leaf: bytes, batch: ReceiptBatch) -> bytes:
    """Where the path leads (RFC 9162, section 2.1.3.2). Raises `ValueError`."""
    here, last = batch.index, batch.size - 1
    if not 0 <= here <= last:
        raise ValueError("the index is not within the batch")
    found = sha256(b"\0" + leaf).digest()
    for name in batch.path:
        beside = base64.b64decode(name, validate=True)
        if last == 0 or len(beside) != _DIGEST:
            raise ValueError("the path is too long, or has something that is no hash")
        if here % 2 or here == last:
            found = sha256(b"\1" + beside + found).digest()
            while not here % 2 and here:
                here, last = here >> 1, last >> 1
        else:
            found = sha256(b"\1" + found + beside).digest()
        here, last = here >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return found


def verify(receipt: Receipt, keys: ReceiptKeys) -> bool:
    """Whether one of these keys signed the receipt as it stands."""
    for key in keys.keys:
        if key.key_id != receipt.key_id:
            continue
        try:
            raw = base64.b64decode(key.public_key, validate=True)
            if sha256(raw).hexdigest()[:16] != key.key_id:
                return False
            Ed25519PublicKey.from_public_bytes(raw).verify(
                base64.b64decode(receipt.signature, validate=True), signed_bytes(receipt)
            )
        except (InvalidSignature, ValueError):
            return False
        return True
    return False
