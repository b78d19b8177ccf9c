import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.market.clearing import clear
from mbcas_core.market.price import SHADOW_PRICE_MAX, find_prices
from mbcas_loadtest.bench.solver import draw_scarce_markets
from mbcas_loadtest.errors import DemoError
from mbcas_loadtest.mechanism.solver import Programme, Solution, Surplus, solve
from tests.mbcas_core.market.plain import PlainMarket
from tests.mbcas_core.market.strategies import Fit, bids_of, markets

MARKETS, BIDDERS = 20, 30
QUANTUM = 10


@pytest.fixture(scope="module")
def solved() -> list[tuple[int, Solution]]:
    """Markets and what the solver made of them, where it met its tolerance."""
    drawn = draw_scarce_markets(np.random.default_rng(0), MARKETS, BIDDERS)
    programme = Programme(BIDDERS)
    solutions = []
    for index in range(MARKETS):
        programme.set_market(drawn.surplus(index))
        programme.solve()
        solutions.append((index, programme.read(drawn.surplus(index))))
    exact = [(index, solution) for index, solution in solutions if solution.exact]
    assert len(exact) >= MARKETS - 3
    return exact


def test_an_independent_solver_finds_the_same_shares_integers_and_price(
    solved: list[tuple[int, Solution]],
) -> None:
    drawn = draw_scarce_markets(np.random.default_rng(0), MARKETS, BIDDERS)
    capacity = drawn.capacity_millicores

    cleared = clear(drawn.bids(0, MARKETS), capacity, quantum_millicores=QUANTUM)

    allocations = cleared.allocation_millicores.reshape(MARKETS, BIDDERS)
    prices = find_prices(cleared, capacity)
    for index, solution in solved:
        above = np.minimum(
            drawn.wished_millicores[index], drawn.weight[index] * cleared.level[index]
        )
        share = drawn.floor_millicores[index] + above
        apart = np.abs(solution.above_millicores - above)
        assert (apart <= 1e-6 * share).all()
        found = drawn.floor_millicores[index] + solution.above_millicores
        assert (np.abs(allocations[index] - found) <= QUANTUM).all()
        assert solution.shadow_price == pytest.approx(prices.of(index).shadow_price, rel=1e-6)


def test_the_worked_example_is_solved_as_the_clearing_says() -> None:
    """Surplus 400m, wishes 300m and 300m, weights 3 and 1: both are at the level of 100m."""
    solution = solve(
        Surplus(
            wished_millicores=np.array([350.0, 300.0]),
            weight=np.array([3.0, 1.0]),
            surplus_millicores=400.0,
        )
    )

    assert solution.above_millicores == pytest.approx([300, 100], rel=1e-6)
    assert solution.shadow_price == pytest.approx(10, rel=1e-6)


def bisect_level(wished: list[int], weights: list[Fraction], surplus: int) -> tuple[Fraction, ...]:
    """Returns bounds of L, a hundredth of a billionth apart; sum min(s, w L) grows with L."""
    low = Fraction(surplus) / sum(weights)
    high = max(Fraction(s) / w for s, w in zip(wished, weights, strict=True) if s)
    while high - low > low / 10**11:
        middle = (low + high) / 2
        if (
            sum(min(Fraction(s), w * middle) for s, w in zip(wished, weights, strict=True))
            < surplus
        ):
            low = middle
        else:
            high = middle
    return low, high


@given(markets(fit=Fit.FLOORS_NOT_NEEDS), st.data())
def test_levels_under_weights_of_any_width_agree_with_bisection_in_rationals(
    market: PlainMarket, data: st.DataObject
) -> None:
    exponents = st.lists(st.floats(-6, 6), min_size=len(market.needs), max_size=len(market.needs))
    wide = PlainMarket(
        market.needs,
        market.floors,
        [10.0**exponent for exponent in data.draw(exponents)],
        market.capacity,
        market.quantum,
    )
    counted = [min(b, r) for b, r in zip(wide.floors, wide.needs, strict=True)]
    wished = [r - b for r, b in zip(wide.needs, counted, strict=True)]
    bids, capacity = bids_of([wide])

    cleared = clear(bids, capacity, quantum_millicores=1)

    weights = [Fraction(weight) for weight in wide.weights]
    low, high = bisect_level(wished, weights, wide.capacity - sum(counted))
    assert float(low) * (1 - 1e-12) <= cleared.level[0] <= float(high) * (1 + 1e-12)
    price = find_prices(cleared, capacity).of(0).shadow_price
    assert price == pytest.approx(min(1000 / float(high), SHADOW_PRICE_MAX), rel=1e-9)


def test_where_cvxpy_is_missing_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)

    with pytest.raises(DemoError, match=r"pip install -e '\.\[dev\]'"):
        Programme(3)
