"""Receipts that are signed together: each is proved by itself, by the coordinator's code and by the SDK's, and no other is."""

import base64
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from msgspec.structs import replace
from tests.unit.core.test_receipts import EXAMPLE, keys_of, travelled

from pithead.client import receipts as sdk
from pithead.core import receipts
from pithead.core.receipts import Proof, Receipt
from pithead.wire import miners as wire

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
#: Of no use as a receipt, but as different as they get.
RECEIPTS = [replace(EXAMPLE, receipt_id=f"receipt_{n}", job_id=f"job_{n}", amount=n) for n in range(70)]
#: The entries and roots of Certificate Transparency's own tests, which are of the same tree.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
Part = tuple[Receipt, str, Proof]


def in_batch(size: int, first: int = 0) -> list[Part]:
    """So many receipts, signed together: each with the signature and its proof."""
    chosen = RECEIPTS[first : first + size]
    signature, proofs = receipts.sign_together(chosen, KEY)
    return [(receipt, signature, proof) for receipt, proof in zip(chosen, proofs, strict=True)]


def holds(receipt: Receipt, signature: str, proof: Proof) -> bool:
    """Whether it is proved; the SDK must think the same of what travelled."""
    core = receipts.verify(receipt, signature, KEY.public_key(), proof)
    sent = travelled(receipt, KEY)
    sent.signature = signature
    sent.batch = wire.ReceiptBatch(index=proof.index, size=proof.size, path=list(proof.path))
    sent = msgspec.json.decode(msgspec.json.encode(sent), type=wire.Receipt)
    assert sdk.verify(sent, keys_of(KEY)) == core
    return core


def root_from_above(entries: list[bytes]) -> bytes:
    """The tree's hash as RFC 9162, section 2.1.1, defines it."""
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\1" + root_from_above(entries[:k]) + root_from_above(entries[k:])).digest()


