"""Receipts: what the coordinator vouches for when it pays, the bytes that it signs, and how anybody checks them.

One is signed alone, or many are signed at once: as the leaves of a Merkle tree whose root is signed, each with the path from
its leaf to the root (RFC 9162, section 2.1, over SHA-256). The signature is Ed25519 (RFC 8032) over `canonical` or
`canonical_root`. docs/reference/receipts.md says the same for other languages.
"""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Names the format within the signed bytes, so that no other document with the same fields passes for a receipt.
FORMAT: Final = "pithead-receipt-1"
#: … and so that no root passes for one, nor a receipt for a root.
BATCH_FORMAT: Final = "pithead-receipts-1"

_DIGEST: Final = 32


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One paid completion: who delivered what, for how much."""

    receipt_id: str
    job_id: str
    miner_id: str
    attempt: int
    result_hash: str
    amount: int  #: What the miner was paid, in millionths.
    completed_at: float  #: Seconds since the epoch, by the coordinator's clock.


class Proof(msgspec.Struct, frozen=True):
    """Where a receipt stands among those that were signed together."""

    index: int
    size: int
    #: The hashes beside the way from its leaf to the root, from the leaf on; in base64.
    path: list[str]


class _Document(msgspec.Struct):
    """What is signed of a receipt, in the order of the keys."""

    amount: int
    attempt: int
    completed_at: int
    format: str
    job_id: str
    miner_id: str
    receipt_id: str
    result_hash: str


_encode = msgspec.json.Encoder().encode


def canonical(receipt: Receipt) -> bytes:
    """The bytes that are signed: JSON in UTF-8, keys in order, no blanks, and whole numbers only.

    The amount is in millionths and the time in milliseconds, so that no two languages write a number differently.
    """
    return _encode(
        _Document(
            receipt.amount,
            receipt.attempt,
            round(receipt.completed_at * 1000),
            FORMAT,
            receipt.job_id,
            receipt.miner_id,
            receipt.receipt_id,
            receipt.result_hash,
        )
    )


def canonical_root(root: bytes, size: int) -> bytes:
    """The bytes that are signed for so many receipts at once: JSON likewise."""
    return b'{"format":"%b","root":"%b","size":%d}' % (BATCH_FORMAT.encode(), root.hex().encode(), size)


def plant(entries: Sequence[bytes]) -> tuple[bytes, list[list[str]]]:
    """The root of the tree over these entries, of which there is at least one, and the path of each.

    Level by level: what has no neighbour goes up as it is, which gives the tree that RFC 9162 defines from above.
    """
    nodes = [_leaf(entry) for entry in entries]
    levels = []
    while len(nodes) > 1:
        levels.append(nodes)
        above = [_node(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
        if len(nodes) % 2:
            above.append(nodes[-1])
        nodes = above
    # Down again: the path of a node is its neighbour, and then the path of what is above both.
    paths: list[list[str]] = [[]]
    for level in reversed(levels):
        names = [binascii.b2a_base64(node, newline=False).decode() for node in level]
        below = [
            path
            for left, right, rest in zip(names[::2], names[1::2], paths, strict=False)
            for path in ([right, *rest], [left, *rest])
        ]
        if len(names) % 2:
            below.append(paths[-1])
        paths = below
    return nodes[0], paths


def _leaf(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def root_of(entry: bytes, proof: Proof) -> bytes | None:
    """The root that the path leads to (RFC 9162, section 2.1.3.2); `None` where it is none of such a tree."""
    here, last = proof.index, proof.size - 1
    if not 0 <= here <= last:
        return None
    found = _leaf(entry)
    for name in proof.path:
        try:
            beside = base64.b64decode(name, validate=True)
        except ValueError:
            return None
        if last == 0 or len(beside) != _DIGEST:
            return None
        if here % 2 or here == last:
            found = _node(beside, found)
            while not here % 2 and here:
                here, last = here >> 1, last >> 1
        else:
            found = _node(found, beside)
        here, last = here >> 1, last >> 1
    return found if last == 0 else None


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> str:
    """The signature of one receipt alone, in base64."""
    return base64.b64encode(key.sign(canonical(receipt))).decode()


def sign_together(receipts: Sequence[Receipt], key: Ed25519PrivateKey) -> tuple[str, list[Proof]]:
    """One signature for all of these, in base64, and the proof of each."""
    root, paths = plant([canonical(receipt) for receipt in receipts])
    size = len(receipts)
    signature = base64.b64encode(key.sign(canonical_root(root, size))).decode()
    return signature, [Proof(index, size, path) for index, path in enumerate(paths)]


def verify(receipt: Receipt, signature: str, key: Ed25519PublicKey, proof: Proof | None = None) -> bool:
    """Whether the holder of `key` signed this receipt as it stands: alone, or with `proof` as one of many."""
    signed = canonical(receipt)
    if proof is not None:
        root = root_of(signed, proof)
        if root is None:
            return False
        signed = canonical_root(root, proof.size)
    try:
        key.verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """Names a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]
