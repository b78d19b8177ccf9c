import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.market.clearing import clear, sum_by
from mbcas_loadtest.mechanism.rules.kelly import Kelly, KellyCharged
from mbcas_loadtest.mechanism.rules.kernel_weights import KernelWeights
from mbcas_loadtest.mechanism.rules.max_min import MaxMin
from mbcas_loadtest.mechanism.rules.mbcas import Mbcas
from tests.mbcas_loadtest.mechanism.small_markets import allocate, bids_of, facts_of, whole


def test_the_rule_named_mbcas_is_the_production_clearing() -> None:
    bids = bids_of([600, 500, 100], floors=[300, 200, 200], weights=[3.0, 1.0, 1.0])

    ours = Mbcas().clear(bids, whole([1000]), quantum_millicores=10)

    real = clear(bids, whole([1000]), quantum_millicores=10)
    assert ours.allocation_millicores.tolist() == real.allocation_millicores.tolist()


def test_max_min_knows_no_floors_where_mbcas_keeps_them() -> None:
    bids = bids_of([600, 500, 100], floors=[0, 400, 0], weights=[3.0, 1.0, 1.0])

    assert allocate(MaxMin(), bids, 1000) == [600, 300, 100]
    assert allocate(Mbcas(), bids, 1000) == [400, 500, 100]


def test_equal_max_min_knows_no_weights_either() -> None:
    bids = bids_of([900, 900], weights=[3.0, 1.0])

    assert allocate(MaxMin(), bids, 1000) == [750, 250]
    assert allocate(MaxMin(equal=True), bids, 1000) == [500, 500]


def test_kelly_gives_in_proportion_to_what_is_asked() -> None:
    assert allocate(Kelly(), bids_of([600, 300]), 600) == [400, 200]
    assert allocate(Kelly(), bids_of([600, 600]), 600) == [300, 300]


def test_capped_kelly_gives_nobody_more_than_they_asked_for() -> None:
    bids = bids_of([100, 300])

    assert allocate(Kelly(), bids, 800) == [100, 300]
    assert allocate(Kelly(capped=False), bids, 800) == [200, 600]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=9), st.integers(0, 5000))
def test_kelly_is_within_a_quantum_of_the_proportion(needs: list[int], capacity: int) -> None:
    shares = allocate(Kelly(), bids_of(needs), capacity)

    scale = min(1.0, capacity / max(sum(needs), 1))
    assert sum(shares) == min(capacity, sum(needs))
    for share, need in zip(shares, needs, strict=True):
        assert abs(share - scale * need) < 10 + 1e-3


def test_charged_kelly_takes_the_worth_of_the_dearest_unsold_millicore_from_all() -> None:
    rule = KellyCharged()
    rule.observe(facts_of([60, 50, 40], part_value=[[3.0], [2.0], [1.0]]))
    bids = bids_of([60, 50, 40])

    payment = rule.pay(bids, whole([100]))

    assert allocate(rule, bids, 100) == [60, 40, 0]
    assert payment.tolist() == [120.0, 80.0, 0.0]


def test_the_kernel_shares_by_use_and_not_by_what_is_asked() -> None:
    kernel = KernelWeights()
    kernel.observe(facts_of([900, 600, 100]))
    weights = [2.0, 1.0, 1.0]

    truthful = allocate(kernel, bids_of([900, 600, 100], weights=weights), 1000)
    lying = allocate(kernel, bids_of([900, 5000, 100], weights=weights), 1000)

    assert truthful == [600, 300, 100]
    assert lying == truthful


def test_the_kernel_must_have_seen_demand() -> None:
    with pytest.raises(AssertionError, match="observe"):
        allocate(KernelWeights(), bids_of([100]), 100)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_no_rule_hands_out_more_than_there_is(seed: int) -> None:
    generator = np.random.default_rng(seed)
    market = np.sort(generator.integers(0, 4, 9))
    needs = generator.integers(0, 900, 9)
    bids = bids_of(
        needs.tolist(), market=market.tolist(), weights=generator.uniform(1, 9, 9).tolist()
    )
    capacity = generator.integers(0, 2000, 4)
    kernel = KernelWeights()
    kernel.observe(facts_of(needs.tolist()))

    for rule in (Mbcas(), MaxMin(), Kelly(), Kelly(capped=False), kernel):
        cleared = rule.clear(bids, capacity, quantum_millicores=10)
        given_out = sum_by(market, cleared.allocation_millicores, 4)
        assert np.all(given_out <= capacity), rule.name
        assert np.all(cleared.demand_millicores == sum_by(market, needs, 4)), rule.name
        assert not rule.pay(bids, capacity).any(), rule.name
