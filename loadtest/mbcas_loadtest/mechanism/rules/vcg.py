"""Vickrey, Clarke and Groves: the most valuable allocation, and each pays for whom it displaces.

**Problem.** Bidder i values x millicores at v_i(x), concave and piecewise linear. Choose x with
sum x <= C that maximises sum v_i(x_i), and charge money such that truth is best for everyone
(Vickrey 1961, Clarke 1971, Groves 1973).

**What a bid stands for.** A need r splits into parts: within the k-th, a share a_k of the need, a
millicore is worth g_k > 0, descending; above r it is worth nothing. A report scales the parts and
leaves their worth alone: v(x; r) = r v(x / r; 1). Parts and worths are `Facts`, for demand with
finitely many values the exact slopes of the expected payoff. Without facts, the worth of a
millicore falls in eight steps from d = weight / max(floor, 10m), which is the priority factor of an
ordinary pod, to d / 8. Floors promise nothing otherwise. Any report of a need is thus a report of a
value function, the true one among them, and the theorem holds: truth is dominant.

**Method.** All parts of a market by worth, dearest first, until C is gone: greedy is exact as every
v is concave. A part's ends are rounded to whole millicores and nothing else is; the quantum is not
used, because charges are exact only where the allocation is the exact maximum.

**Charges** (Clarke): what the others' allocation would be worth without i, less what it is worth
with i. The market is filled once more without i for each i who is to be charged.

**What it costs.** Money has to change hands, and whoever collects it must not give it back. A
critical pod, whose CPU is worth ten times as much, starves all others: nothing is promised.

**Cost.** O(P log P) for P parts; for the charges once more per bidder with its market's parts.

**Example.** C = 100; one part each: needs 60, 50, 40 at worths 3, 2, 1. x = 60, 40, 0, worth 260.
Without the first: 50 and 40, worth 140, instead of 80: it pays 60. The second displaces 40 of the
third: it pays 40.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, describe_clearing

DEFAULT_PARTS = 8
LEAST_FLOOR_MILLICORES = 10
PARTS_AT_ONCE = 1 << 21
"""How many parts of markets without a bidder are filled in one go: bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """What can be sold, market by market, in the order of sale: the dearest first."""

    market: IntArray
    bidder: IntArray
    length_millicores: IntArray
    value: FloatArray


class Vcg(Rule):
    """Greatest value and Clarke's charges; its level is millicores per worth at the margin."""

    name = "vcg"

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        del quantum_millicores
        parts = self._cut(bids)
        sold = _fill(parts, capacity_millicores)
        allocation = np.bincount(parts.bidder, sold, bids.market.size).astype(np.int64)
        margin: FloatArray = np.zeros(capacity_millicores.size)
        unsold = sold < parts.length_millicores
        np.maximum.at(margin, parts.market[unsold], parts.value[unsold])
        level: FloatArray = np.full(margin.size, np.inf)
        np.divide(1.0, margin, out=level, where=margin > 0)
        return describe_clearing(bids, capacity_millicores, allocation, level)

    def pay(
        self, bids: Bids, capacity_millicores: IntArray, *, rows: IntArray | None = None
    ) -> FloatArray:
        parts = self._cut(bids)
        worth = _fill(parts, capacity_millicores) * parts.value
        market_worth = np.bincount(parts.market, worth, capacity_millicores.size)
        own_worth = np.bincount(parts.bidder, worth, bids.market.size)
        charged: IntArray = np.arange(bids.market.size) if rows is None else rows
        payment: FloatArray = np.zeros(bids.market.size)
        part_count = np.bincount(parts.market, minlength=capacity_millicores.size)
        chunk = np.cumsum(part_count[bids.market[charged]]) // PARTS_AT_ONCE
        for some in np.split(charged, np.flatnonzero(np.diff(chunk)) + 1):
            without = _worth_without(parts, bids.market[some], some, capacity_millicores)
            payment[some] = without - (market_worth[bids.market[some]] - own_worth[some])
        return np.maximum(payment, 0.0)

    def _cut(self, bids: Bids) -> _Parts:
        """Returns all needs in parts; parts that are worth the same are sold by row."""
        if self._facts is None:
            ratio = np.full((bids.market.size, DEFAULT_PARTS), 1.0 / DEFAULT_PARTS)
            dearest = bids.weight / np.maximum(bids.floor_millicores, LEAST_FLOOR_MILLICORES)
            value = dearest[:, None] * (1.0 - np.arange(DEFAULT_PARTS) / DEFAULT_PARTS)
        else:
            ratio, value = self._facts.part_ratio, self._facts.part_value
        end = np.rint(np.cumsum(ratio, axis=1) * bids.need_millicores[:, None]).astype(np.int64)
        length = np.diff(end, axis=1, prepend=0)
        bidder, part = np.nonzero(length)
        order = np.lexsort((-value[bidder, part], bids.market[bidder]))
        bidder, part = bidder[order], part[order]
        return _Parts(
            market=bids.market[bidder],
            bidder=bidder,
            length_millicores=length[bidder, part],
            value=value[bidder, part],
        )


def _fill(parts: _Parts, capacity: IntArray) -> IntArray:
    """Returns how much of each part is sold."""
    length, market = parts.length_millicores, parts.market
    before = np.cumsum(length) - length
    first = np.searchsorted(market, np.arange(capacity.size))
    start = np.append(before, 0)[first]
    sold: IntArray = np.clip(capacity[market] - (before - start[market]), 0, length)
    return sold


def _worth_without(
    parts: _Parts, market: IntArray, bidder: IntArray, capacity: IntArray
) -> FloatArray:
    """Returns what each bidder's market would be worth to the others if it were not there."""
    first = np.searchsorted(parts.market, market)
    count = np.searchsorted(parts.market, market, side="right") - first
    copy = np.repeat(np.arange(bidder.size), count)
    taken = np.arange(copy.size) + np.repeat(first - (np.cumsum(count) - count), count)
    others = parts.bidder[taken] != bidder[copy]
    left = _Parts(
        market=copy[others],
        bidder=parts.bidder[taken[others]],
        length_millicores=parts.length_millicores[taken[others]],
        value=parts.value[taken[others]],
    )
    worth = _fill(left, capacity[market]) * left.value
    return np.bincount(left.market, worth, bidder.size).astype(np.float64)
