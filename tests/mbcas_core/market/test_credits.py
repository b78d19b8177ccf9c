"""Credits: what a loan may not do to anybody, and that credits are neither made nor lost."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.market.clearing import clear
from mbcas_core.market.credits import PURSES_MAX, CreditTable, endow, find_static_shares, lend
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.strategies import ORDINARY_WEIGHT, QUANTUM, Fit, bids_of, markets


@dataclass(frozen=True)
class Loan:
    """One market with purses, cleared and lent."""

    market: PlainMarket
    acceptable: list[int]
    balance: list[int]
    balance_max: list[int]

    def lend(self) -> tuple[list[int], list[int]]:
        """Returns what was allocated before the loan, and what it moved."""
        bids, capacity = bids_of([self.market])
        cleared = clear(bids, capacity, quantum_millicores=self.market.quantum)
        moved = lend(
            bids,
            cleared,
            capacity,
            acceptable_millicores=np.array(self.acceptable),
            balance=np.array(self.balance),
            balance_max=np.array(self.balance_max),
            quantum_millicores=self.market.quantum,
        )
        return cleared.allocation_millicores.tolist(), moved.tolist()

    @property
    def counted(self) -> list[int]:
        return [min(b, r) for b, r in zip(self.market.floors, self.market.needs, strict=True)]

    @property
    def least(self) -> list[int]:
        return [min(a, r) for a, r in zip(self.acceptable, self.market.needs, strict=True)]


@st.composite
def lively_markets(draw: st.DrawFn) -> PlainMarket:
    """Draws a market whose busy bidders share what others leave of their static shares."""
    wished = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3))
    wished += draw(st.lists(st.integers(300, 4000), min_size=2, max_size=4))
    wished = draw(st.permutations(wished))
    floors = draw(st.lists(st.integers(0, 500), min_size=len(wished), max_size=len(wished)))
    weights = draw(st.lists(ORDINARY_WEIGHT, min_size=len(wished), max_size=len(wished)))
    needs = [floor + s for floor, s in zip(floors, wished, strict=True)]
    capacity = sum(floors) + draw(st.integers(sum(wished) // 4, sum(wished) * 3 // 4))
    return PlainMarket(needs, floors, weights, capacity, draw(QUANTUM))


@st.composite
def loans(draw: st.DrawFn, *, fit: Fit = Fit.FLOORS) -> Loan:
    """Draws a market, purses, and what is acceptable: a part of the need, or more than it."""
    market = draw(st.one_of(lively_markets(), lively_markets(), markets(max_rows=6, fit=fit)))
    rows = len(market.needs)
    wanted = draw(st.lists(st.sampled_from([9, 8, 5, 0, 12]), min_size=rows, max_size=rows))
    most = draw(st.lists(st.sampled_from([10_000, 1_000_000, 50]), min_size=rows, max_size=rows))
    saved = draw(st.lists(st.sampled_from([5, 1, 9, 10, 0]), min_size=rows, max_size=rows))
    return Loan(
        market=market,
        acceptable=[need * tenths // 10 for need, tenths in zip(market.needs, wanted, strict=True)],
        balance=[limit * tenths // 10 for limit, tenths in zip(most, saved, strict=True)],
        balance_max=most,
    )


@settings(max_examples=60)
@given(loans(fit=Fit.ANY))
def test_a_loan_keeps_the_sum_and_makes_no_credit(loan: Loan) -> None:
    got, moved = loan.lend()

    assert sum(moved) == 0
    balance = [k - t for k, t in zip(loan.balance, moved, strict=True)]
    assert sum(balance) == sum(loan.balance)
    assert all(0 <= k <= most for k, most in zip(balance, loan.balance_max, strict=True))
    assert all(0 <= x + t <= r for x, t, r in zip(got, moved, loan.market.needs, strict=True))


@settings(max_examples=60)
@given(loans())
def test_nobody_is_lent_below_its_floor_and_no_giver_below_its_static_share(loan: Loan) -> None:
    got, moved = loan.lend()

    market = loan.market
    surplus = market.capacity - sum(loan.counted)
    weight_sum = sum(Fraction(w) for w in market.weights)
    for row, (x, t) in enumerate(zip(got, moved, strict=True)):
        share = loan.counted[row] + Fraction(market.weights[row]) * surplus / weight_sum
        assert x + t >= min(loan.counted[row], x)
        if t < 0:
            # The share is a float in the core: off by less than a billionth.
            assert x + t >= min(Fraction(market.needs[row]), share) * (1 - Fraction(1, 10**9))


@settings(max_examples=60)
@given(loans())
def test_a_loan_goes_to_who_would_refuse_and_comes_from_who_still_would_not(loan: Loan) -> None:
    got, moved = loan.lend()

    for x, t, least in zip(got, moved, loan.least, strict=True):
        if t > 0:
            assert x + t <= least
        if t < 0:
            assert x + t >= least


@settings(max_examples=60)
@given(loans())
def test_a_loan_is_what_plain_arithmetic_makes_of_it(loan: Loan) -> None:
    got, moved = loan.lend()

    market = loan.market
    bids, capacity = bids_of([market])
    static = find_static_shares(bids, capacity).tolist()
    wish, spare = [], []
    for row, x in enumerate(got):
        least, room = loan.least[row], loan.balance_max[row] - loan.balance[row]
        wish.append(max(0, min(least - x, loan.balance[row])))
        spare.append(max(0, min(x - max(static[row], least), room)) if x >= least else 0)
    total = min(sum(wish), sum(spare))
    nothing = [0] * len(got)
    lifted = clear_plainly(PlainMarket(wish, nothing, market.weights, total, market.quantum))
    left = clear_plainly(
        PlainMarket(spare, nothing, market.weights, sum(spare) - total, market.quantum)
    )
    by_hand = [
        up - (g - kept)
        for up, g, kept in zip(lifted.allocations, spare, left.allocations, strict=True)
    ]
    assert moved == by_hand


@settings(max_examples=60)
@given(loans())
def test_where_the_floors_do_not_fit_nothing_is_lent(loan: Loan) -> None:
    market = loan.market
    scarce = PlainMarket(market.needs, market.needs, market.weights, 3, market.quantum)

    _, moved = Loan(scarce, loan.acceptable, loan.balance, loan.balance_max).lend()

    assert sum(market.needs) <= 3 or not any(moved)


@settings(max_examples=60)
@given(loans())
def test_without_credits_nothing_moves(loan: Loan) -> None:
    poor = Loan(loan.market, loan.acceptable, [0] * len(loan.balance), loan.balance_max)

    _, moved = poor.lend()

    assert not any(moved)


def test_the_example_of_the_module_comes_out_as_written() -> None:
    market = PlainMarket([100, 600, 600], [0, 0, 0], [1.0, 1.0, 1.0], 900, 10)

    got, moved = Loan(market, [0, 450, 0], [0, 30, 0], [1000] * 3).lend()

    assert got == [100, 400, 400]
    assert moved == [0, 30, -30]


def test_a_full_purse_gives_no_more_than_it_can_be_paid_for() -> None:
    market = PlainMarket([100, 600, 600], [0, 0, 0], [1.0, 1.0, 1.0], 900, 10)

    _, moved = Loan(market, [0, 450, 0], [0, 1000, 980], [1000] * 3).lend()

    assert moved == [0, 20, -20]


def test_a_purse_is_filled_once_by_admitted_request_and_bounded() -> None:
    table = CreditTable()
    table.grow(3)
    pods = np.arange(3)

    first = endow(table, pods, np.array([500, 250, 0]), per_core=1000)
    table.balance[0] = 7
    again = endow(table, pods, np.array([500, 250, 0]), per_core=1000)

    assert table.balance.tolist() == [7, 250, 0]
    assert first.tolist() == again.tolist() == [500 * PURSES_MAX, 250 * PURSES_MAX, 0]
