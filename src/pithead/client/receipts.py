"""Checking a receipt without asking anybody: all it takes is the coordinator's public key, fetched once and kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pithead.wire.miners import Receipt, ReceiptKeys

#: Names the format within the signed bytes.
FORMAT: Final = "pithead-receipt-1"


def canonical(receipt: Receipt) -> bytes:
    """The bytes that were signed (docs/reference/receipts.md)."""
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


def verify(receipt: Receipt, keys: ReceiptKeys) -> bool:
    """Whether one of these keys signed the receipt as it stands."""
    for key in keys.keys:
        if key.key_id != receipt.key_id:
            continue
        try:
            raw = base64.b64decode(key.public_key, validate=True)
            if hashlib.sha256(raw).hexdigest()[:16] != key.key_id:
                return False
            Ed25519PublicKey.from_public_bytes(raw).verify(
                base64.b64decode(receipt.signature, validate=True), canonical(receipt)
            )
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
    return False
