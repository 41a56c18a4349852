"""What is sealed opens as it was, under its key and name, or not at all."""

import itertools
from collections.abc import AsyncGenerator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.exchange.ports import WrappedKey
from pithead.store.errors import StoreError
from pithead.store.keyring import Keyring, new_wrapped_key, unwrap, wrap
from pithead.store.keys import DatabaseKey
from pithead.store.sealing import (
    CHUNK,
    HEADER,
    SEALED,
    TAG,
    Broken,
    DataKey,
    Stream,
    key_id,
    new_data_key,
    plain_size,
    seal,
    seal_bytes,
    unseal,
    unseal_bytes,
)

KEY = new_data_key()
#: About where chunks, and the batches that they are encrypted in, begin and end.
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 16 * CHUNK, 16 * CHUNK + 1, 33 * CHUNK + 7]


def find(wanted: bytes) -> DataKey:
    assert wanted == KEY.id
    return KEY


def content(size: int) -> bytes:
    return (b"0123456789abcdefg" * (size // 17 + 1))[:size]


async def pieces(data: bytes, size: int) -> AsyncGenerator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def joined(stream: AsyncGenerator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1000, CHUNK, 40 * CHUNK])
async def test_a_stream_opens_as_it_was(size: int, piece: int) -> None:
    plain = content(size)
    sealed = await joined(seal(KEY, "name", pieces(plain, piece)))
    assert plain_size(len(sealed)) == size
    assert await joined(unseal(find, "name", pieces(sealed, piece))) == plain
    assert unseal_bytes(find, "name", sealed) == plain
    assert size < 20 or plain[:20] not in sealed


def test_no_two_streams_are_alike() -> None:
    sealed = {seal_bytes(KEY, "name", b"the same") for _ in range(100)}
    assert len({one[HEADER:] for one in sealed}) == 100
    assert len({one[:HEADER] for one in sealed}) == 100


def swapped(sealed: bytes) -> bytes:
    first, second = sealed[HEADER : HEADER + SEALED], sealed[HEADER + SEALED : HEADER + 2 * SEALED]
    return sealed[:HEADER] + second + first + sealed[HEADER + 2 * SEALED :]


WRONGS: dict[str, Callable[[bytes], bytes]] = {
    "cut in a chunk": lambda sealed: sealed[:-1],
    "cut at a chunk's end": lambda sealed: sealed[: HEADER + 2 * SEALED],
    "cut to its header": lambda sealed: sealed[:HEADER],
    "cut in its header": lambda sealed: sealed[: HEADER - 1],
    "nothing of it": lambda sealed: b"",
    "longer": lambda sealed: sealed + b"x",
    "a chunk repeated at the end": lambda sealed: sealed + sealed[-SEALED:],
    "the last chunk left out": lambda sealed: sealed[: HEADER + SEALED] + sealed[HEADER + 2 * SEALED :],
    "two chunks swapped": swapped,
    "a chunk of another stream": lambda sealed: (
        sealed[:HEADER] + seal_bytes(KEY, "name", content(2 * CHUNK + 5))[HEADER : HEADER + SEALED] + sealed[HEADER + SEALED :]
    ),
    "another stream's header": lambda sealed: seal_bytes(KEY, "name", b"")[:HEADER] + sealed[HEADER:],
    "plain": lambda sealed: content(2 * CHUNK + 5),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS)
async def test_what_was_meddled_with_does_not_open(wrong: Callable[[bytes], bytes]) -> None:
    sealed = wrong(seal_bytes(KEY, "name", content(2 * CHUNK + 5)))
    with pytest.raises(Broken):
        unseal_bytes(find, "name", sealed)
    with pytest.raises(Broken):
        await joined(unseal(find, "name", pieces(sealed, 10_000)))


@given(st.integers(0, HEADER + 3 * TAG + 2 * CHUNK + 4), st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(at: int, by: int) -> None:
    sealed = bytearray(seal_bytes(KEY, "name", content(2 * CHUNK + 5)))
    sealed[at] ^= by
    with pytest.raises((Broken, AssertionError)):  # in the key's id: that key is not known
        unseal_bytes(find, "name", bytes(sealed))


def test_it_is_under_its_key_and_name() -> None:
    sealed = seal_bytes(KEY, "name", b"content")
    assert key_id(sealed[:HEADER]) == KEY.id
    with pytest.raises(Broken):
        unseal_bytes(find, "another name", sealed)
    with pytest.raises(Broken, match="under another key"):
        Stream(new_data_key(), sealed[:HEADER], "name")
    with pytest.raises(Broken):
        unseal_bytes(lambda wanted: DataKey(wanted, bytes(32)), "name", sealed)


def test_the_size_of_the_plaintext_is_known_from_that_of_the_stream() -> None:
    possible = {HEADER + size + max(1, -(-size // CHUNK)) * TAG: size for size in range(3 * CHUNK + 20)}
    for sealed in range(HEADER + 3 * SEALED + 40):
        if sealed in possible:
            assert plain_size(sealed) == possible[sealed]
        elif sealed < max(possible):
            with pytest.raises(Broken):
                plain_size(sealed)


# ---- The keys that streams are under


def test_a_keyring_is_opened_by_its_database_key_alone() -> None:
    master, other = DatabaseKey(b"m" * 32), DatabaseKey(b"o" * 32)
    wrapped = [new_wrapped_key(master, at) for at in (1.0, 2.0)]
    keyring = Keyring()
    keyring.fill(wrapped, master)
    assert keyring.newest.id == wrapped[1].id
    assert keyring.find(wrapped[0].id).secret not in wrapped[0].wrapped
    with pytest.raises(StoreError, match="not the one"):
        keyring.fill(wrapped, other)
    mixed = WrappedKey(wrapped[0].id, wrapped[1].wrapped, 1.0)
    with pytest.raises(StoreError, match="not the one"):
        unwrap([mixed], master)
    with pytest.raises(Broken, match="does not have"):
        keyring.find(b"?" * 16)
    keyring.drop()
    with pytest.raises(Broken):
        keyring.find(wrapped[0].id)


def test_another_database_key_wraps_the_same_keys() -> None:
    masters = [DatabaseKey(bytes([n]) * 32) for n in range(3)]
    wrapped = new_wrapped_key(masters[0], 1.0)
    [key] = unwrap([wrapped], masters[0])
    for before, after in itertools.pairwise(masters):
        [same] = unwrap([wrapped], before)
        wrapped = wrap(same, after, wrapped.created_at)
        assert same == key
    assert unwrap([wrapped], masters[2]) == [key]
    assert key.secret.hex() not in repr(key)
