from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.market.clearing import Bids, Clearing, clear, sum_by, sum_counted_floors
from mbcas_core.market.orders import Grants, OrderRows, clear_orders
from mbcas_core.market.pods import PodBids, PodClearing, clear_pods
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism import properties_audits
from mbcas_loadtest.mechanism.markets import Markets, draw_markets, markets_of
from mbcas_loadtest.mechanism.properties import PROPERTIES
from mbcas_loadtest.mechanism.verdicts import MBCAS, Mechanism, above_base
from tests.mbcas_core.market.strategies import nodes_of_pods
from tests.mbcas_loadtest.mechanism import broken


@st.composite
def node_markets(draw: st.DrawFn) -> Markets:
    """Draws nodes pod by pod; CPU from none over the floors to more than the needs."""
    nodes = draw(nodes_of_pods(max_nodes=3, max_pods=5))
    count = nodes.capacity.size
    pods = nodes.bids.as_pods()
    floors = sum_counted_floors(pods, count)
    needs = sum_by(pods.market, pods.need_millicores, count)
    percent = draw(st.lists(st.integers(-20, 120), min_size=count, max_size=count))
    share = np.array(percent, dtype=np.int64)
    above: IntArray = np.where(share < 0, floors, needs - floors) * share // 100
    return markets_of(nodes.bids, floors + above, quantum_millicores=nodes.quantum)


@pytest.mark.parametrize("name", PROPERTIES)
@settings(max_examples=20)
@given(markets=node_markets(), seed=st.integers(0, 2**32 - 1))
def test_the_clearing_keeps(name: str, markets: Markets, seed: int) -> None:
    verdict = PROPERTIES[name](markets, np.random.default_rng(seed), MBCAS)

    assert not verdict.violated.any(), (verdict.real_miss, verdict.quanta_miss)


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_clearing_keeps_on_degenerate_and_on_large_markets(name: str) -> None:
    markets = draw_markets(seed=0, batch=0, count=150)

    verdict = PROPERTIES[name](markets, np.random.default_rng(0), MBCAS)

    assert not verdict.violated.any()
    assert verdict.claimed.sum() > 60


def pods_by_head(
    bids: PodBids, capacity_millicores: IntArray, *, quantum_millicores: int
) -> PodClearing:
    """A pod counts as many times as it has containers."""
    containers = np.bincount(bids.pod, minlength=bids.node.size)
    weighty = replace(bids, pod_weight=bids.pod_weight * containers)
    return clear_pods(weighty, capacity_millicores, quantum_millicores=quantum_millicores)


def a_quantum_astray(
    bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
) -> Clearing:
    """The remainder of rounding goes to the first pods, four quanta at a time."""
    clearing = clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
    coarse = clear(bids, capacity_millicores, quantum_millicores=4 * quantum_millicores)
    return replace(clearing, allocation_millicores=coarse.allocation_millicores)


def shifted_level(
    bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
) -> Clearing:
    """Allocations as they should be, and a level that is wrong in the seventh place."""
    clearing = clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
    return replace(clearing, level=clearing.level * (1 + 1e-7))


