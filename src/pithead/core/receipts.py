"""Receipts: what the coordinator vouches for when it pays, the bytes that it signs, and how anybody checks them.

The signature is Ed25519 (RFC 8032) over `canonical`. docs/reference/receipts.md says the same for other languages.
"""

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Names the format within the signed bytes, so that no other document with the same fields passes for a receipt.
FORMAT: Final = "pithead-receipt-1"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One paid completion: who delivered what, for how much."""

    receipt_id: str
    job_id: str
    miner_id: str
    attempt: int
    result_hash: str
    amount: int  #: What the miner was paid, in millionths.
    completed_at: float  #: Seconds since the epoch, by the coordinator's clock.


def canonical(receipt: Receipt) -> bytes:
    """The bytes that are signed: JSON in UTF-8, keys in order, no blanks, and whole numbers only.

    The amount is in millionths and the time in milliseconds, so that no two languages write a number differently.
    """
    document = msgspec.structs.asdict(receipt) | {
        "format": FORMAT,
        "completed_at": round(receipt.completed_at * 1000),
    }
    return msgspec.json.encode(document, order="deterministic")


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> str:
    """The signature, in base64."""
    return base64.b64encode(key.sign(canonical(receipt))).decode()


def verify(receipt: Receipt, signature: str, key: Ed25519PublicKey) -> bool:
    """Whether the holder of `key` signed this receipt as it stands."""
    try:
        key.verify(base64.b64decode(signature, validate=True), canonical(receipt))
    except (InvalidSignature, binascii.Error):
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """Names a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
