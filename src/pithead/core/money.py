"""Amounts in whole millionths, accounts, and transfers that balance by construction.

A transfer takes an amount from one account and gives it to another, so every transaction, and any history of them, sums
to 0 (the representation TigerBeetle uses; double entry with both legs in one record). Nothing here is a float.
"""

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, Literal

import msgspec

from pithead.core.errors import Fault, Invalid

#: Millionths in one currency unit.
SCALE: Final = 1_000_000

#: JSON numbers made by binary arithmetic (0.1 + 0.2) carry noise far below a millionth; more than this is a real fraction of one.
_NOISE: Final = Decimal("0.001")

Cause = Literal["credit", "hold", "payment", "fee", "refund", "payout", "payout_returned", "payout_paid"]

#: The accounts that belong to nobody in particular. Those of clients and miners are numbered from 100.
ISSUED: Final = 1  #: The world outside: what operators credited and have not paid out again, as a negative balance.
FEES: Final = 2  #: What the operator earned.
PAYOUTS: Final = 3  #: What miners asked to be paid out and has not left yet.
FIRST_OWNED: Final = 100

#: Keeps a rate within a signed 64-bit column; far above any price a miner may ask.
_MAX_RATE: Final = 2**62


def escrow_of(client: int) -> int:
    """The account in which a client's prices are set aside; each client has the number after its own for it."""
    return client + 1


class Transfer(msgspec.Struct, frozen=True):
    """`amount` millionths (> 0) from the account `debit` to the account `credit`, and what caused it."""

    cause: Cause
    debit: int
    credit: int
    amount: int
    #: The job it is about, if it is about one,
    job: int | None = None
    #: or the payout.
    payout: int | None = None
    note: str = ""


def micros(value: float | Decimal, field: str = "amount") -> int:
    """Whole millionths of a JSON number.

    A float is read as the shortest decimal that gives it, which is what the sender wrote.
    Raises `Invalid` for what is finer than a millionth or not a finite number.
    """
    try:
        scaled = (value if isinstance(value, Decimal) else Decimal(repr(value))) * SCALE
        whole = scaled.to_integral_value()
    except (InvalidOperation, ValueError):
        raise Invalid(Fault(field, "must be a finite number")) from None
    if not scaled.is_finite():
        raise Invalid(Fault(field, "must be a finite number"))
    if abs(scaled - whole) > _NOISE:
        raise Invalid(Fault(field, "must be exact to the millionth (six decimal places)"))
    return int(whole)


@lru_cache(maxsize=10_000)
def units(amount: int) -> Decimal:
    """Currency units of an amount in millionths, in the plainest form: 50000 is 0.05."""
    if amount % SCALE == 0:
        return Decimal(amount // SCALE)
    return Decimal(amount).scaleb(-6).normalize()


def affordable_rate(price: int, gpu_count: int, estimated_ms: int) -> int:
    """The highest price per GPU and hour (millionths) at which `price` covers the estimated time.

    `price >= rate * gpu_count * estimated_ms / 3_600_000` holds exactly for the rates up to this one.
    """
    return min(price * 3_600_000 // (gpu_count * estimated_ms), _MAX_RATE)


def price_for(rate: int, gpu_count: int, estimated_ms: int) -> int:
    """The lowest price of a job whose `affordable_rate` is at least this rate."""
    return -(-rate * gpu_count * estimated_ms // 3_600_000)


def hold(client: int, job: int, price: int) -> tuple[Transfer, ...]:
    """Set a job's price aside."""
    return (Transfer("hold", client, escrow_of(client), price, job),) if price else ()


def refund(client: int, job: int, price: int) -> tuple[Transfer, ...]:
    """Give a job's price back."""
    return (Transfer("refund", escrow_of(client), client, price, job),) if price else ()


def pay(client: int, miner: int, job: int, price: int, fee_basis_points: int) -> tuple[Transfer, ...]:
    """Pay a job out: the operator's fee, rounded down to the millionth, and the rest to the miner."""
    fee = price * fee_basis_points // 10_000
    transfers = (
        Transfer("payment", escrow_of(client), miner, price - fee, job),
        Transfer("fee", escrow_of(client), FEES, fee, job),
    )
    return tuple(t for t in transfers if t.amount)


def credit(client: int, amount: int, note: str) -> tuple[Transfer, ...]:
    """An operator's credit, or with a negative amount its taking back."""
    if amount >= 0:
        return (Transfer("credit", ISSUED, client, amount, note=note),) if amount else ()
    return (Transfer("credit", client, ISSUED, -amount, note=note),)


def reserve(miner: int, payout: int, amount: int) -> tuple[Transfer, ...]:
    """Set aside what a miner asked to be paid out."""
    return (Transfer("payout", miner, PAYOUTS, amount, payout=payout),)


def give_back(miner: int, payout: int, amount: int) -> tuple[Transfer, ...]:
    """A payout was rejected."""
    return (Transfer("payout_returned", PAYOUTS, miner, amount, payout=payout),)


def pay_out(payout: int, amount: int) -> tuple[Transfer, ...]:
    """A payout has left for the world outside."""
    return (Transfer("payout_paid", PAYOUTS, ISSUED, amount, payout=payout),)
