"""The formulas by which bids may answer to the price."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.market.response import (
    Gauges,
    advance,
    find_effective_tau,
    find_shortages_without,
    find_two_pass_factor,
    scale_needs,
)
from mbcas_core.units import FloatArray, IntArray

RATIO = st.integers(0, 10_000).map(lambda n: n / 10_000)
TAU = st.integers(1, 500).map(lambda n: n / 1000)


def floats(*values: float) -> FloatArray:
    return np.array(values, np.float64)


def integers(*values: int) -> IntArray:
    return np.array(values, np.int64)


def new_gauges(count: int) -> Gauges:
    return Gauges(
        smoothed=np.zeros(count), frozen=np.zeros(count), round_count=np.zeros(count, np.int64)
    )


def test_each_bidder_sees_the_shortage_among_the_others_of_its_own_market() -> None:
    shortage = find_shortages_without(
        integers(0, 0, 0, 2, 2, 3),
        integers(900, 600, 500, 800, 800, 70),
        integers(1000, 500, 1000, 0),
    )

    # Others need 1100, 1400 and 1500 of 1000; 800 of 1000 twice; and nobody else is there.
    assert shortage == pytest.approx([1 - 10 / 11, 1 - 10 / 14, 1 / 3, 0.0, 0.0, 0.0])


def test_where_there_is_nothing_to_share_all_of_it_is_lacking() -> None:
    shortage = find_shortages_without(integers(0, 0), integers(10, 0), integers(0))

    assert shortage.tolist() == [0.0, 1.0]


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=8),
    st.integers(0, 20_000),
    st.integers(0, 10_000),
)
def test_nobody_moves_their_own_gauge_by_what_they_ask_for(
    needs: list[int], capacity: int, other_need: int
) -> None:
    market = np.zeros(len(needs), np.int64)
    before = find_shortages_without(market, np.array(needs), integers(capacity))

    after = find_shortages_without(market, np.array([other_need, *needs[1:]]), integers(capacity))

    assert after[0] == before[0]
    assert (before >= 0).all()
    # Nobody sees more than there is with everybody in it.
    total = sum(needs)
    assert (before <= max(0.0, 1 - capacity / total) + 1e-12 if total else before == 0).all()


def test_a_gauge_is_smoothed_each_round_and_handed_out_every_fourth() -> None:
    gauges = new_gauges(1)
    seen = []
    for shortage in (0.8, 0.8, 0.0, 0.4, 0.4):
        gauges = advance(gauges, floats(shortage), smoothing=0.5, epoch_rounds=4)
        seen.append((round(float(gauges.smoothed[0]), 6), round(float(gauges.frozen[0]), 6)))

    assert seen == [(0.4, 0.0), (0.6, 0.0), (0.3, 0.0), (0.35, 0.35), (0.375, 0.35)]
    assert gauges.round_count.tolist() == [1]


def test_a_shortage_that_is_over_is_forgotten() -> None:
    gauges = advance(new_gauges(1), floats(1.0), smoothing=0.5, epoch_rounds=1)
    for _ in range(30):
        gauges = advance(gauges, floats(0.0), smoothing=0.5, epoch_rounds=1)

    assert (gauges.smoothed[0], gauges.frozen[0]) == (0.0, 0.0)


def test_what_is_handed_out_comes_in_hundredths() -> None:
    gauges = advance(new_gauges(3), floats(0.123, 0.127, 1.0), smoothing=1.0, epoch_rounds=1)

    assert gauges.frozen == pytest.approx([0.12, 0.13, 1.0])
    assert gauges.smoothed == pytest.approx([0.123, 0.127, 1.0])


def test_the_effective_target_is_that_of_the_dearer_cpu() -> None:
    tau = floats(0.05, 0.01, 0.1, 0.1)
    elasticity = floats(0.5, 0.2, 0.9, 0.9)
    gauge = floats(1 / 3, 0.5, 0.5, 1.0)

    effective = find_effective_tau(tau, elasticity, gauge, tau_max=0.5)

    # 0.05 + 0.5 x 0.95 / 3, 0.01 + 0.2 x 0.5 x 0.99, then 0.505 and 0.91, above the bound.
    assert effective == pytest.approx([0.208333, 0.109, 0.5, 0.5], abs=1e-6)


@given(TAU, RATIO, RATIO, RATIO, st.floats(0.01, 0.5))
def test_the_effective_target_only_rises_and_is_bounded(
    tau: float, elasticity: float, one: float, other: float, tau_max: float
) -> None:
    low, high = find_effective_tau(
        floats(tau, tau),
        floats(elasticity, elasticity),
        floats(min(one, other), max(one, other)),
        tau_max=tau_max,
    ).tolist()

    assert tau <= low <= high <= max(tau, tau_max)


@given(TAU, RATIO)
def test_the_target_stays_where_nothing_is_short_or_nothing_is_elastic(
    tau: float, ratio: float
) -> None:
    effective = find_effective_tau(
        floats(tau, tau), floats(ratio, 0.0), floats(0.0, ratio), tau_max=0.5
    )

    assert effective.tolist() == [tau, tau]


@given(TAU, RATIO, RATIO)
def test_the_effective_target_is_the_newsvendor_s_at_the_higher_price(
    tau: float, elasticity: float, gauge: float
) -> None:
    cost_of_waste, cost_of_throttling = 1.0, (1 - tau) / tau
    price = elasticity * cost_of_throttling * gauge

    (effective,) = find_effective_tau(
        floats(tau), floats(elasticity), floats(gauge), tau_max=1.0
    ).tolist()

    assert effective == pytest.approx(tau * (1 + price / cost_of_waste))


@pytest.mark.parametrize(
    ("price", "elasticity", "factor"),
    [
        (0.0, 0.2, 1.04),
        (0.0, 0.5, 1.1),
        (0.0, 0.9, 1.18),
        (0.1, 0.5, 1.05),
        (0.2, 0.9, 1.0),
        (0.5, 0.9, 1.0),
        (0.6, 0.2, 0.88),
        (0.6, 0.5, 0.7),
        (0.6, 0.9, 0.5),
        (1.0, 0.5, 0.5),
    ],
)
def test_the_plan_s_factor_is_as_the_plan_says(
    price: float, elasticity: float, factor: float
) -> None:
    found = find_two_pass_factor(floats(price), floats(elasticity))

    assert found == pytest.approx([factor])


@given(RATIO, RATIO)
def test_the_plan_s_factor_is_bounded_and_cuts_only_where_cpu_is_dear(
    price: float, elasticity: float
) -> None:
    (factor,) = find_two_pass_factor(floats(price), floats(elasticity)).tolist()

    assert 0.5 <= factor <= 1.2
    assert factor >= 1.0 or price > 0.5
    assert factor <= 1.0 or price < 0.2


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.5, 1.2))
def test_a_scaled_need_is_whole_and_no_cut_leaves_less_than_the_kernel_takes(
    need: int, factor: float
) -> None:
    (scaled,) = scale_needs(integers(need), floats(factor), least_millicores=10).tolist()

    assert scaled >= min(need, 10)
    assert need * factor <= scaled <= max(need * factor + 1, min(need, 10))


def test_a_factor_of_one_changes_nothing() -> None:
    needs = integers(0, 3, 10, 1234)

    assert scale_needs(needs, np.ones(4), least_millicores=10).tolist() == needs.tolist()
