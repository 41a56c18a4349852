"""temporary"""

import base64
import hashlib

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    receipt_id: str
    job_id: str
    miner_id: str
    attempt: int
    result_hash: str
    amount: int
    completed_at: float


def canonical(r: Receipt) -> bytes:
    return msgspec.json.encode(r)


def sign(r: Receipt, key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.sign(canonical(r))).decode()


def key_id(k: Ed25519PublicKey) -> str:
    return hashlib.sha256(k.public_bytes_raw()).hexdigest()[:16]