BREAKS = {
    "rounding": Mechanism(clear=a_quantum_astray),
    "own-cap-form": broken.break_clearing(broken.proportional),
    "strategy-proof": broken.break_clearing(broken.proportional),
    "no-pair-gains": broken.break_clearing(broken.proportional),
    "individually-rational": broken.break_clearing(broken.floors_ignored),
    "pareto": broken.break_clearing(broken.price_taking),
    "surplus-envy-free": broken.break_clearing(broken.first_come),
    "sharing-incentive": broken.break_clearing(broken.first_come),
    "monotone": broken.break_clearing(broken.shrinking_surplus),
    "consistent": broken.break_clearing(broken.price_taking),
    "non-bossy": broken.break_clearing(broken.price_taking),
    "splitting-into-pods": broken.break_clearing(broken.equal_weights),
    "splitting-into-containers": Mechanism(clear_pods=pods_by_head),
    "audited": Mechanism(clear=shifted_level),
    "scale-free": broken.break_clearing(broken.shrinking_surplus),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_rule_that_breaks_the_property_is_seen(name: str) -> None:
    markets = draw_markets(seed=1, batch=0, count=60)

    verdict = PROPERTIES[name](markets, np.random.default_rng(0), BREAKS[name])

    assert verdict.violated.any()


@pytest.mark.parametrize("name", ["pareto", "scale-free"])
def test_a_level_that_does_not_share_out_the_capacity_is_seen(name: str) -> None:
    markets = draw_markets(seed=1, batch=0, count=60)

    verdict = PROPERTIES[name](markets, np.random.default_rng(0), Mechanism(clear=shifted_level))

    assert verdict.violated.any()


def level_lost(bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int) -> Clearing:
    """Allocations as they should be, and no level where there is scarcity."""
    clearing = clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
    level = np.where(np.isfinite(clearing.level), np.nan, clearing.level)
    return replace(clearing, level=level)


@pytest.mark.parametrize("name", [name for name in BREAKS if name != "splitting-into-containers"])
def test_shares_that_are_not_numbers_are_seen(name: str) -> None:
    markets = draw_markets(seed=1, batch=0, count=60)

    with np.errstate(invalid="ignore"):  # As outside of tests.
        verdict = PROPERTIES[name](markets, np.random.default_rng(0), Mechanism(clear=level_lost))

    assert verdict.violated.any()


def test_a_rule_under_which_a_lie_does_no_harm_is_seen() -> None:
    markets = draw_markets(seed=1, batch=0, count=60)

    verdict = PROPERTIES["strategy-proof"](
        markets, np.random.default_rng(0), broken.break_clearing(broken.reports_ignored)
    )

    assert verdict.violated.any()


def test_a_price_that_falls_as_a_need_grows_is_seen() -> None:
    def hurt(clearing: Clearing, sign: int) -> Clearing:
        return replace(
            clearing, level=clearing.level * (1 + 1e-3 * clearing.demand_millicores) ** sign
        )

    def cheaper(bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int) -> Clearing:
        return hurt(clear(bids, capacity_millicores, quantum_millicores=quantum_millicores), 1)

    def share(bids: Bids, clearing: Clearing, base: IntArray) -> FloatArray:
        return above_base(bids, hurt(clearing, -1), base)

    markets = draw_markets(seed=1, batch=0, count=60)

    verdict = PROPERTIES["monotone"](
        markets, np.random.default_rng(0), Mechanism(clear=cheaper, above=share)
    )

    assert verdict.violated.any()


def test_only_the_orders_have_no_broken_twin_here() -> None:
    assert set(PROPERTIES) - set(BREAKS) == {"orders"}


def test_orders_above_the_supply_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(
        rows: OrderRows,
        *,
        reservation_limit_millicores: IntArray,
        ceiling_limit_millicores: IntArray,
        quantum_millicores: int,
    ) -> Grants:
        return clear_orders(
            rows,
            reservation_limit_millicores=reservation_limit_millicores + 1000,
            ceiling_limit_millicores=ceiling_limit_millicores,
            quantum_millicores=quantum_millicores,
        )

    monkeypatch.setattr(properties_audits, "clear_orders", generous)

    verdict = PROPERTIES["orders"](
        draw_markets(seed=1, batch=0, count=60), np.random.default_rng(0), MBCAS
    )

    assert verdict.violated.any()


def test_what_a_rule_breaks_elsewhere_is_not_held_against_it() -> None:
    """First come, first served lets nobody gain by lying: it is unfair, not manipulable."""
    markets = draw_markets(seed=1, batch=0, count=60)
    mechanism = broken.break_clearing(broken.first_come)

    for name in ("own-cap-form", "strategy-proof", "pareto", "monotone"):
        verdict = PROPERTIES[name](markets, np.random.default_rng(0), mechanism)
        assert not verdict.violated.any()
