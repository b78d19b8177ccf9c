import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mbcas_core.market.clearing import clear
from mbcas_core.market.price import (
    SHADOW_PRICE_MAX,
    find_prices,
    find_welfare,
    find_welfare_terms,
)
from mbcas_core.views import PriceView
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.strategies import Fit, bids_of, markets


def price_of(market: PlainMarket) -> PriceView:
    bids, capacity = bids_of([market])
    return find_prices(clear(bids, capacity, quantum_millicores=1), capacity).of(0)


def test_the_worked_example_is_priced_as_the_module_says() -> None:
    market = PlainMarket([600, 500], [300, 200], [300.0, 100.0], 900, 1)

    price = price_of(market)

    assert price.shadow_price == 1000
    assert price.shadow_price_normalized == 1
    assert price.shortage == pytest.approx(1 - 900 / 1100)


@given(markets())
def test_every_gauge_stays_in_its_range(market: PlainMarket) -> None:
    price = price_of(market)

    assert 0 <= price.shadow_price <= SHADOW_PRICE_MAX
    assert 0 <= price.shadow_price_normalized <= 1
    assert 0 <= price.shortage <= 1


@given(markets())
def test_a_market_in_which_all_needs_fit_costs_nothing(market: PlainMarket) -> None:
    roomy = replace(market, capacity=sum(market.needs))

    assert price_of(roomy) == PriceView(shadow_price=0.0, shadow_price_normalized=0.0, shortage=0.0)


@given(markets(fit=Fit.FLOORS_NOT_NEEDS))
def test_every_rationed_row_pays_its_marginal_utility(market: PlainMarket) -> None:
    by_hand = clear_plainly(market)
    counted = [min(b, r) for b, r in zip(market.floors, market.needs, strict=True)]

    shadow_price = price_of(market).shadow_price

    rows = zip(by_hand.shares, market.needs, counted, market.weights, strict=True)
    for share, need, floor, weight in rows:
        if share < need:
            per_core = 1000 * weight / float(share - floor)
            assert shadow_price == pytest.approx(min(per_core, SHADOW_PRICE_MAX), rel=1e-9)


def welfare_of(market: PlainMarket) -> float:
    bids, capacity = bids_of([market])
    return float(find_welfare(bids, clear(bids, capacity, quantum_millicores=1))[0])


def welfare_difference(market: PlainMarket, millicores: int) -> float:
    """V with so much more capacity, less V; bidder by bidder, as a sum of large terms rounds."""
    bids, capacity = bids_of([market])
    before, after = (
        find_welfare_terms(bids, clear(bids, capacity + more, quantum_millicores=1).level)
        for more in (0, millicores)
    )
    return float((after - before).sum())


def enlarge(market: PlainMarket, factor: int = 1000) -> PlainMarket:
    """The same market in finer units: a step of one is small beside anything that is shared."""
    return replace(
        market,
        needs=[need * factor for need in market.needs],
        floors=[floor * factor for floor in market.floors],
        capacity=market.capacity * factor,
    )


def with_need(market: PlainMarket, row: int, need: int) -> PlainMarket:
    needs = [need if index == row else old for index, old in enumerate(market.needs)]
    return replace(market, needs=needs)


@given(markets(fit=Fit.FLOORS_NOT_NEEDS))
def test_welfare_is_that_of_the_exact_shares(market: PlainMarket) -> None:
    shares = clear_plainly(market).shares

    rows = zip(shares, market.needs, market.floors, market.weights, strict=True)
    by_hand = sum(
        weight * math.log(share - min(floor, need))
        for share, need, floor, weight in rows
        if need > floor
    )
    size = sum(w * abs(math.log(float(x) + 1)) for x, w in zip(shares, market.weights, strict=True))
    assert welfare_of(market) == pytest.approx(by_hand, rel=1e-9, abs=1e-9 * (1 + size))


@given(markets(fit=Fit.FLOORS_NOT_NEEDS))
def test_the_shadow_price_is_the_derivative_of_the_welfare(market: PlainMarket) -> None:
    fine = enlarge(market)
    below, above = (replace(fine, capacity=fine.capacity + step) for step in (-1, 1))

    price = price_of(fine).shadow_price

    backward = min(1000 * welfare_difference(below, 1), SHADOW_PRICE_MAX)
    forward = min(1000 * welfare_difference(fine, 1), SHADOW_PRICE_MAX)
    # V is concave, so its slopes enclose the derivative even where that falls steeply in one step.
    assert forward * (1 - 1e-5) <= price <= backward * (1 + 1e-5)
    if price_of(below).shadow_price <= 1.01 * price_of(above).shadow_price:
        assert price == pytest.approx((backward + forward) / 2, rel=0.01)


def test_welfare_without_a_surplus_is_infinitely_bad_and_of_nobody_s_wish_nothing() -> None:
    market = PlainMarket([600, 500], [300, 200], [300.0, 100.0], 500, 1)
    modest = PlainMarket([300, 200], [300, 500], [300.0, 100.0], 800, 1)

    assert welfare_of(market) == -math.inf
    assert welfare_of(replace(market, capacity=400)) == -math.inf
    assert welfare_of(modest) == 0


