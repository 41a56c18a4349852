"""Secrets that a coordinator itself has to read again, as they lie in the database.

Where results are encrypted, so are these: AES-256-GCM under a key derived from the newest data key (`keyring.py`), bound to
what the secret is of. Where nothing is encrypted there is no key that would not lie beside them, and they are stored as
they are. A first byte says which.
"""

import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pithead.exchange.ports import Tx
from pithead.store.keyring import Keyring
from pithead.store.sealing import KEY_ID, Broken, DataKey

_PLAIN, _SEALED = b"\x00", b"\x01"
_LABEL: Final = b"pithead sealed secret v1\0"
_NONCE: Final = 12


class Vault:
    """Seals and opens. Implements `exchange.courier.Vault`."""

    def __init__(self, keyring: Keyring | None) -> None:
        """`keyring`: that of the data keys; `None` where nothing is encrypted."""
        self._keyring = keyring

    def seal(self, secret: str, name: str) -> bytes:
        """The secret of what is called so, as it is stored."""
        if self._keyring is None:
            return _PLAIN + secret.encode()
        key, nonce = self._keyring.newest, os.urandom(_NONCE)
        return _SEALED + key.id + nonce + _cipher(key).encrypt(nonce, secret.encode(), _LABEL + name.encode())

    def open(self, stored: bytes, name: str) -> str:
        """The secret. Raises `Broken`."""
        if stored[:1] == _PLAIN:
            return stored[1:].decode()
        if self._keyring is None:
            raise Broken("it is encrypted, and encryption is turned off")
        key_id, rest = stored[1 : 1 + KEY_ID], stored[1 + KEY_ID :]
        try:
            key = self._keyring.find(key_id)
            return _cipher(key).decrypt(rest[:_NONCE], rest[_NONCE:], _LABEL + name.encode()).decode()
        except InvalidTag:
            raise Broken("it was changed, or is another's") from None


def reseal_secrets(tx: Tx, before: Vault, after: Vault) -> None:
    """Keep the secrets of all webhooks as another vault does. Raises `Broken`."""
    for webhook in tx.all_webhooks():
        kept = (webhook.secret, webhook.old_secret)
        secret, old = (None if one is None else after.seal(before.open(one, webhook.id), webhook.id) for one in kept)
        assert secret is not None
        tx.save_webhook(msgspec.structs.replace(webhook, secret=secret, old_secret=old))


def _cipher(key: DataKey) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, key.id, _LABEL).derive(key.secret))
