"""Karma: who lends an unused share earns credits, and credits decide who may borrow.

**Problem.** Max-min sharing forgets: whoever left its share to others all day gets no more in its
hour of need than one who always took all. Karma remembers (Vuppalapati, Fikioris, Agarwal, Cidon,
Khandelwal and Tardos, Karma: Resource Allocation for Dynamic Demands, OSDI 2023, algorithm 1).

**Rule.** Of its fair share f_i = C w_i / W a bidder is guaranteed alpha f_i; the rest of all shares
is common. Each round everyone is given (1 - alpha) C / n credits. Who needs less than guaranteed
donates the difference. Who needs more borrows, slice by slice: the *richest* borrower is served
next, pays a credit, and stops when its need is met or its credits are gone; the slice comes from
the *poorest* donor, who earns a credit, and from the common part when no donation is left. So
Karma's floor is alpha f_i, whatever floor a bid names, and CPU may stay unsold when all borrowers
are out of credits.

**Weights.** A slice costs and earns W / (n w_i) credits: who weighs twice as much pays half as
much, and everyone can borrow the common part of its own share with the credits of a round.

**Method.** A slice is a millicore. Serving the richest first levels credits from above: in the end
everyone served is down to one level z, having taken ceil((credits_i - z) / cost_i) slices, within
its bounds. z is found by bisection; who stands at z exactly is served in the order of rows. Donors
are levelled from below, which is the same with signs changed.

**Cost.** About sixty passes of O(n) per round.

**Example.** C = 90, three equal bidders, alpha = 1/2: f = 30, guaranteed 15, common 45. Needs 75,
40, 0, credits 100, 80, 60 after the round's 15: the third donates 15, so 60 are to be lent. The
first pays 20 for as many slices and stands at 80 like the second; both go on in turn: 20 + 20 = 40
and 20. Allocations 55, 35, 0; credits 60, 60, 75.
"""

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, sum_by
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, describe_clearing

FIRST_CREDITS = 1e7
"""Many rounds of a large node: the paper starts with so many that none runs out by chance."""
BISECTION_STEPS = 100
"""More than the bits of a float: the level's neighbours are then one float apart."""


class Karma(Rule):
    """Credits remember who lent to whom; `credits` are those after the last round."""

    name = "karma"

    def __init__(self, *, alpha: float = 0.5, first_credits: float = FIRST_CREDITS) -> None:
        assert 0.0 <= alpha <= 1.0, "alpha is the guaranteed share of a fair share"
        self._alpha = alpha
        self._first_credits = first_credits
        self.credits: FloatArray = np.zeros(0)

    def reset(self) -> None:
        self.credits = np.zeros(0)

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        del quantum_millicores
        market, need = bids.market, bids.need_millicores
        markets = capacity_millicores.size
        bidders = np.bincount(market, minlength=markets)
        weight_sum = np.bincount(market, bids.weight, markets)
        fair = capacity_millicores[market] * bids.weight / weight_sum[market]
        cost = weight_sum[market] / (bidders[market] * bids.weight)
        income = (1.0 - self._alpha) * capacity_millicores[market] / bidders[market]
        purse = self._purse(market.size) + income

        guaranteed = np.floor(self._alpha * fair).astype(np.int64)
        kept: IntArray = np.minimum(need, guaranteed)
        donated = guaranteed - kept
        common = capacity_millicores - sum_by(market, guaranteed, markets)
        lendable = common + sum_by(market, donated, markets)
        payable = np.ceil(np.maximum(purse, 0.0) / cost).astype(np.int64)
        wanted = np.minimum(need - kept, payable)
        borrowed = _serve_from_the_top(market, purse, cost, wanted, lendable)

        lent_sum = sum_by(market, np.minimum(borrowed, wanted), markets)
        lent = _serve_from_the_top(market, -purse, cost, donated, lent_sum)
        self.credits = purse + (lent - borrowed) * cost
        level = np.where(
            sum_by(market, need, markets) > capacity_millicores,
            capacity_millicores / np.maximum(weight_sum, 1e-300),
            np.inf,
        )
        return describe_clearing(bids, capacity_millicores, kept + borrowed, level)

    def _purse(self, rows: int) -> FloatArray:
        if self.credits.size == 0:
            return np.full(rows, self._first_credits)
        assert self.credits.size == rows, "row i stays the same bidder until reset is called"
        return self.credits


def _serve_from_the_top(
    market: IntArray, height: FloatArray, step: FloatArray, most: IntArray, supply: IntArray
) -> IntArray:
    """Serves slices to whoever stands highest, each slice taking it down by its step.

    Returns:
        How many each row got, at most `most`, in sum min(supply, sum of most) per market.
    """
    markets = supply.size

    def served(level: FloatArray) -> IntArray:
        above = np.ceil((height - level[market]) / step)
        count: IntArray = np.clip(above, 0, most).astype(np.int64)
        return count

    low: FloatArray = np.full(markets, np.inf)
    high: FloatArray = np.full(markets, -np.inf)
    np.minimum.at(low, market, height - step * most - 1.0)
    np.maximum.at(high, market, height)
    empty = np.bincount(market, minlength=markets) == 0
    low[empty] = high[empty] = 0.0
    for _ in range(BISECTION_STEPS):
        middle = low + (high - low) / 2.0
        fits = sum_by(market, served(middle), markets) <= supply
        high, low = np.where(fits, middle, high), np.where(fits, low, middle)
        if np.all(np.nextafter(low, high) >= high):
            break
    everything = sum_by(market, most, markets) <= supply
    count = np.where(everything[market], most, served(high))
    # Those whose next slice is taken at exactly the level share what is left, in their order.
    tied = np.where(everything[market], 0, served(low) - count)
    left = supply - sum_by(market, count, markets)
    before = np.cumsum(tied) - tied
    first = np.searchsorted(market, np.arange(markets))
    start = np.append(before, 0)[first]
    extra: IntArray = np.clip(left[market] - (before - start[market]), 0, tied)
    return count + extra