@given(markets(), st.integers(0, 40))
def test_the_shortage_has_no_jump(market: PlainMarket, past_all_needs: int) -> None:
    # At random, and where rationing begins.
    for capacity in (market.capacity, max(sum(market.needs) - 20 + past_all_needs, 1)):
        first, *others = market.needs
        here = replace(market, capacity=max(capacity, 1), needs=[first + 1, *others])
        more = replace(here, capacity=here.capacity + 1)
        hungrier = replace(here, needs=[first + 2, *others])

        step = (1 + 1e-9) / sum(here.needs)
        assert abs(price_of(more).shortage - price_of(here).shortage) <= step
        assert abs(price_of(hungrier).shortage - price_of(here).shortage) <= step


def level_of(market: PlainMarket) -> float:
    return 1000 / price_of(market).shadow_price


def unfilled_weight(market: PlainMarket, level: float) -> float:
    """The weight of those whom the level does not fill, or only just."""
    rows = zip(market.needs, market.floors, market.weights, strict=True)
    return sum(w for r, b, w in rows if r > b and r - b >= w * level * (1 - 1e-9))


@given(markets(fit=Fit.FLOORS_NOT_NEEDS), st.data())
def test_the_shadow_price_has_no_jump_between_no_surplus_and_enough(
    market: PlainMarket, data: st.DataObject
) -> None:
    fine = enlarge(market)
    row = data.draw(st.integers(0, len(fine.needs) - 1))
    if data.draw(st.booleans()) and row > 0:  # A need that passes its floor is no exception.
        fine = with_need(fine, row, min(fine.floors[row], fine.needs[row]))
    more = replace(fine, capacity=fine.capacity + 1)
    hungrier = with_need(fine, row, fine.needs[row] + 1)
    assume(sum(map(min, hungrier.floors, hungrier.needs)) < fine.capacity < sum(fine.needs) - 1)

    here = level_of(fine)

    for near in (level_of(more), level_of(hungrier)):
        # The level is the inverse of the price; a step moves it by less than the weight that is
        # not filled allows, which may be steep and is no jump.
        step = 1 / unfilled_weight(fine, max(here, near))
        assert abs(near - here) <= step * (1 + 1e-6) + here * 1e-9


def test_the_shadow_price_jumps_where_rationing_begins() -> None:
    market = PlainMarket([600_000, 500_000], [300_000, 200_000], [300.0, 100.0], 1_100_000, 1)
    scarce = price_of(replace(market, capacity=1_099_999))

    assert price_of(market).shadow_price == 0
    # The least weight per core that is wished for: 100 for 300 cores.
    assert scarce.shadow_price == pytest.approx(100 / 300, rel=1e-5)
    assert scarce.shadow_price_normalized == pytest.approx(600 / 400 * 100 / 300, rel=1e-5)


def test_without_any_wish_above_floors_the_price_jumps_to_its_greatest() -> None:
    market = PlainMarket([300, 200], [300, 200], [3.0, 1.0], 500, 1)

    assert price_of(market).shadow_price == 0
    assert price_of(replace(market, capacity=499)).shadow_price == SHADOW_PRICE_MAX


def test_the_normalized_price_jumps_where_a_need_passes_its_floor() -> None:
    market = PlainMarket([500_000, 100_000], [100_000, 100_000], [100.0, 300.0], 400_000, 1)

    before = price_of(market)
    after = price_of(replace(market, needs=[500_000, 100_001]))

    assert before.shadow_price_normalized == 1
    assert after.shadow_price_normalized == pytest.approx(0.25, rel=1e-5)
    assert after.shadow_price == pytest.approx(before.shadow_price, rel=1e-5)


def test_as_the_surplus_vanishes_the_normalized_price_goes_to_one() -> None:
    market = PlainMarket([600_000, 500_000], [300_000, 200_000], [3.0, 1.0], 500_001, 1)

    assert price_of(market).shadow_price == pytest.approx(4000)
    assert price_of(market).shadow_price_normalized == 1
    assert price_of(replace(market, capacity=500_000)).shadow_price == SHADOW_PRICE_MAX


@pytest.mark.parametrize("capacity", [500, 400, 0])
def test_without_a_surplus_the_price_is_the_greatest_there_is(capacity: int) -> None:
    market = PlainMarket([600, 500], [300, 200], [300.0, 100.0], capacity, 1)

    price = price_of(market)

    assert price.shadow_price == SHADOW_PRICE_MAX
    assert price.shadow_price_normalized == 1
    assert price.shortage == pytest.approx(1 - capacity / 1100)


def test_an_empty_market_is_priced() -> None:
    bids, _ = bids_of([])

    price = find_prices(clear(bids, np.array([0]), quantum_millicores=10), np.array([0])).of(0)

    assert price == PriceView(shadow_price=0.0, shadow_price_normalized=0.0, shortage=0.0)
