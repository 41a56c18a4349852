"""Clients, their credit, and everybody's keys."""

import msgspec

from pithead.core import money
from pithead.core.errors import Conflict, NotFound
from pithead.core.money import escrow_of, micros, units
from pithead.exchange.events import KeysChanged
from pithead.exchange.ids import digest
from pithead.exchange.jobs import client
from pithead.exchange.ports import Client, Key, OwnerKind, Tx

#: The operator's account, as keys and the audit log name it.
OPERATOR = "operator"

#: Keeps every sum of balances within a signed 64-bit column.
_MOST_CREDIT = 10**18


def create_client(tx: Tx, now: float, actor: str, client_id: str, key: str, name: str, credit: float) -> Client:
    """A new client with a key, and with some credit if wanted. Raises `Invalid`."""
    amount = micros(credit, "credit")
    seq = tx.new_account(client_id, ["client", "escrow"])
    created = Client(seq, client_id, name, now)
    tx.add_client(created)
    tx.add_key(Key(digest(key), "client", client_id, now, None))
    tx.post(now, money.credit(seq, amount, "opening credit"))
    tx.audit(now, actor, "client.create", client_id, f"{name}, credit {units(amount)}")
    return created


def credit_client(tx: Tx, now: float, actor: str, client_id: str, amount: float, note: str) -> Client:
    """Change a client's balance. Raises `NotFound`, `Invalid`, and `Conflict` where taking away would leave less than 0."""
    found, change = client(tx, client_id), micros(amount)
    after = tx.balance(found.seq) + change
    if change < 0 and after < 0:
        raise Conflict(f"the balance is {units(tx.balance(found.seq))}: {units(-change)} cannot be taken from it")
    if after > _MOST_CREDIT:
        raise Conflict("a balance cannot be that large")
    tx.post(now, money.credit(found.seq, change, note))
    tx.audit(now, actor, "client.credit", client_id, f"{units(change)} {note}".strip())
    return found


def set_credit_line(tx: Tx, now: float, actor: str, client_id: str, amount: float) -> Client:
    """Let a client's balance go down to `-amount`. Raises `NotFound`, `Invalid`.

    A line below what the client owes already takes nothing back: it only gets nothing more until it has paid.
    """
    found, line = client(tx, client_id), micros(amount)
    tx.set_credit_line(found.seq, line)
    tx.audit(now, actor, "client.credit-line", client_id, f"{units(found.credit_line)} -> {units(line)}")
    return msgspec.structs.replace(found, credit_line=line)


def balances(tx: Tx, account: int) -> tuple[int, int]:
    """What a client can spend, and what is set aside for its jobs."""
    return tx.balance(account), tx.balance(escrow_of(account))


def hold_keys(tx: Tx, now: float, kind: OwnerKind, owner: str) -> None:
    """Let no other operation begin with this owner's keys until this transaction ends."""
    if kind == "operator":
        # There is no row of the operator's to be locked: this one is made to be.
        tx.set_meta("operator_keys", now)
    elif kind == "client":
        tx.client_by_id(owner)
    else:
        tx.miner_by_id(owner)


def set_operator_key(tx: Tx, now: float, key: str) -> None:
    """Make `key` the operator's only key."""
    hold_keys(tx, now, "operator", OPERATOR)
    tx.end_keys(OPERATOR, now)
    tx.add_key(Key(digest(key), "operator", OPERATOR, now, None))
    tx.emit(KeysChanged(OPERATOR))


def rotate_key(tx: Tx, now: float, actor: str, account_id: str, key: str, grace: float) -> None:
    """Give the account a new key; the old ones end after `grace` seconds. Raises `NotFound`, `Conflict`."""
    kind = _kind(tx, account_id)
    hold_keys(tx, now, kind, account_id)
    tx.end_keys(account_id, now + grace)
    tx.add_key(Key(digest(key), kind, account_id, now, None))
    tx.emit(KeysChanged(account_id))
    tx.audit(now, actor, "key.rotate", account_id, f"old keys end in {grace:.0f} s")


def revoke_keys(tx: Tx, now: float, actor: str, account_id: str) -> int:
    """End all keys of a miner or a client; how many. Raises `NotFound`, `Conflict` for the operator's."""
    if _kind(tx, account_id) == "operator":
        raise Conflict("the operator's keys cannot all be revoked; rotate them")
    ended = tx.end_keys(account_id, now)
    tx.emit(KeysChanged(account_id))
    tx.audit(now, actor, "key.revoke", account_id, f"{ended} keys")
    return ended


def create_enrollment_token(tx: Tx, now: float, actor: str, token: str, uses: int, expires_in: float) -> float:
    """Store a token to register with; when it ends."""
    tx.add_enrollment_token(digest(token), uses, now + expires_in)
    tx.audit(now, actor, "enrollment-token.create", OPERATOR, f"{uses} uses, {expires_in:.0f} s")
    return now + expires_in


def _kind(tx: Tx, account_id: str) -> OwnerKind:
    if account_id == OPERATOR:
        return "operator"
    if tx.client_by_id(account_id):
        return "client"
    miner = tx.miner_by_id(account_id)
    if miner is None:
        raise NotFound(f"there is no account {account_id}")
    if miner.admission == "retired":
        raise Conflict("the miner is retired; its owner can register anew")
    return "miner"