def path_from_above(m: int, entries: list[bytes]) -> list[bytes]:
    """The path of entry `m` as section 2.1.3.1 defines it."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*path_from_above(m, entries[:k]), root_from_above(entries[k:])]
    return [*path_from_above(m - k, entries[k:]), root_from_above(entries[:k])]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_tree_is_that_of_certificate_transparency(size: int) -> None:
    root, _ = receipts.plant([bytes.fromhex(entry) for entry in ENTRIES[:size]])
    assert root.hex() == ROOTS[size - 1]


@pytest.mark.parametrize("size", [*range(1, 71), 256])
def test_the_tree_is_the_one_that_is_defined_from_above(size: int) -> None:
    entries = [b"%d" % number for number in range(size)]
    root, paths = receipts.plant(entries)
    assert root == root_from_above(entries)
    for number, path in enumerate(paths):
        assert [base64.b64decode(name) for name in path] == path_from_above(number, entries)


def test_what_is_signed_is_written_so() -> None:
    [(_, signature, one), (_, _, two)] = in_batch(2)
    root = sha256(b"\1" + b"".join(sha256(b"\0" + receipts.canonical(r)).digest() for r in RECEIPTS[:2])).digest()
    signed = b'{"format":"pithead-receipts-1","root":"%b","size":2}' % root.hex().encode()
    assert receipts.canonical_root(root, 2) == signed
    assert base64.b64decode(signature) == KEY.sign(signed)
    assert (one.index, two.index, one.size, two.size) == (0, 1, 2, 2)


@pytest.mark.parametrize("size", range(1, 71))
def test_every_receipt_of_a_batch_is_proved(size: int) -> None:
    for part in in_batch(size):
        assert holds(*part)


@given(st.data(), st.integers(2, 70))
def test_another_receipt_than_the_one_is_noticed(data: st.DataObject, size: int) -> None:
    batch = in_batch(size)
    receipt, signature, proof = data.draw(st.sampled_from(batch))
    other = data.draw(st.sampled_from(batch))
    if other[0] != receipt:
        assert not holds(receipt, signature, other[2])
        assert not holds(other[0], signature, proof)
    changes: dict[str, Any] = {
        "receipt_id": "receipt_x", "job_id": "job_x", "miner_id": "miner_x", "attempt": 2, "result_hash": "sha256:00",
        "amount": 71, "completed_at": 1_800_000_000.001,
    }  # fmt: skip
    field = data.draw(st.sampled_from(sorted(changes)))
    assert not holds(replace(receipt, **{field: changes[field]}), signature, proof)


@given(st.data(), st.integers(2, 70))
def test_another_place_is_noticed(data: st.DataObject, size: int) -> None:
    receipt, signature, proof = data.draw(st.sampled_from(in_batch(size)))
    index, count = data.draw(st.integers(-3, 80)), data.draw(st.integers(-3, 80) | st.just(2**70))
    assume((index, count) != (proof.index, proof.size))
    assert not holds(receipt, signature, Proof(index, count, proof.path))
    assert not holds(receipt, signature, replace(proof, index=index)) or index == proof.index
    assert not holds(receipt, signature, replace(proof, size=count)) or count == proof.size


def _flip(name: str, at: int) -> str:
    raw = bytearray(base64.b64decode(name))
    raw[at % len(raw)] ^= 1 << at % 8
    return base64.b64encode(raw).decode()


#: What may become of a path; `at` says where, and `more` is a hash.
PATHS: dict[str, Callable[[list[str], int, str], list[str]]] = {
    "without the first": lambda path, at, more: path[1:],
    "without the last": lambda path, at, more: path[:-1],
    "without one": lambda path, at, more: [name for place, name in enumerate(path) if place != at % len(path)],
    "none": lambda path, at, more: [],
    "with one more": lambda path, at, more: [*path[: at % (len(path) + 1)], more, *path[at % (len(path) + 1) :]],
    "one twice": lambda path, at, more: [*path, path[at % len(path)]],
    "in another order": lambda path, at, more: path[::-1],
    "a bit is another": lambda path, at, more: [*path[:-1], _flip(path[-1], at)],
    "a bit of the first is another": lambda path, at, more: [_flip(path[0], at), *path[1:]],
    "shorter hashes": lambda path, at, more: [base64.b64encode(base64.b64decode(n)[:-1]).decode() for n in path],
    "longer hashes": lambda path, at, more: [base64.b64encode(base64.b64decode(n) + b"\0").decode() for n in path],
    "no base64": lambda path, at, more: [*path[:-1], "!" + path[-1][1:]],
    "no ASCII": lambda path, at, more: [*path[:-1], "ä" + path[-1][1:]],
}


@pytest.mark.parametrize("change", PATHS)
@given(st.data(), st.integers(2, 70), st.integers(0, 10**6), st.binary(min_size=32, max_size=32))
def test_another_path_is_noticed(change: str, data: st.DataObject, size: int, at: int, more: bytes) -> None:
    receipt, signature, proof = data.draw(st.sampled_from(in_batch(size)))
    path = PATHS[change](list(proof.path), at, base64.b64encode(more).decode())
    assume(path != proof.path)
    assert not holds(receipt, signature, replace(proof, path=path))


@given(st.data(), st.integers(2, 34), st.integers(2, 34))
def test_the_proof_of_another_batch_is_noticed(data: st.DataObject, size: int, other_size: int) -> None:
    receipt, signature, proof = data.draw(st.sampled_from(in_batch(size)))
    # The same receipt stands in the other one too, or another one does.
    first = data.draw(st.integers(0, 35))
    for _, other_signature, other_proof in in_batch(other_size, first):
        assume(other_signature != signature)
        assert not holds(receipt, other_signature, proof)
        assert not holds(receipt, signature, other_proof) or other_proof == proof


@given(st.integers(2, 70), st.integers(0, 511))
def test_another_signature_is_noticed(size: int, bit: int) -> None:
    receipt, signature, proof = in_batch(size)[-1]
    raw = bytearray(base64.b64decode(signature))
    raw[bit // 8] ^= 1 << bit % 8
    for other in (base64.b64encode(raw).decode(), "", "ä", receipts.sign(receipt, KEY)):
        assert not holds(receipt, other, proof)


def test_a_root_is_no_receipt_and_a_receipt_no_root() -> None:
    receipt, together, _ = in_batch(2)[0]
    alone = receipts.sign(receipt, KEY)
    assert not receipts.verify(receipt, together, KEY.public_key())
    # Not even of a tree with one leaf, which nobody plants.
    assert not holds(receipt, alone, Proof(0, 1, []))
    assert receipts.verify(receipt, alone, KEY.public_key())
