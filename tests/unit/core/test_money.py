"""Money: whole millionths, exact in and out, and transfers that balance whatever they are about."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given

from pithead.core import money
from pithead.core.errors import Invalid
from pithead.core.money import FEES, ISSUED, Transfer, affordable_rate, escrow_of, micros, units

amounts = st.integers(0, 10**14)
CLIENT, MINER, JOB = 100, 102, 7


# -- in and out


@given(st.integers(-(10**14), 10**14))
def test_what_goes_out_comes_back_in(amount: int) -> None:
    """To the millionth, also through a JSON number that the other side reads as a double."""
    assert micros(units(amount)) == amount
    assert micros(float(units(amount))) == amount
    travelled = msgspec.json.Encoder(decimal_format="number").encode(units(amount))
    assert micros(msgspec.json.decode(travelled)) == amount
    assert Fraction(units(amount)) == Fraction(amount, 1_000_000)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "0"), (50_000, "0.05"), (1, "0.000001"), (1_000_000, "1"), (100_000_000, "100"), (1_200_000, "1.2"),
     (-50_000, "-0.05"), (99_999_999_999_999, "99999999.999999")],
)  # fmt: skip
def test_the_plainest_form(amount: int, shown: str) -> None:
    assert msgspec.json.Encoder(decimal_format="number").encode(units(amount)) == shown.encode()


@pytest.mark.parametrize(
    ("written", "amount"),
    [(0.1 + 0.2, 300_000), (1.1 * 1.1, 1_210_000), (0.7 * 3, 2_100_000), (1e-6, 1), (100_000_000.0, 10**14), (-0.0, 0),
     (Decimal("0.050000"), 50_000)],
)  # fmt: skip
def test_the_noise_of_binary_arithmetic_is_none(written: float | Decimal, amount: int) -> None:
    assert micros(written) == amount


@given(st.integers(0, 10**12), st.integers(1, 999))
@example(0, 2)
@example(1, 998)
def test_a_real_fraction_of_a_millionth_is_refused(whole: int, thousandths: int) -> None:
    """From two thousandths of a millionth on; noise is far below."""
    if thousandths in (1, 999):
        return
    with pytest.raises(Invalid, match="exact to the millionth"):
        micros(Decimal(whole * 1000 + thousandths).scaleb(-9))


@pytest.mark.parametrize("written", [float("inf"), float("-inf"), float("nan"), Decimal("Infinity"), Decimal("NaN")])
def test_what_is_no_number_is_refused(written: float | Decimal) -> None:
    with pytest.raises(Invalid, match=r"^price: must be a finite number$") as refused:
        micros(written, "price")
    assert [fault.field for fault in refused.value.faults] == ["price"]


# -- rates


@given(price=amounts, count=st.integers(1, 1024), milliseconds=st.integers(1, 31_536_000_000), rate=amounts)
@example(price=50_000, count=1, milliseconds=600_000, rate=300_000)
@example(price=50_000, count=1, milliseconds=600_000, rate=300_001)
@example(price=28, count=1, milliseconds=1000, rate=100_000)
@example(price=27, count=1, milliseconds=1000, rate=100_000)
def test_a_rate_is_affordable_exactly_where_the_price_covers_it(
    price: int, count: int, milliseconds: int, rate: int
) -> None:
    covers = Fraction(price) >= Fraction(rate * count * milliseconds, 3_600_000)
    assert covers == (rate <= affordable_rate(price, count, milliseconds))


@given(price=amounts, count=st.integers(1, 1024), milliseconds=st.integers(1, 31_536_000_000))
def test_a_rate_is_the_last_that_is_affordable(price: int, count: int, milliseconds: int) -> None:
    rate = affordable_rate(price, count, milliseconds)
    assert 0 <= rate < 2**63, "a signed 64-bit column holds it"
    assert price * 3_600_000 >= rate * count * milliseconds
    if rate < 2**62:
        assert price * 3_600_000 < (rate + 1) * count * milliseconds


def test_the_bound_of_a_rate_is_above_every_price() -> None:
    """The dearest job of a millisecond: its rate is cut off, far above what a miner may ask (10**8 units)."""
    assert affordable_rate(10**14, 1, 1) == 2**62 > 10**14


# -- transfers


def moved(transfers: Sequence[Transfer]) -> Counter[int]:
    """What each account has more."""
    sums: Counter[int] = Counter()
    for transfer in transfers:
        assert transfer.amount > 0, "a transfer of nothing is none"
        assert transfer.debit != transfer.credit
        sums[transfer.debit] -= transfer.amount
        sums[transfer.credit] += transfer.amount
    assert sum(sums.values()) == 0
    return sums


@given(price=amounts, fee=st.integers(0, 10_000))
def test_a_job_s_money_is_set_aside_and_then_goes_one_way_or_the_other(price: int, fee: int) -> None:
    escrow = escrow_of(CLIENT)
    aside = money.hold(CLIENT, JOB, price)
    assert moved(aside) == Counter({CLIENT: -price, escrow: price}) if price else aside == ()
    back = moved([*aside, *money.refund(CLIENT, JOB, price)])
    assert not any(back.values()), "a refund undoes a hold"
    paid = moved([*aside, *money.pay(CLIENT, MINER, JOB, price, fee)])
    share = price * fee // 10_000
    assert paid[escrow] == 0
    assert (paid[CLIENT], paid[MINER], paid[FEES]) == (-price, price - share, share)
    # The fee is rounded in the miner's favour, by less than a millionth.
    assert 0 <= Fraction(price * fee, 10_000) - share < 1


@given(amount=st.integers(-(10**14), 10**14), note=st.text(max_size=5))
def test_credit_comes_from_outside_and_goes_back_there(amount: int, note: str) -> None:
    transfers = money.credit(CLIENT, amount, note)
    sums = moved(transfers)
    assert (sums[CLIENT], sums[ISSUED]) == (amount, -amount)
    assert all((t.cause, t.note, t.job) == ("credit", note, None) for t in transfers)


def test_each_transfer_says_what_it_is_about() -> None:
    assert money.hold(CLIENT, JOB, 5) == (Transfer("hold", CLIENT, CLIENT + 1, 5, JOB),)
    assert money.refund(CLIENT, JOB, 5) == (Transfer("refund", CLIENT + 1, CLIENT, 5, JOB),)
    assert money.pay(CLIENT, MINER, JOB, 10_000, 333) == (
        Transfer("payment", CLIENT + 1, MINER, 9667, JOB),
        Transfer("fee", CLIENT + 1, FEES, 333, JOB),
    )
    assert money.pay(CLIENT, MINER, JOB, 10, 0) == (Transfer("payment", CLIENT + 1, MINER, 10, JOB),)
    assert money.pay(CLIENT, MINER, JOB, 10, 10_000) == (Transfer("fee", CLIENT + 1, FEES, 10, JOB),)
    assert money.pay(CLIENT, MINER, JOB, 0, 333) == money.credit(CLIENT, 0, "") == ()
