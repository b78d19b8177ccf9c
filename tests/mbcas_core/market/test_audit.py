"""The audit passes what is right and names what is wrong: one clearing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mbcas_core.market.audit import CLEARING_PROPERTIES, PRICE_PROPERTIES, audit_clearing
from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.market.findings import MAX_FINDINGS, Finding
from mbcas_core.market.price import Prices, find_prices
from mbcas_core.units import IntArray
from tests.mbcas_core.market.plain import PlainMarket
from tests.mbcas_core.market.strategies import bids_of, markets

EXAMPLE = PlainMarket([600, 500, 100], [300, 200, 200], [3.0, 1.0, 1.0], 1000, 10)
TWO_EQUALS = PlainMarket([900, 900], [0, 0], [1.0, 1.0], 1000, 10)
REDUCED = PlainMarket([600, 600], [500, 100], [1.0, 1.0], 300, 10)
ROOMY = PlainMarket([300, 300], [100, 100], [1.0, 1.0], 1000, 10)
SOLD_OUT = PlainMarket([600, 500], [300, 200], [1.0, 1.0], 500, 10)


def clear_batch(batch: list[PlainMarket], quantum: int) -> tuple[Bids, IntArray, Clearing]:
    bids, capacity = bids_of(batch)
    return bids, capacity, clear(bids, capacity, quantum_millicores=quantum)


def names(found: list[Finding]) -> set[str]:
    return {finding.property for finding in found}


def with_allocation(*millicores: int) -> Callable[[Clearing], Clearing]:
    return lambda right: replace(right, allocation_millicores=np.array(millicores))


def with_fields(**arrays: list[float]) -> Callable[[Clearing], Clearing]:
    def put(right: Clearing) -> Clearing:
        changed = {
            name: np.array(values, getattr(right, name).dtype) for name, values in arrays.items()
        }
        return replace(right, **changed)

    return put


BROKEN = [
    (EXAMPLE, with_allocation(600, 290, 110), {"need-exceeded"}),
    (EXAMPLE, with_allocation(605, 295, 100), {"need-exceeded"}),
    (EXAMPLE, with_allocation(600, 305, 95), {"floor-broken"}),
    (EXAMPLE, with_allocation(600, 290, 100), {"not-pareto"}),
    (EXAMPLE, with_allocation(600, 310, 100), {"not-pareto"}),
    (EXAMPLE, with_allocation(570, 330, 100), {"envy", "level-inconsistent"}),
    (TWO_EQUALS, with_allocation(700, 300), {"envy", "level-inconsistent", "share-broken"}),
    (REDUCED, with_allocation(200, 100), {"envy", "level-inconsistent"}),
    (REDUCED, with_allocation(310, -10), {"need-exceeded", "envy", "level-inconsistent"}),
    (EXAMPLE, with_fields(level=[150.0]), {"level-inconsistent"}),
    (EXAMPLE, with_fields(level=[np.inf]), {"level-inconsistent"}),
    (ROOMY, with_fields(level=[5.0]), {"level-inconsistent"}),
    (
        ROOMY,
        with_allocation(200, 300),
        {"not-pareto", "envy", "level-inconsistent", "share-broken"},
    ),
    (EXAMPLE, with_fields(demand_millicores=[1201]), {"sums-wrong"}),
    (EXAMPLE, with_fields(floor_sum_millicores=[700]), {"sums-wrong"}),
    (EXAMPLE, with_fields(asking_weight=[5.0]), {"sums-wrong"}),
    (EXAMPLE, with_fields(floors_reduced=[True]), {"sums-wrong"}),
]


@pytest.mark.parametrize(("market", "break_it", "expected"), BROKEN)
def test_a_broken_clearing_is_found_by_the_name_of_what_is_broken(
    market: PlainMarket, break_it: Callable[[Clearing], Clearing], expected: set[str]
) -> None:
    bids, capacity, right = clear_batch([market], market.quantum)

    found = audit_clearing(bids, capacity, break_it(right), quantum_millicores=market.quantum)

    assert names(found) == expected


BROKEN_PRICES = [
    (EXAMPLE, {"shadow_price": -1.0}, {"price-range", "price-level"}),
    (EXAMPLE, {"shadow_price": 11.0}, {"price-level"}),
    (EXAMPLE, {"shadow_price_normalized": 0.5}, {"price-normalized-wrong"}),
    (EXAMPLE, {"shadow_price_normalized": 1.5}, {"price-range", "price-normalized-wrong"}),
    (EXAMPLE, {"shortage": 0.17}, {"shortage-wrong"}),
    (EXAMPLE, {"shortage": 0.0}, {"shortage-wrong", "price-without-scarcity"}),
    (ROOMY, {"shadow_price": 1.0}, {"price-without-scarcity"}),
    (ROOMY, {"shadow_price_normalized": 0.1}, {"price-without-scarcity"}),
    (SOLD_OUT, {"shadow_price": 1000.0}, {"price-without-scarcity"}),
]


@pytest.mark.parametrize(("market", "gauges", "expected"), BROKEN_PRICES)
def test_a_wrong_price_is_found_by_the_name_of_what_is_wrong(
    market: PlainMarket, gauges: dict[str, float], expected: set[str]
) -> None:
    bids, capacity, right = clear_batch([market], market.quantum)
    prices = find_prices(right, capacity)
    wrong = replace(prices, **{name: np.array([value]) for name, value in gauges.items()})

    found = audit_clearing(bids, capacity, right, quantum_millicores=10, prices=wrong)

    assert names(found) == expected


def test_every_property_of_a_clearing_has_been_broken() -> None:
    broken = {name for *_, expected in [*BROKEN, *BROKEN_PRICES] for name in expected}

    assert broken == {*CLEARING_PROPERTIES, *PRICE_PROPERTIES}


@pytest.mark.parametrize("gauge", ["shadow_price", "shadow_price_normalized", "shortage"])
def test_a_price_that_is_no_number_is_found(gauge: str) -> None:
    bids, capacity, right = clear_batch([EXAMPLE], 10)
    prices = replace(find_prices(right, capacity), **{gauge: np.array([np.nan])})

    found = audit_clearing(bids, capacity, right, quantum_millicores=10, prices=prices)

    assert "price-range" in names(found)


@given(st.lists(markets(), min_size=1, max_size=4), st.sampled_from([1, 7, 10, 100]))
def test_nothing_is_found_in_what_was_cleared(batch: list[PlainMarket], quantum: int) -> None:
    bids, capacity, right = clear_batch(batch, quantum)
    prices = find_prices(right, capacity)

    found = audit_clearing(bids, capacity, right, quantum_millicores=quantum, prices=prices)

    assert found == []


@given(markets(), st.data())
def test_whatever_moves_by_more_than_two_quanta_is_found(
    market: PlainMarket, data: st.DataObject
) -> None:
    assume(len(market.needs) > 1)
    bids, capacity, right = clear_batch([market], market.quantum)
    giver, taker = data.draw(st.permutations(range(len(market.needs))))[:2]
    moved = right.allocation_millicores.copy()
    moved[giver] -= 2 * market.quantum + 1
    moved[taker] += 2 * market.quantum + 1

    found = audit_clearing(
        bids,
        capacity,
        replace(right, allocation_millicores=moved),
        quantum_millicores=market.quantum,
    )

    assert "level-inconsistent" in names(found)
    assert {finding.row for finding in found} >= {giver, taker}


@given(markets(), st.data())
def test_no_millicore_appears_or_vanishes_unseen(market: PlainMarket, data: st.DataObject) -> None:
    bids, capacity, right = clear_batch([market], market.quantum)
    changed = right.allocation_millicores.copy()
    changed[data.draw(st.integers(0, changed.size - 1))] += data.draw(st.sampled_from([-1, 1]))

    found = audit_clearing(
        bids,
        capacity,
        replace(right, allocation_millicores=changed),
        quantum_millicores=market.quantum,
    )

    assert "not-pareto" in names(found)


def test_a_finding_says_where_it_is_and_by_how_much() -> None:
    bids, capacity, right = clear_batch([ROOMY, EXAMPLE], 10)
    broken = with_allocation(300, 300, 600, 290, 110)(right)

    found = audit_clearing(bids, capacity, broken, quantum_millicores=10)

    assert found == [
        Finding(
            property="need-exceeded",
            market=1,
            row=4,
            detail="of=rows market=1 row=4 got=110 need=100",
        )
    ]


def test_of_one_property_no_more_than_ten_examples_are_given() -> None:
    bids, capacity, right = clear_batch([ROOMY] * 50, 10)
    broken = replace(right, demand_millicores=right.demand_millicores + 1)

    found = audit_clearing(bids, capacity, broken, quantum_millicores=10)

    assert len(found) == MAX_FINDINGS


def test_prices_of_a_market_without_bids_pass() -> None:
    bids, _ = bids_of([])
    capacity = np.array([0, 100])
    right = clear(bids, capacity, quantum_millicores=10)
    prices: Prices = find_prices(right, capacity)

    assert audit_clearing(bids, capacity, right, quantum_millicores=10, prices=prices) == []
