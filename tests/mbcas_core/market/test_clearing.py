from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.market.clearing import Clearing, clear
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.strategies import Fit, bids_of, markets


def allocate(market: PlainMarket) -> list[int]:
    bids, capacity = bids_of([market])
    cleared = clear(bids, capacity, quantum_millicores=market.quantum)
    return [int(x) for x in cleared.allocation_millicores]


def level_of(market: PlainMarket) -> float:
    bids, capacity = bids_of([market])
    return float(clear(bids, capacity, quantum_millicores=market.quantum).level[0])


def counted_floors(market: PlainMarket) -> list[int]:
    return [min(b, r) for b, r in zip(market.floors, market.needs, strict=True)]


def put(values: Sequence[int], row: int, value: int) -> list[int]:
    return [value if index == row else old for index, old in enumerate(values)]


def test_the_worked_example_clears_as_the_module_says() -> None:
    market = PlainMarket([600, 500, 100], [300, 200, 200], [3.0, 1.0, 1.0], 1000, 10)

    assert allocate(market) == [600, 300, 100]
    assert level_of(market) == 100


@given(st.lists(markets(), min_size=1, max_size=8), st.sampled_from([1, 10]))
def test_a_batch_agrees_with_hand_calculation_to_the_millicore(
    batch: list[PlainMarket], quantum: int
) -> None:
    batch = [replace(market, quantum=quantum) for market in batch]
    bids, capacity = bids_of(batch)

    cleared = clear(bids, capacity, quantum_millicores=quantum)

    for index, market in enumerate(batch):
        by_hand = clear_plainly(market)
        assert cleared.allocation_millicores[bids.market == index].tolist() == by_hand.allocations
        assert bool(cleared.floors_reduced[index]) == by_hand.floors_reduced
        if by_hand.level is None:
            assert cleared.level[index] == np.inf
        else:
            assert cleared.level[index] == pytest.approx(float(by_hand.level), rel=1e-12)


@given(st.lists(markets(max_rows=4), max_size=8), st.integers(1, 6))
def test_markets_clear_the_same_in_blocks_and_at_once(batch: list[PlainMarket], rows: int) -> None:
    bids, capacity = bids_of(batch)
    shifted = replace(bids, market=bids.market + 1)
    capacity = np.concatenate([[50], capacity, [50]])  # No bids in the first and in the last.

    at_once = clear(shifted, capacity, quantum_millicores=10)
    with patch("mbcas_core.market.clearing.BLOCK_ROWS", rows):
        in_blocks = clear(shifted, capacity, quantum_millicores=10)

    for field in fields(Clearing):
        assert getattr(in_blocks, field.name).tolist() == getattr(at_once, field.name).tolist()


@given(markets(max_rows=40))
def test_what_is_allocated_is_the_lesser_of_capacity_and_need_exactly(market: PlainMarket) -> None:
    assert sum(allocate(market)) == min(market.capacity, sum(market.needs))


@given(markets())
def test_nobody_gets_more_than_the_need(market: PlainMarket) -> None:
    pairs = zip(allocate(market), market.needs, strict=True)

    assert all(0 <= x <= need for x, need in pairs)


@given(markets(fit=Fit.FLOORS))
def test_everybody_gets_the_floor_up_to_the_need_while_floors_fit(market: PlainMarket) -> None:
    pairs = zip(allocate(market), counted_floors(market), strict=True)

    assert all(x >= floor for x, floor in pairs)


@given(markets())
def test_rounding_moves_nobody_by_a_quantum(market: PlainMarket) -> None:
    shares = clear_plainly(market).shares

    # A share within 2^-24 of a whole quantum counts as whole.
    most = market.quantum * (1 + Fraction(1, 2**24))
    assert all(abs(x - share) < most for x, share in zip(allocate(market), shares, strict=True))


@given(markets(fit=Fit.NOT_FLOORS))
def test_a_reduced_floor_is_shared_by_declared_floors(market: PlainMarket) -> None:
    rows = list(zip(allocate(market), counted_floors(market), market.floors, strict=True))

    assert all(x <= counted for x, counted, _ in rows)
    for x, counted, floor in rows:
        if x < counted:
            fair = (x + market.quantum) / floor
            assert all(fair >= (y - market.quantum) / other for y, _, other in rows if other)


def test_bidders_that_tie_are_served_in_their_order() -> None:
    market = PlainMarket([100] * 3, [0] * 3, [0.1, 0.1, 0.1], 100, 10)

    assert allocate(market) == [40, 30, 30]


def test_weights_of_any_size_tie_where_their_exact_fractions_do() -> None:
    market = PlainMarket([1000] * 3, [0] * 3, [1.1, 3.3, 5.5], 95, 10)

    # Shares 10.55.., 31.66.., 52.77..: the third and second have the largest fractions cut off.
    assert allocate(market) == clear_plainly(market).allocations
    assert sum(allocate(market)) == 95


def test_a_tiny_weight_keeps_its_exact_share_beside_a_huge_one() -> None:
    market = PlainMarket([10, 10**6, 10**6], [0, 0, 0], [1e6, 1e-6, 3e-6], 1010, 1)

    assert allocate(market) == [10, 250, 750]


def test_the_last_unit_may_be_part_of_a_quantum() -> None:
    market = PlainMarket([25, 500], [0, 0], [1000.0, 1.0], 60, 10)

    assert allocate(market) == [25, 35]


def test_a_market_without_bids_and_one_without_capacity_clear() -> None:
    full = PlainMarket([50], [0], [1.0], 0, 10)
    bids, _ = bids_of([full])
    shifted = replace(bids, market=np.array([1], dtype=np.int64))

    cleared = clear(shifted, np.array([100, 0, 100]), quantum_millicores=10)

    assert cleared.allocation_millicores.tolist() == [0]
    assert cleared.level.tolist() == [np.inf, 0.0, np.inf]


def test_ten_thousand_of_the_largest_bids_share_every_millicore() -> None:
    rows = 10_000
    weights = [10.0 ** (-9 + 21 * (row % 997) / 996) for row in range(rows)]
    market = PlainMarket([10**9] * rows, [0] * rows, weights, 10**13 - 1, 1)

    assert sum(allocate(market)) == 10**13 - 1


@given(st.integers(2, 400), st.floats(1e-9, 1e12), st.integers(1, 1000))
def test_sums_stay_exact_where_floats_do_not(rows: int, weight: float, less: int) -> None:
    market = PlainMarket([10**9] * rows, [0] * rows, [weight] * rows, 10**9 * rows - less, 1)

    assert sum(allocate(market)) == market.capacity
