"""Answers that carry a secret, kept so that only whoever asked can read them.

The key is derived (HKDF-SHA256, RFC 5869) from the caller's idempotency key, of which the store has only a hash; the
cipher is AES-256-GCM. What is sealed for one caller and request opens for no other.
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"pithead-kept-answer-1\n"
#: The bytes of a nonce: whoever seals brings them, random and never twice.
NONCE: Final = 12


def seal(answer: bytes, key: str, owner: str, request: bytes, nonce: bytes) -> bytes:
    """`answer`, to be opened with the same idempotency key, owner and request."""
    return nonce + AESGCM(_derived(key, owner)).encrypt(nonce, answer, request)


def unseal(sealed: bytes, key: str, owner: str, request: bytes) -> bytes:
    """The answer. Raises `cryptography.exceptions.InvalidTag` where it was sealed with anything else."""
    return AESGCM(_derived(key, owner)).decrypt(sealed[:NONCE], sealed[NONCE:], request)


def _derived(key: str, owner: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE + owner.encode()).derive(key.encode())
