"""The founding plan's price feedback on top of MBCAS: clear, scale every need, clear again.

The rule and why it is off stand in `mbcas_core.market.response`. As a rule of its own it can be
attacked like the others, and both of its halves pay:

**Example.** C = 1000, q = 10, two pods with floors 0, weights 1 and elasticity 0.9, needs 2000 and
400: the shortage is 1 - 1000 / 2400 = 0.58, so needs are scaled by the least factor, 0.5, to 1000
and 200. The second gets 200, although its share of 500 would have filled its 400. If it reports
800, the factor stays 0.5, and it gets its 400.
"""

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear, sum_by
from mbcas_core.market.response import find_two_pass_factor, scale_needs
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, with_needs

NORMAL_ELASTICITY = 0.5
LEAST_NEED_MILLICORES = 10


class TwoPass(Rule):
    """MBCAS after needs were cut at a high and raised at a low price."""

    name = "two_pass"

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        need, market = bids.need_millicores, bids.market
        demand = sum_by(market, need, capacity_millicores.size)
        price: FloatArray = np.zeros(demand.size)
        lacking = np.maximum(demand - capacity_millicores, 0)
        np.divide(lacking, demand, out=price, where=lacking > 0)
        if self._facts is None:
            elasticity: FloatArray = np.full(market.size, NORMAL_ELASTICITY)
        else:
            elasticity = self._facts.elasticity
        factor = find_two_pass_factor(price[market], elasticity)
        scaled = scale_needs(need, factor, least_millicores=LEAST_NEED_MILLICORES)
        return clear(
            with_needs(bids, scaled), capacity_millicores, quantum_millicores=quantum_millicores
        )
