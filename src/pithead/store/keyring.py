"""The data keys that blobs are sealed under, each wrapped under a key derived from the database key.

They lie in the database, wrapped. Another database key wraps them anew, and no blob has to be written again.
"""

import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pithead.exchange.ports import Tx, WrappedKey
from pithead.store.errors import StoreError
from pithead.store.keys import DatabaseKey
from pithead.store.sealing import Broken, DataKey, new_data_key

_LABEL: Final = "pithead key-encryption key v1"
_AAD: Final = b"pithead data key v1\0"
_NONCE: Final = 12


class Keyring:
    """The data keys, unwrapped: all to read by, the newest to write by. Empty until it is filled."""

    def __init__(self) -> None:
        self._keys: dict[bytes, DataKey] = {}

    def fill(self, wrapped: Sequence[WrappedKey], master: DatabaseKey) -> None:
        """Unwrap these keys, the oldest first. Raises `StoreError` where the database key is another."""
        self._keys = {key.id: key for key in unwrap(wrapped, master)}

    @property
    def newest(self) -> DataKey:
        """What new blobs are sealed under."""
        return next(reversed(self._keys.values()))

    def find(self, key_id: bytes) -> DataKey:
        """The key of this id. Raises `Broken`."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise Broken(f"it is under a key that this database does not have ({key_id.hex()})") from None

    def drop(self) -> None:
        """Forget all keys. They are `bytes`, which cannot be overwritten: their memory is freed, not cleared."""
        self._keys.clear()


def wrap(key: DataKey, master: DatabaseKey, now: float) -> WrappedKey:
    """The key as it is stored."""
    nonce = os.urandom(_NONCE)
    sealed = AESGCM(master.derive(_LABEL)).encrypt(nonce, key.secret, _AAD + key.id)
    return WrappedKey(key.id, nonce + sealed, now)


def unwrap(wrapped: Sequence[WrappedKey], master: DatabaseKey) -> list[DataKey]:
    """The keys. Raises `StoreError` where the database key is another."""
    cipher = AESGCM(master.derive(_LABEL))
    try:
        return [
            DataKey(one.id, cipher.decrypt(one.wrapped[:_NONCE], one.wrapped[_NONCE:], _AAD + one.id))
            for one in wrapped
        ]
    except InvalidTag:
        raise StoreError(
            "the database key is not the one that the keys of the results are wrapped under; give the other"
        ) from None


def new_wrapped_key(master: DatabaseKey, now: float) -> WrappedKey:
    """A new data key, as it is stored."""
    return wrap(new_data_key(), master, now)


def rewrap(tx: Tx, old: DatabaseKey, new: DatabaseKey) -> None:
    """Wrap all data keys under another database key. Raises `StoreError` where the old one is none of theirs."""
    wrapped = tx.data_keys()
    for one, key in zip(wrapped, unwrap(wrapped, old), strict=True):
        tx.save_data_key(wrap(key, new, one.created_at))
