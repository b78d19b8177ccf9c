"""Properties of one clearing: what everybody gets, beside what is there and what others get.

Throughout, b' = min(b, r), s = r - b', S = C - sum b', and where needs do not fit
x = b' + min(s, w L) with sum min(s, w L) = S. Where floors do not fit either (sum b' > C), the
same rule shares C with floors 0, needs b' and weights b: x = min(b', b L).
"""

import numpy as np

from mbcas_core.market.clearing import sum_by
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.markets import Markets
from mbcas_loadtest.mechanism.verdicts import Mechanism, Misses, Verdict, exactly


def rounding(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """Every row is less than a quantum away from its share.

    Proof: a share is cut down to whole quanta. The m rows that lost a part lost less than m quanta
    in sum, which go out by largest fraction, one to a row at most, so none is raised above its
    share by a quantum.
    Integers: one quantum, by definition.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    misses = Misses(markets)
    misses.add_quanta(cleared.bids.market, np.abs(cleared.allocation - cleared.share))
    return misses.judge(quanta_allowed=1)


def individually_rational(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """Nobody gets less than was promised, as far as they ask for it: x_i >= min(b_i, r_i).

    Proof: x_i = b'_i + min(s_i, w_i L), and L >= 0. Where floors do not fit, not all can have
    theirs; then x_i >= min(b'_i, b_i C / sum b), as C = sum min(b', b L) <= L sum b.
    Integers: exact where floors fit, since these are whole millicores; else one quantum.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    bids, market = cleared.bids, cleared.bids.market
    fit = markets.floors_fit()
    floor_sum = np.bincount(market, bids.floor_millicores, markets.count)
    part = np.where(fit, 1.0, markets.capacity_millicores / np.maximum(floor_sum, 1.0))
    owed = np.minimum(cleared.counted_floor, bids.floor_millicores * part[market])
    owed = np.where(fit[market], cleared.counted_floor, owed)
    short = owed - cleared.allocation

    misses = Misses(markets)
    misses.add_real(market, owed - cleared.share, cleared.share)
    misses.add_quanta(market, np.where(fit[market], exactly(short), short))
    return misses.judge(quanta_allowed=1)


def pareto(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """Nothing is left that somebody wants: sum x = min(C, sum r), and x <= r.

    Then nobody can be given more of what they want without taking it from somebody else.
    Proof: where needs fit, x = r. Otherwise L solves sum x = C, which has a solution as sum x grows
    continuously in L from sum b' <= C (or 0) to sum r > C; and min(s, w L) <= s.
    Integers: exact, the remainder of rounding is handed out to the last millicore.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    bids, market = cleared.bids, cleared.bids.market
    demand = sum_by(market, bids.need_millicores, markets.count)
    sold = np.minimum(markets.capacity_millicores, demand)
    everyone = np.arange(markets.count)

    misses = Misses(markets)
    real_sum = np.bincount(market, cleared.share, markets.count)
    misses.add_real(everyone, np.abs(real_sum - sold), sold)
    misses.add_real(market, cleared.share - bids.need_millicores, bids.need_millicores)
    integer_sum = sum_by(market, cleared.allocation, markets.count)
    misses.add_quanta(everyone, exactly(np.abs(integer_sum - sold)))
    misses.add_quanta(market, exactly(cleared.allocation - bids.need_millicores))
    return misses.judge(quanta_allowed=0)


def surplus_envy_free(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """Who is short envies nobody: x_i < r_i implies (x_i - b'_i)/w_i >= (x_j - b'_j)/w_j.

    Claimed where floors fit. Proof: x_i < r_i means x_i - b'_i = w_i L, and nobody has more than
    w_j L above the floor.
    Integers: one quantum at each end, x_i + q against x_j - q.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    bids, market = cleared.bids, cleared.bids.market
    fit = markets.floors_fit()
    misses = Misses(markets)

    wished = bids.need_millicores - cleared.base
    most = _most_of_each(market, cleared.above / bids.weight, markets.count)
    envied = np.minimum(bids.weight * most[market], wished)
    misses.add_real(market, envied - cleared.above, envied)

    above = cleared.allocation - cleared.base
    quantum = markets.quantum_millicores
    most = _most_of_each(market, (above - quantum) / bids.weight, markets.count)
    envied = np.minimum(bids.weight * most[market], wished)
    misses.add_quanta(market, envied - above)
    return misses.judge(quanta_allowed=1, claimed=fit)


def sharing_incentive(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """Sharing beats a wall between pods: x_i >= min(r_i, b_i + w_i (C - sum b)/W).

    What stands on the right is a pod's own part of the node, with W the weight of all: its floor
    and its part of what the floors leave, which no glutton beside it can touch. Claimed where
    floors fit. Proof: x_i < r_i means b'_i = b_i and x_i = b_i + w_i L; and
    C - sum b <= C - sum b' = sum min(s, w L) <= W L.
    Integers: one quantum.
    """
    del generator
    cleared = mechanism.run_pods(markets)
    bids, market = cleared.bids, cleared.bids.market
    all_weight = np.bincount(market, bids.weight, markets.count)
    all_floors = sum_by(market, bids.floor_millicores, markets.count)
    spare = (markets.capacity_millicores - all_floors)[market]
    part = bids.floor_millicores + bids.weight / all_weight[market] * spare
    owed = np.minimum(bids.need_millicores, part)

    misses = Misses(markets)
    misses.add_real(market, owed - cleared.share, bids.floor_millicores + cleared.share)
    misses.add_quanta(market, owed - cleared.allocation)
    return misses.judge(quanta_allowed=1, claimed=markets.floors_fit())


def _most_of_each(
    market: IntArray,
    value: FloatArray,
    markets: int,
) -> FloatArray:
    """Returns the largest value of each market, at least 0."""
    most = np.zeros(markets)
    np.maximum.at(most, market, value)
    return most
