"""Receipts: the coordinator's canonical bytes and the SDK's are the same ones, and no change of a field goes unnoticed."""

import base64
import re
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given

from pithead.client import receipts as sdk
from pithead.core import receipts
from pithead.core.money import units
from pithead.core.receipts import Receipt
from pithead.wire import miners as wire

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "receipts.md"
EXAMPLE = Receipt(
    receipt_id="receipt_1",
    job_id="job_1",
    miner_id="miner_1",
    attempt=1,
    result_hash="sha256:ab12",
    amount=50_000,
    completed_at=1_800_000_000.0,
)


def travelled(receipt: Receipt, key: Ed25519PrivateKey) -> wire.Receipt:
    """The receipt as a miner gets it, through JSON."""
    fields = msgspec.structs.asdict(receipt) | {"amount": units(receipt.amount)}
    sent = wire.Receipt(**fields, key_id=receipts.key_id(key.public_key()), signature=receipts.sign(receipt, key))
    return msgspec.json.decode(msgspec.json.encode(sent), type=wire.Receipt)


def keys_of(key: Ed25519PrivateKey) -> wire.ReceiptKeys:
    public = key.public_key()
    encoded = base64.b64encode(public.public_bytes_raw()).decode()
    one = wire.ReceiptKey(key_id=receipts.key_id(public), algorithm="Ed25519", public_key=encoded)
    return wire.ReceiptKeys(keys=[one])


def test_the_page_shows_the_canonical_bytes() -> None:
    alone, example, root = re.findall(r"```json\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert receipts.canonical(EXAMPLE) == alone.encode()
    # And one that was signed together with two others.
    known = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    three = [msgspec.structs.replace(EXAMPLE, receipt_id=f"receipt_{n}", job_id=f"job_{n}") for n in (1, 2, 3)]
    signature, proofs = receipts.sign_together(three, known)
    sent = msgspec.json.decode(example, type=wire.Receipt)
    expected = travelled(EXAMPLE, known)
    expected.signature, expected.batch = signature, wire.ReceiptBatch(**msgspec.structs.asdict(proofs[0]))
    assert sent == expected
    assert sdk.verify(sent, keys_of(known))
    assert sdk.signed_bytes(sent) == root.encode()
    assert keys_of(known).keys[0].public_key in PAGE.read_text(encoding="utf-8")


@given(
    amount=st.integers(0, 10**14),
    attempt=st.integers(1, 10**6),
    completed_at=st.floats(0, 4e9, allow_nan=False),
    result_hash=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=64),
)
def test_what_travelled_is_what_was_signed(amount: int, attempt: int, completed_at: float, result_hash: str) -> None:
    key = Ed25519PrivateKey.generate()
    receipt = msgspec.structs.replace(
        EXAMPLE, amount=amount, attempt=attempt, completed_at=completed_at, result_hash="sha256:" + result_hash
    )
    sent = travelled(receipt, key)
    assert sdk.canonical(sent) == receipts.canonical(receipt)
    assert sdk.verify(sent, keys_of(key))
    assert receipts.verify(receipt, sent.signature, key.public_key())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("receipt_id", "receipt_2"),
        ("job_id", "job_2"),
        ("miner_id", "miner_2"),
        ("attempt", 2),
        ("result_hash", "sha256:ab13"),
        ("amount", Decimal("0.06")),
        ("completed_at", 1_800_000_000.001),
        ("signature", base64.b64encode(bytes(64)).decode()),
        ("signature", "not base64"),
        ("key_id", "0" * 16),
    ],
)
def test_a_changed_field_is_noticed(field: str, value: object) -> None:
    key = Ed25519PrivateKey.generate()
    sent = travelled(EXAMPLE, key)
    setattr(sent, field, value)
    assert not sdk.verify(sent, keys_of(key))


def test_a_key_under_another_ones_name_is_noticed() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    sent, keys = travelled(EXAMPLE, key), keys_of(other)
    keys.keys[0].key_id = sent.key_id
    assert not sdk.verify(sent, keys)


def test_a_signature_that_is_none_is_not_one() -> None:
    key = Ed25519PrivateKey.generate().public_key()
    assert not receipts.verify(EXAMPLE, "not base64", key)
    assert not receipts.verify(EXAMPLE, base64.b64encode(bytes(64)).decode(), key)
