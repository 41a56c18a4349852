"""The key that signs receipts: a file that only its owner reads, sealed where encryption at rest is on.

Receipts are signed together: the operations of a batch of the writer's all run before the first of their answers is made,
and the first answer that needs a signature makes one for all of them.
"""

import threading
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pithead.core import receipts
from pithead.core.receipts import Proof, Receipt
from pithead.exchange.ports import Signed, Ticket
from pithead.store.errors import StoreError
from pithead.store.files import erase, write_private
from pithead.store.keyring import Keyring
from pithead.store.sealing import Broken, seal_bytes, unseal_bytes

PLAIN: Final = "signing.pem"
SEALED: Final = "signing.sealed"

#: So many are signed together at the most. Where operations are undone, or commits fail, nobody asks for what was enlisted.
MOST: Final = 1024
#: So many of the latest receipts can be had again as they were signed: who lost an answer asks again soon.
REMEMBERED: Final = 10_000


class ReceiptSigner:
    """Implements `exchange.ports.Signer` with the coordinator's Ed25519 key, once it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open = _Together()
        self._lately: dict[str, _Place] = {}
        self._key: Ed25519PrivateKey
        self.key_id: str
        self.public_key: bytes

    def open(self, keyring: Keyring | None) -> None:
        """Read the folder's key, which is made where there is none. With a keyring, the file is sealed.

        A plain file that is found all the same is sealed, and goes. Raises `StoreError`.
        """
        pem = read_key(self._folder, keyring)
        if pem is None:
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        try:
            key = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            file = self._folder / (SEALED if (self._folder / SEALED).exists() else PLAIN)
            raise StoreError(
                f"{file} is not an Ed25519 key in PEM form; restore it, or move it away to have a new one made"
            )
        write_key(self._folder, keyring, pem)
        self.use(key)

    def use(self, key: Ed25519PrivateKey) -> None:
        """Sign with this key."""
        self._key = key
        self.key_id = receipts.key_id(key.public_key())
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, receipt: Receipt) -> str:
        return receipts.sign(receipt, self._key)

    def enlist(self, receipt: Receipt) -> Ticket:
        # PostgreSQL's lanes run operations on threads of their own, and answers are made on the event loop's.
        with self._lock:
            together = self._open
            place = len(together.receipts)
            if place >= MOST:
                together, place = _Together(), 0
                self._open = together
            together.receipts.append(receipt)
            ticket = self._lately[receipt.receipt_id] = _Place(self, together, place)
            if len(self._lately) > REMEMBERED:
                del self._lately[next(iter(self._lately))]
        return ticket

    def again(self, receipt: Receipt) -> Ticket:
        with self._lock:
            ticket = self._lately.get(receipt.receipt_id)
        # One that was enlisted and undone may be remembered, and say something else than what was done in the end.
        if ticket is not None and ticket.receipt == receipt:
            return ticket
        return Signed(self.key_id, self.sign(receipt))

    def signed(self, together: "_Together", place: int) -> Signed:
        """The signature of the one in this place; the first that is asked for signs all that were enlisted with it.

        Among them may be one whose operation was undone, or whose commit failed: its hash is signed, and nobody is ever
        given the proof that goes with it.
        """
        with self._lock:
            if together is self._open:
                self._open = _Together()
            if together.signature is None:
                if len(together.receipts) == 1:
                    together.signature = self.sign(together.receipts[0])
                else:
                    together.signature, together.proofs = receipts.sign_together(together.receipts, self._key)
        return Signed(self.key_id, together.signature, together.proofs[place] if together.proofs else None)


class _Together:
    """Receipts that are signed at once."""

    __slots__ = ("proofs", "receipts", "signature")

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.signature: str | None = None
        #: Empty where there is one receipt, which is signed alone.
        self.proofs: list[Proof] = []


class _Place:
    """One receipt among them: its ticket."""

    __slots__ = ("_place", "_signer", "_together")

    def __init__(self, signer: ReceiptSigner, together: _Together, place: int) -> None:
        self._signer = signer
        self._together = together
        self._place = place

    @property
    def receipt(self) -> Receipt:
        """What it is for."""
        return self._together.receipts[self._place]

    def signed(self) -> Signed:
        return self._signer.signed(self._together, self._place)


def read_key(folder: Path, keyring: Keyring | None) -> bytes | None:
    """The key as PEM; `None` where there is none. Raises `StoreError` where it is sealed and cannot be opened."""
    sealed, plain = folder / SEALED, folder / PLAIN
    if sealed.exists():
        if keyring is None:
            raise StoreError(f"{sealed} is encrypted; set db_encryption_enabled and its key")
        try:
            return unseal_bytes(keyring.find, SEALED, sealed.read_bytes())
        except Broken as error:
            raise StoreError(
                f"{sealed} cannot be opened: {error}; restore it, or move it away to have a new one made"
            ) from error
    return plain.read_bytes() if plain.exists() else None


def write_key(folder: Path, keyring: Keyring | None, pem: bytes) -> None:
    """Keep the key sealed, or plain without a keyring; the other file goes once this one is durable."""
    sealed, plain = folder / SEALED, folder / PLAIN
    if keyring is not None:
        if not sealed.exists():
            write_private(sealed, seal_bytes(keyring.newest, SEALED, pem))
        erase(plain)
    else:
        if not plain.exists():
            write_private(plain, pem)
        sealed.unlink(missing_ok=True)
