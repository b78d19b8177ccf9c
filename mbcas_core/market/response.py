"""Two ways in which bids may answer to the price, both off by default.

**Problem.** CPU is worth c_t a millicore to whoever lacks it and costs the cluster c_w a millicore
where it idles, so a container asks for the quantile c_t / (c_t + c_w) of its demand: at most tau
throttling means c_t / c_w = (1 - tau) / tau. Where CPU is short it costs more, by p, than where it
is not. Should a need then shrink?

**Frozen.** With the price on top of c_w, and p = e c_t gauge for a class of elasticity e, the same
quantile is that of a larger target:

    tau_eff = min(tau_max, tau (1 + p / c_w)) = min(tau_max, tau + e gauge (1 - tau)).

Only the throttling target moves, only upwards, and once, before clearing. The gauge is the
shortage: it knows no weights, so no bidder moves it by the weight it claims. A pod's own need must
not move what the pod pays either, so its gauge leaves it out,

    gauge_i = max(0, 1 - C / sum_{j != i} r_j),

and is smoothed over rounds, g <- g + a (gauge_i - g), and handed out for an epoch of four rounds at
a time, in steps of a hundredth: nobody sees at once what their bid has done. Rounds that something
forces between the regular ones do not count. (C is the supply of the round, which still knows a
little of the own bid: that of reservations by at most the reserve, that of ceilings by what the own
reservation takes.) Among few equal pods, leaving one out hides real scarcity: of two that need 800m
each on a node of 1000m, neither sees any.

**Two-pass** is the founding plan's rule, kept for comparison: clear once, scale every need by

    1 - min(price e, 0.5)          where price > 0.5,
    1 + min((0.2 - price) e, 0.2)  where price < 0.2,    else 1,

and clear again; the price is the node's shortage with everybody in it. It pays to overbid: whoever
needs less than their share still loses up to half of it, unless they asked for twice as much. At
the price of 0.5 needs jump by e / 2. And where CPU is plentiful needs grow beyond what is needed:
with e = 0.5, a load of 95 % of the node becomes one of 104 %, and is rationed.

**Cost.** O(n), nothing is solved.

**Example.** C = 1000m; pods need 900, 600 and 500m. Without the first the others ask for 1100m:
gauge 1 - 1000 / 1100 = 0.09. Without the second, 1400m: 0.29. Without the third, 1500m: 0.33. With
tau = 5 % and e = 0.5 the third's target becomes 0.05 + 0.5 x 0.33 x 0.95 = 21 %.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import sum_by
from mbcas_core.units import FloatArray, IntArray

GAUGE_STEP = 0.01
"""Of what is handed out: a table of levels for each target that can occur stays small."""
SMALLEST_SHORTAGE = 1e-6
"""Smoothing alone would never end: below this it is over."""
CUT_ABOVE_PRICE = 0.5
CUT_MAX_RATIO = 0.5
RAISE_BELOW_PRICE = 0.2
RAISE_MAX_RATIO = 0.2


def find_shortages_without(
    market: IntArray, need_millicores: IntArray, capacity_millicores: IntArray
) -> FloatArray:
    """Returns each bidder's market's shortage among the others, 0 to 1, shape (n,).

    Args:
        market: Index of each bidder's market, shape (n,), ascending.
        need_millicores: Of each bidder, shape (n,).
        capacity_millicores: Of each market, shape (m,), at least 0.
    """
    demand = sum_by(market, need_millicores, capacity_millicores.size)
    others = demand[market] - need_millicores
    lacking = others - capacity_millicores[market]
    shortage: FloatArray = np.zeros(market.size)
    np.divide(lacking, others, out=shortage, where=lacking > 0)
    return shortage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gauges:
    """What n bidders have seen of the shortage; a new one starts with zeros. Shape (n,) each."""

    smoothed: FloatArray
    frozen: FloatArray
    """What they answer to until the epoch ends, 0 to 1."""
    round_count: IntArray
    """Rounds of the epoch that have passed."""


def advance(gauges: Gauges, shortage: FloatArray, *, smoothing: float, epoch_rounds: int) -> Gauges:
    """Returns the gauges after one more round.

    Args:
        gauges: Before it.
        shortage: That the round's clearing left each bidder to see, shape (n,).
        smoothing: Weight of the newest shortage, above 0, at most 1.
        epoch_rounds: How many rounds an answer stays the same, at least 1.
    """
    smoothed = gauges.smoothed + smoothing * (shortage - gauges.smoothed)
    smoothed[smoothed < SMALLEST_SHORTAGE] = 0.0
    passed = gauges.round_count + 1
    over = passed >= epoch_rounds
    stepped = np.rint(smoothed / GAUGE_STEP) * GAUGE_STEP
    return Gauges(
        smoothed=smoothed,
        frozen=np.where(over, stepped, gauges.frozen),
        round_count=np.where(over, 0, passed),
    )


def find_effective_tau(
    tau: FloatArray, elasticity: FloatArray, gauge: FloatArray, *, tau_max: float
) -> FloatArray:
    """Returns the throttling target at this shortage: never below tau, and else at most tau_max."""
    raised = np.minimum(tau + elasticity * gauge * (1.0 - tau), tau_max)
    effective: FloatArray = np.maximum(tau, raised)
    return effective


def find_two_pass_factor(price: FloatArray, elasticity: FloatArray) -> FloatArray:
    """Returns the plan's factor on a need, 0.5 to 1.2; prices are shortages, 0 to 1."""
    cut = 1.0 - np.minimum(price * elasticity, CUT_MAX_RATIO)
    raised = 1.0 + np.minimum((RAISE_BELOW_PRICE - price) * elasticity, RAISE_MAX_RATIO)
    factor: FloatArray = np.where(
        price > CUT_ABOVE_PRICE, cut, np.where(price < RAISE_BELOW_PRICE, raised, 1.0)
    )
    return factor


def scale_needs(
    need_millicores: IntArray, factor: FloatArray, *, least_millicores: int
) -> IntArray:
    """Returns the needs times their factors, rounded up, and no lower than this by it."""
    scaled = np.ceil(need_millicores * factor).astype(np.int64)
    bounded: IntArray = np.maximum(scaled, np.minimum(need_millicores, least_millicores))
    return bounded
