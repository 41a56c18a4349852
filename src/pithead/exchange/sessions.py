"""Sessions of the dashboard: a key is exchanged for a token that ends by itself.

A session is stored as a key of its owner, so whatever ends the owner's keys ends its sessions too, on every coordinator, by
the way that the news of keys go anyway. Its token is hashed with something in front that no request can carry in a header:
it is no key of the API, and a key of the API is no session.
"""

from typing import Final

import msgspec

from pithead.core.errors import Forbidden
from pithead.exchange.accounts import hold_keys
from pithead.exchange.events import KeysChanged
from pithead.exchange.ids import digest
from pithead.exchange.ports import Key, Tx
from pithead.exchange.principals import Principal, read_principal, valid

_SPACE: Final = "session\n"
#: Seconds for which a session that has ended stays in the database.
_KEPT: Final = 86_400.0


class UnknownKey(Forbidden):
    """There is no such key, or it has ended."""

    slug = "unknown-key"


class Session(msgspec.Struct, frozen=True):
    """A session that was opened."""

    principal: Principal
    expires_at: float


def name_of(token: str) -> str:
    """What the token is looked up by, as a key."""
    return _SPACE + token


def sign_in(tx: Tx, now: float, key: str, token: str, length: float) -> Session:
    """Exchange a key for a session of this length, which ends with the key at the latest. Raises `UnknownKey`."""
    hashed = digest(key)
    owner = None if "\n" in key else read_principal(tx, hashed)
    if owner is not None:
        # Whoever ends this owner's keys at the same time does so before, and it is seen, or after, and ends this one too.
        hold_keys(tx, now, owner.kind, owner.id)
        owner = read_principal(tx, hashed)
        owner = owner and valid(owner, hashed, now)
    if owner is None:
        raise UnknownKey("the key is unknown, or has been revoked")
    ends = now + length if owner.expires_at is None else min(now + length, owner.expires_at)
    tx.forget_ended_keys(owner.id, now - _KEPT)
    tx.add_key(Key(digest(name_of(token)), owner.kind, owner.id, now, ends))
    if owner.kind == "operator":
        tx.audit(now, owner.id, "session.open", owner.id)
    return Session(owner, ends)


def sign_out(tx: Tx, now: float, token: str) -> None:
    """End a session. Repeating it changes nothing."""
    hashed = digest(name_of(token))
    found = tx.key(hashed)
    if found is not None and (found.expires_at is None or found.expires_at > now):
        tx.add_key(msgspec.structs.replace(found, expires_at=now))
        tx.emit(KeysChanged(found.owner))
