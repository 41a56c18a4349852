"""Identifiers and secrets. Opaque to everybody else."""

import os
import secrets
import time
from hashlib import sha256
from typing import Final

#: Digits and lower-case letters without those that are mistaken for others (Crockford's base 32).
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
#: Two characters at a time.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS: Final = range(90, -1, -10)


#: Random bytes, sixteen at a time: asking the system for few costs as much as asking it for many.
_fresh: Final[list[bytes]] = []
os.register_at_fork(after_in_child=_fresh.clear)


def _random() -> bytes:
    """Sixteen bytes of the system's randomness, given out once. From any thread."""
    while True:
        try:
            return _fresh.pop()
        except IndexError:
            block = os.urandom(4096)
            _fresh.extend(block[at : at + 16] for at in range(0, len(block), 16))


def new_id(prefix: str) -> str:
    """A new identifier, `prefix_` and 20 characters.

    The first nine tell the millisecond, so that those of one table sort by age and an index grows at its end; the other
    eleven are 55 random bits. The clock is only a source of order here: nothing reads the time back.
    """
    value = (int(time.time() * 1000) & (1 << 45) - 1) << 55 | int.from_bytes(_random()[:7], "big") >> 1
    return prefix + "_" + "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def new_key() -> str:
    """A new API key: `key_` and 256 random bits."""
    return "key_" + secrets.token_urlsafe(32)


def new_token(prefix: str) -> str:
    """A token that is hard to guess: 128 random bits."""
    return f"{prefix}_{_random().hex()}"


def digest(secret: str) -> bytes:
    """What is stored of a key. Keys are random and long, so a plain hash cannot be searched backwards."""
    return sha256(secret.encode()).digest()
