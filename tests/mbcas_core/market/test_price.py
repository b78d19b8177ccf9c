import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from mbcas_core.market.clearing import clear
from mbcas_core.market.price import SHADOW_PRICE_MAX, find_prices
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


def test_the_shadow_price_is_the_derivative_of_the_welfare() -> None:
    market = PlainMarket([600, 500, 80], [300, 200, 50], [300.0, 100.0, 90.0], 900, 1)

    def welfare(capacity: int) -> float:
        by_hand = clear_plainly(replace(market, capacity=capacity))
        rows = zip(by_hand.shares, market.floors, market.weights, strict=True)
        return sum(weight * math.log(share - floor) for share, floor, weight in rows)

    per_core = (welfare(901) - welfare(899)) / 0.002

    assert price_of(market).shadow_price == pytest.approx(per_core, rel=0.01)


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
