"""Three gauges of scarcity per market.

- **Shadow price** lambda = 1 / L, in weight per core. With V(C) the greatest sum of
  w_i log(x_i - b'_i), lambda = dV/dC: what one more core would be worth. It equals
  w_i / (x_i - b'_i) of every rationed bidder; a satisfied one only bounds it from above.
  A weight is counted in millicores times a factor, so a price of 1000 on a node whose bidders
  weigh what they were admitted with means that the surplus is as large as what they were admitted
  with, and the price doubles as the surplus halves.
- **Normalized shadow price** lambda (C - sum b') / W, with W the weight of those who ask for more
  than their floor. As L is at least S / W, it lies in [0, 1]: 1 where the surplus fills nobody.
- **Shortage** max(0, 1 - C / sum r), in [0, 1]: knows neither weights nor floors and has no jump,
  so thresholds apply to this one only. 0.2 means 25 % overload, 0.5 means 100 %.

**Where they are continuous**, as functions of real C and r, with b and w fixed and S = C - sum b':

- Shortage everywhere, with slope at most 1 / sum r in C and in each need; but where C = 0 it is 1
  as soon as anybody needs anything.
- Lambda wherever there is a surplus that does not suffice, 0 < S < sum s, a need that passes its
  floor included, for L does not jump. Its slope does, where a bidder is filled: dL/dC is 1 over the
  weight of those who are not, so it may be steep where only light ones are left. It grows without
  bound as S goes to 0, up to SHADOW_PRICE_MAX, where it stays. It **jumps where rationing begins**:
  as C rises to sum r it falls to the least w_i / s_i, and is 0 from there on. Where nobody asks for
  more than their floor it jumps from 0 to its greatest.
- The normalized price as lambda, and it goes to 1, not to infinity, as S goes to 0. It jumps where
  rationing begins and, besides, where a need passes its floor: a bidder that asks for anything
  counts in W with its whole weight.

V itself is continuous and concave in C for 0 < S; from C = sum r on it stays what it is. So its
slopes between C and C - 1m or C + 1m enclose lambda, and the tests hold it against them, term by
term (`find_welfare_terms`): a sum of terms of very different size would lose the small ones.

Example: S = 400m, weights 300 and 100, neither filled: L = 400 / 400 = 1m per unit of weight,
lambda = 1000 per core, normalized 1. If needs are 600m and 500m and C = 900m, the shortage is
1 - 900 / 1100 = 0.18.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.units import MILLICORES_PER_CORE, FloatArray, IntArray
from mbcas_core.views import PriceView

SHADOW_PRICE_MAX = 1e12
"""Stands for the price of a surplus of 0, in weight per core: that of the last millicore among
bidders who weigh a million cores. Reduced floors have this price too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """The gauges of m markets, shape (m,) each."""

    shadow_price: FloatArray
    """Weight per core, 0 where not rationed, at most SHADOW_PRICE_MAX."""
    shadow_price_normalized: FloatArray
    shortage: FloatArray

    def of(self, market: int) -> PriceView:
        """Returns the gauges of one market."""
        return PriceView(
            shadow_price=float(self.shadow_price[market]),
            shadow_price_normalized=float(self.shadow_price_normalized[market]),
            shortage=float(self.shortage[market]),
        )


def find_welfare_terms(bids: Bids, level: FloatArray) -> FloatArray:
    """Returns each bidder's part of V, w log(x - b') of the share before rounding, shape (n,).

    0 where nothing is asked for above the floor, and -inf where the level, shape (m,), is 0.
    """
    wished = np.maximum(bids.need_millicores - bids.floor_millicores, 0)
    asks = wished > 0
    share = np.minimum(wished, bids.weight * level[bids.market])
    log: FloatArray = np.where(asks, -np.inf, 0.0)
    np.log(share, out=log, where=asks & (share > 0))
    return np.where(asks, bids.weight, 1.0) * log


def find_welfare(bids: Bids, clearing: Clearing) -> FloatArray:
    """Returns V of each market, shape (m,): what the clearing maximises, before rounding.

    -inf where nothing is left above the floors, or these are reduced.
    """
    level = np.where(clearing.floors_reduced, 0.0, clearing.level)
    welfare: FloatArray = np.zeros(level.size)
    np.add.at(welfare, bids.market, find_welfare_terms(bids, level))
    return np.where(clearing.floors_reduced, -np.inf, welfare)


def find_prices(clearing: Clearing, capacity_millicores: IntArray) -> Prices:
    """Reads the gauges off a clearing with these capacities."""
    demand = clearing.demand_millicores
    rationed = demand > capacity_millicores
    surplus = np.maximum(capacity_millicores - clearing.floor_sum_millicores, 0)
    shared = rationed & (surplus > 0)

    price: FloatArray = np.where(rationed, SHADOW_PRICE_MAX, 0.0)
    np.divide(MILLICORES_PER_CORE, clearing.level, out=price, where=shared)
    normalized: FloatArray = rationed.astype(np.float64)
    sold_at_level = np.where(shared, clearing.level, 0.0) * clearing.asking_weight
    np.divide(surplus, sold_at_level, out=normalized, where=shared)
    shortage: FloatArray = np.zeros(demand.size)
    np.divide(demand - capacity_millicores, demand, out=shortage, where=rationed)
    return Prices(
        shadow_price=np.minimum(price, SHADOW_PRICE_MAX),
        shadow_price_normalized=np.minimum(np.maximum(normalized, 0.0), 1.0),
        shortage=np.minimum(np.maximum(shortage, 0.0), 1.0),
    )
