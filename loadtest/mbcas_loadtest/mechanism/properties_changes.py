"""Properties of changes: more capacity, a larger need, a pod that leaves, other units."""

from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, sum_by
from mbcas_core.market.price import SHADOW_PRICE_MAX, find_prices
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.mechanism.markets import Markets
from mbcas_loadtest.mechanism.verdicts import (
    Cleared,
    Mechanism,
    Misses,
    Verdict,
    pick_pods,
    unlimited_need,
    with_needs,
)

FINEST = 1_000_000
"""Units per millicore of the finest market: a unit is then a microcore's thousandth."""
EXACT_SUM = 1 << 52
"""Sums up to here are exact in floats."""
LARGEST_NEED = 1 << 37
"""In quanta; the clearing counts in 2^-24 of them, in 64 bits."""
SCALES = (2, 3, 10, 1000, FINEST)


def monotone(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """More capacity raises every x and no price; a larger need raises its own x and no other.

    Nor does a larger need lower the price, or more capacity raise it.
    Proof: sum min(s, w L) = S grows with L, so L grows with C. A larger r_i raises s_i or b'_i,
    which leaves less water for the others: L falls, x_i = min(r_i, M_i) grows. Where the change
    makes floors fit or not, each x is at least b' on one side and at most b' on the other; there,
    the price stands at its cap. Integers: two quanta, one for each clearing.
    """
    before = mechanism.run_pods(markets)
    misses = Misses(markets)
    largest = np.maximum(markets.capacity_millicores // 2, 2)
    more = generator.integers(1, largest, markets.count, endpoint=True)
    roomier = mechanism.run(
        markets.pods, markets.capacity_millicores + more, markets.quantum_millicores
    )
    _add_falls(misses, before, roomier, np.ones(before.share.size))
    _add_price_rise(misses, roomier, before)

    rows = pick_pods(markets, generator)
    need = markets.pods.need_millicores[rows]
    asked = need + generator.integers(1, np.maximum(need, 2), endpoint=True)
    needier = mechanism.run(
        with_needs(markets.pods, rows, asked),
        markets.capacity_millicores,
        markets.quantum_millicores,
    )
    sign = -np.ones(before.share.size)
    sign[rows] = 1
    _add_falls(misses, before, needier, sign)
    _add_price_rise(misses, before, needier)
    return misses.judge(quanta_allowed=2)


def _add_falls(misses: Misses, before: Cleared, after: Cleared, sign: FloatArray) -> None:
    """Adds by how much rows fall that should rise (sign 1), or rise that should fall (-1)."""
    market = before.bids.market
    misses.add_real(market, sign * (before.share - after.share), before.share)
    misses.add_quanta(market, sign * (before.allocation - after.allocation))


def _add_price_rise(misses: Misses, cheaper: Cleared, dearer: Cleared) -> None:
    """Adds by how much the first shadow price is above the second, in parts of the second."""
    low, high = (
        find_prices(each.clearing, each.capacity_millicores).shadow_price
        for each in (cheaper, dearer)
    )
    rise = (low - high) / np.maximum(high, 1.0 / SHADOW_PRICE_MAX)
    misses.add_real(np.arange(high.size), rise, np.ones(high.size))


def consistent(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """A pod that leaves with its allocation changes nothing for the pods that stay.

    Proof: without i, at the old level, the others' sum min(s, w L) is S - (x_i - b'_i), which is
    the new surplus; so L solves the new market. A pod leaves with whole units, so the others share
    the part of a unit by which these differ from its share: in sum less than one.
    Reals: checked on shares as units of 10^-6 millicores, up to that part of a unit.
    Integers: three quanta, one for each clearing and one for the part.
    """
    rows = pick_pods(markets, generator)
    misses = Misses(markets)
    stay = np.ones(markets.pods.market.size, dtype=np.bool_)
    stay[rows] = False
    market = markets.pods.market
    factor = _finest(markets)
    for scale, quantum in ((np.ones_like(factor), markets.quantum_millicores), (factor, 1)):
        bids, capacity = _scaled(markets, scale)
        before = mechanism.run(bids, capacity, quantum)
        left = capacity - sum_by(market[rows], before.allocation[rows], markets.count)
        after = mechanism.run(_only(bids, stay), left, quantum)
        gone = np.abs(before.allocation[rows] - before.share[rows])
        allowed = np.bincount(market[rows], gone, markets.count)[market[stay]]
        apart = np.abs(after.share - before.share[stay]) - allowed
        misses.add_real(market[stay], apart, before.share[stay])
        moved = np.abs(after.allocation - before.allocation[stay])
        misses.add_quanta(market[stay], moved, quantum=quantum)
    return misses.judge(quanta_allowed=3)


def non_bossy(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """A report that leaves one's own allocation as it is leaves everybody's.

    Proof: X_i(r) = min(r, M_i), so two different reports give the same only where both are at least
    M_i; and then s_i does not enter the equation of L. Integers: two quanta, one for each clearing.
    """
    rows = pick_pods(markets, generator)
    market = markets.pods.market
    most = unlimited_need(markets, rows)
    bids = with_needs(markets.pods, rows, most)
    before = mechanism.run(bids, markets.capacity_millicores, markets.quantum_millicores)
    misses = Misses(markets)
    at_least = np.ceil(before.share[rows]).astype(np.int64)
    own = np.zeros(market.size, dtype=np.bool_)
    own[rows] = True
    for report in (at_least, at_least + 1, generator.integers(at_least, most, endpoint=True)):
        bids = with_needs(markets.pods, rows, report)
        after = mechanism.run(bids, markets.capacity_millicores, markets.quantum_millicores)
        apart = np.abs(after.share - before.share)
        misses.add_real(market, apart, before.share)
        misses.add_quanta(market, np.abs(after.allocation - before.allocation))
    return misses.judge(quanta_allowed=2)


def scale_free(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """The unit does not matter: (C, b, r) k gives x k and lambda / k.

    Proof: with k s and k S the equation of the level has the solution k L. Where floors are
    reduced, the level is a ratio and stays, and the price stands at its cap.
    The integers of the larger market tell the shares of the smaller one to 1/k of a quantum, by
    another way than its level. Integers: one quantum of the larger market.
    """
    before = mechanism.run_pods(markets)
    factor = np.minimum(generator.choice(SCALES, markets.count), _finest(markets))
    bids, capacity = _scaled(markets, factor)
    quantum = markets.quantum_millicores
    after = mechanism.run(bids, capacity, quantum)
    market = bids.market
    expected = before.share * factor[market]
    misses = Misses(markets)
    misses.add_real(market, np.abs(after.share - expected), expected)
    misses.add_quanta(market, np.abs(after.allocation - expected))

    price, scaled_price = (
        find_prices(each.clearing, each.capacity_millicores).shadow_price
        for each in (before, after)
    )
    expected_price = np.where(price < SHADOW_PRICE_MAX, price / factor, scaled_price)
    apart = np.abs(scaled_price - expected_price) / np.maximum(expected_price, 1e-300)
    misses.add_real(np.arange(price.size), apart, np.ones(price.size))
    return misses.judge(quanta_allowed=1)


def _finest(markets: Markets) -> IntArray:
    """Returns the factor of each market, shape (m,), up to which its sums stay exact."""
    market = markets.pods.market
    asked = np.maximum(markets.pods.need_millicores, markets.pods.floor_millicores)
    most: IntArray = np.ones(markets.count, dtype=np.int64)
    np.maximum.at(most, market, asked)
    total = sum_by(market, asked, markets.count) + markets.capacity_millicores + 1
    finest = np.minimum(EXACT_SUM // total, LARGEST_NEED // most)
    factor: IntArray = np.clip(finest, 1, FINEST)
    return factor


def _scaled(markets: Markets, factor: IntArray) -> tuple[Bids, IntArray]:
    """Returns the pods' bids and the capacities in units that are this much smaller."""
    bids = markets.pods
    of_row = factor[bids.market]
    scaled = replace(
        bids,
        need_millicores=bids.need_millicores * of_row,
        floor_millicores=bids.floor_millicores * of_row,
    )
    return scaled, markets.capacity_millicores * factor


def _only(bids: Bids, kept: BoolArray) -> Bids:
    return Bids(
        market=bids.market[kept],
        need_millicores=bids.need_millicores[kept],
        floor_millicores=bids.floor_millicores[kept],
        weight=bids.weight[kept],
    )
