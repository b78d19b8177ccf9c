"""One lie over both goods: does a false reservation need bring a higher ceiling?

Each good's clearing is strategy-proof by itself, and that is all that is claimed. The goods are not
independent, though: a ceiling is x_c = x_r + h, a reservation and the headroom above it, and both
the floor f = max(0, limit - x_r) and the wish for headroom are counted from the reservation.

**Where a lie pays.** Let headroom be rationed, h = f + w L. A millicore of reservation takes one
from f, and the ceiling stays at limit + w L: as no reservation is above the limit, nothing is to be
had. But a strict row has f = 0, and there the millicore comes on top. Whoever cares about its
ceiling then overstates its reservation need, at the price of what idles there. Where the policy
fixes the reservation (`limits-only`) or the ceiling is the reservation (`hard-quota`) there is one
good, and nothing of this.

**Payoff.** Needs are certain: u = - c_t (theta - x)+ - c_w (x - theta)+, summed over both goods,
with c_w = 1 and c_t = (1 - tau) / tau. A gain counts above the worth of a quantum in each good.

**Example.** C = 1000, no caps; two strict containers with requests 200 and limits 600, of
reservation needs 200 and ceiling needs 2000. Both reservations are met, and the headroom of
1000 - 400 = 600 is halved: ceilings 500 and 500. If the first asks for a reservation of 600, it
gets that, and half of the headroom of 1000 - 800 = 200 beside it: ceilings 700 and 300.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mbcas_core.events import Policy, PriorityClass
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.goods import clear_targets, pod_weights
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows
from mbcas_core.parameters import Parameters
from mbcas_core.units import MAX_MILLICORES, BoolArray, FloatArray, IntArray

MOST_PODS = 12
RESERVATION_FACTORS = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
CEILING_FACTORS = (1.0, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoGoodMarkets:
    """m nodes of pods with one container each, whose needs are true; one attacks on each node."""

    rows: MarketRows
    pods: MarketPods
    nodes: MarketNodes
    attacker: IntArray
    """(m,) the attacker's row."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoGoodGains:
    """What the best of the lies paid; shape (m,) each."""

    gain_ratio: FloatArray
    """Of the useful value of truth."""
    pays: BoolArray
    """Where it is more than rounding may give."""


def draw_two_good_markets(
    generator: np.random.Generator, markets: int, *, policy: Policy, strict: bool = False
) -> TwoGoodMarkets:
    """Draws nodes whose requests take 60 to 100 % of them, with reservation needs around these."""
    pods = generator.integers(2, MOST_PODS + 1, markets)
    node: IntArray = np.repeat(np.arange(markets), pods)
    count = node.size
    request = generator.integers(2, 25, count) * 25
    limit = request + generator.integers(0, 17, count) * 25
    reservation: IntArray = (request * generator.uniform(0.3, 1.7, count)).astype(np.int64)
    ceiling: IntArray = (reservation * generator.uniform(1.0, 5.0, count)).astype(np.int64)
    row = np.arange(count)
    everyone: BoolArray = np.ones(count, dtype=np.bool_)
    undeclared: IntArray = np.full(count, MAX_MILLICORES)
    requested = sum_by(node, request, markets) + Parameters().reserve_millicores
    first = np.cumsum(pods) - pods
    return TwoGoodMarkets(
        rows=MarketRows(
            pod=row,
            takes_part=everyone,
            policy=np.full(count, int(policy), dtype=np.int64),
            strict=everyone & strict,
            has_limit=everyone,
            admitted_request_millicores=request,
            admitted_limit_millicores=limit,
            reservation_need_millicores=reservation,
            ceiling_need_millicores=ceiling,
            fixed_reservation_millicores=request,
            fixed_ceiling_millicores=limit,
        ),
        pods=MarketPods(
            node=node,
            weight=pod_weights(row, request, np.ones(count), parameters=Parameters()),
            declared_min_millicores=undeclared,
            declared_max_millicores=undeclared,
        ),
        nodes=MarketNodes(
            allocatable_millicores=(requested / generator.uniform(0.6, 1.0, markets)).astype(
                np.int64
            ),
            unmanaged_millicores=np.zeros(markets, dtype=np.int64),
        ),
        attacker=first + generator.integers(0, pods),
    )


def lie_about_both_goods(markets: TwoGoodMarkets, *, parameters: Parameters) -> TwoGoodGains:
    """Tries false needs in every market and keeps the best."""
    rows, attacker = markets.rows, markets.attacker
    tau = parameters.tau[PriorityClass.NORMAL]
    throttling_cost = (1.0 - tau) / tau
    truth = _needs(rows, attacker)
    met = _play(markets, rows, parameters)
    best: FloatArray = np.zeros(attacker.size)
    for factor, other in product(RESERVATION_FACTORS, CEILING_FACTORS):
        lie = replace(
            rows,
            reservation_need_millicores=_scaled(rows.reservation_need_millicores, attacker, factor),
            ceiling_need_millicores=_scaled(rows.ceiling_need_millicores, attacker, other),
        )
        got = _play(markets, lie, parameters)
        gain = _payoff(got, truth, throttling_cost) - _payoff(met, truth, throttling_cost)
        best = np.maximum(best, gain)
    value = throttling_cost * np.minimum(met, truth).sum(axis=0)
    allowance = 2 * parameters.quantum_millicores * throttling_cost
    return TwoGoodGains(gain_ratio=best / np.maximum(value, 1.0), pays=best > allowance)


def _needs(rows: MarketRows, attacker: IntArray) -> IntArray:
    """Returns the attackers' needs of both goods, shape (2, m)."""
    return np.stack(
        [rows.reservation_need_millicores[attacker], rows.ceiling_need_millicores[attacker]]
    )


def _play(markets: TwoGoodMarkets, rows: MarketRows, parameters: Parameters) -> IntArray:
    """Returns what the attackers get of both goods, shape (2, m)."""
    targets = clear_targets(rows, markets.pods, markets.nodes, parameters=parameters)
    return np.stack([targets.reservation_millicores, targets.ceiling_millicores])[
        :, markets.attacker
    ]


def _payoff(got: IntArray, need: IntArray, throttling_cost: float) -> FloatArray:
    missing, idle = np.maximum(need - got, 0), np.maximum(got - need, 0)
    payoff: FloatArray = -(throttling_cost * missing + idle).sum(axis=0)
    return payoff


def _scaled(need: IntArray, attacker: IntArray, factor: float) -> IntArray:
    scaled = need.copy()
    scaled[attacker] = np.rint(need[attacker] * factor)
    return scaled
