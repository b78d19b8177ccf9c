"""Properties of reports: what a pod, or two together, can reach by asking for more or less.

A pod reports its need r; floor and weight were declared at admission. Its type is theta, the peak
of its expected payoff u, concave, here that of a newsvendor with random demand D:

    u(x) = - c_w E[(x - D)+] - c_t E[(D - x)+],   theta = the c_t / (c_t + c_w) quantile of D.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.markets import Markets
from mbcas_loadtest.mechanism.verdicts import (
    REAL_TOLERANCE,
    Cleared,
    Mechanism,
    Misses,
    Verdict,
    pick_pods,
    unlimited_need,
    with_needs,
)

REPORT_FACTORS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 2.0, 3.0)
DEMANDS = 4
"""Equally likely demands of a payoff; costs lie between two quantiles, so the peak is a kink."""
KINK = 0.25
LEAST_SLOPE = KINK / DEMANDS
"""A payoff with c_t + c_w = 1 falls at least this steeply on both sides of its peak."""
JOINT_DEVIATIONS = 10
NOISE = REAL_TOLERANCE * LEAST_SLOPE / 2
"""A loss that may be rounding: a sacrifice that small gives another less than what is tolerated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payoffs:
    """Payoffs of k pods, scaled so that a millicore of waste and one of shortage cost 1 in sum."""

    demand: FloatArray
    """(k, DEMANDS)"""
    shortage_cost: FloatArray
    """(k,), in (0, 1)."""

    def gain(self, before: FloatArray | IntArray, after: FloatArray | IntArray) -> FloatArray:
        """Returns u(after) - u(before), shape (k,), as exact as the two are."""
        low, high = (
            end[:, np.newaxis] for end in (np.minimum(before, after), np.maximum(before, after))
        )
        met = np.clip(self.demand, low, high)
        cost = self.shortage_cost[:, np.newaxis]
        rise = (cost * (met - low) - (1 - cost) * (high - met)).mean(axis=1)
        gain: FloatArray = np.where(after >= before, rise, -rise)
        return gain


def draw_payoffs(peak_millicores: IntArray, generator: np.random.Generator) -> Payoffs:
    """Draws a concave payoff with its one peak here for each pod."""
    pods = peak_millicores.size
    rank = generator.integers(0, DEMANDS, pods)
    below = generator.random((pods, DEMANDS))
    above = 1.0 + generator.exponential(1.0, (pods, DEMANDS))
    place = np.arange(DEMANDS) - rank[:, np.newaxis]
    factor = np.where(place < 0, below, np.where(place > 0, above, 1.0))
    peak = peak_millicores[:, np.newaxis].astype(np.float64)
    return Payoffs(
        demand=peak * factor,
        shortage_cost=(rank + generator.uniform(KINK, 1 - KINK, pods)) / DEMANDS,
    )


def own_cap_form(markets: Markets, generator: np.random.Generator, mechanism: Mechanism) -> Verdict:
    """A report only caps what the others leave: X_i(r) = min(r, M_i), M_i independent of r.

    Proof: raise r from 0. While x_i = r, i takes a millicore of C for each it asks for. From the
    first r with x_i < r on, x_i = b_i + w_i L (or b_i L where floors are reduced) and s_i no longer
    enters the equation of L: x_i stays at M_i, what it gets for an unlimited report.
    Integers: two quanta, one each for X(r) and M.
    """
    rows = pick_pods(markets, generator)
    market = markets.pods.market[rows]
    most = _report(markets, mechanism, rows, unlimited_need(markets, rows))
    at_most, at_most_integer = most.share[rows], most.allocation[rows]
    misses = Misses(markets)
    for report in _draw_reports(markets, rows, at_most, generator):
        cleared = _report(markets, mechanism, rows, report)
        expected = np.minimum(report, at_most)
        misses.add_real(market, np.abs(cleared.share[rows] - expected), at_most)
        expected_integer = np.minimum(report, at_most_integer)
        misses.add_quanta(market, np.abs(cleared.allocation[rows] - expected_integer))
    return misses.judge(quanta_allowed=2)


def strategy_proof(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """Truth is weakly dominant: u(X(theta)) >= u(X(r)) for all r, whatever the others report.

    Reporting below min(theta, M) strictly hurts. Reporting more is neutral if truth is rationed
    (theta >= M) and strictly hurts if it is satisfied (theta < M). Proof: X(r) = min(r, M), so r
    chooses a point of [0, M] freely; min(theta, M) is the best there, as u is concave with its peak
    at theta, and the only best where the peak is one point.
    The strict parts are checked as a loss of at least the least slope times the distance from
    min(theta, M). Integers: two quanta, as X is a quantum off its share at most, and u changes by
    at most 1 for each millicore.
    """
    rows = pick_pods(markets, generator)
    market, peak = markets.pods.market[rows], markets.pods.need_millicores[rows]
    payoffs = draw_payoffs(peak, generator)
    at_most = _report(markets, mechanism, rows, unlimited_need(markets, rows)).share[rows]
    honest = mechanism.run_pods(markets)
    misses = Misses(markets)
    for report in _draw_reports(markets, rows, at_most, generator):
        cleared = _report(markets, mechanism, rows, report)
        gain = payoffs.gain(honest.share[rows], cleared.share[rows])
        distance = np.abs(np.minimum(report, at_most) - np.minimum(peak, at_most))
        misses.add_real(market, gain + LEAST_SLOPE * distance, at_most)
        neutral = (report > peak) & (peak >= at_most)
        misses.add_real(market, np.where(neutral, np.abs(gain), 0.0), at_most)
        gain = payoffs.gain(honest.allocation[rows], cleared.allocation[rows])
        misses.add_quanta(market, gain)
    return misses.judge(quanta_allowed=2)


def no_pair_gains(
    markets: Markets, generator: np.random.Generator, mechanism: Mechanism
) -> Verdict:
    """No two pods can misreport so that both do at least as well and one does better.

    Claimed where floors fit. Proof: a satisfied pod does as well only with theta again; a rationed
    one, x = b + w L, only with x or more. If the level falls, or floors no longer fit, a rationed
    one gets less. If it rises or stays, nobody gets less, the others neither: all of C being sold
    before, nobody gets more.
    Integers: who does as well has x or more, hence a share of at least x - 2q; as sum x = C, the
    other's share is up by less than 2q, and what it gets by less than 4q.
    """
    pairs = pick_pods(markets, generator, least=2), pick_pods(markets, generator, least=2)
    first, second = (rows[pairs[0] != pairs[1]] for rows in pairs)
    market = markets.pods.market[first]
    honest = mechanism.run_pods(markets)
    payoffs = [
        draw_payoffs(markets.pods.need_millicores[rows], generator) for rows in (first, second)
    ]
    size = honest.share[first] + honest.share[second]
    misses = Misses(markets)
    for _ in range(JOINT_DEVIATIONS):
        bids = markets.pods
        for rows in (first, second):
            bids = with_needs(
                bids, rows, _draw_report(markets, rows, honest.share[rows], generator)
            )
        cleared = mechanism.run(bids, markets.capacity_millicores, markets.quantum_millicores)
        one, other = (
            payoff.gain(honest.share[rows], cleared.share[rows])
            for payoff, rows in zip(payoffs, (first, second), strict=True)
        )
        nobody_loses = np.minimum(one, other) >= -NOISE * np.maximum(size, 1.0)
        misses.add_real(market, np.where(nobody_loses, np.maximum(one, other), 0.0), size)
        one, other = (
            payoff.gain(honest.allocation[rows], cleared.allocation[rows])
            for payoff, rows in zip(payoffs, (first, second), strict=True)
        )
        nobody_loses = np.minimum(one, other) >= 0
        misses.add_quanta(market, np.where(nobody_loses, np.maximum(one, other), 0.0))
    tried = np.zeros(markets.count, dtype=np.bool_)
    tried[market] = True
    return misses.judge(quanta_allowed=4, claimed=tried & markets.floors_fit())


def _report(
    markets: Markets, mechanism: Mechanism, rows: IntArray, need_millicores: IntArray
) -> Cleared:
    """Clears the markets with other reports of these pods."""
    bids = with_needs(markets.pods, rows, need_millicores)
    return mechanism.run(bids, markets.capacity_millicores, markets.quantum_millicores)


def _draw_reports(
    markets: Markets, rows: IntArray, at_most: FloatArray, generator: np.random.Generator
) -> Iterator[IntArray]:
    """Yields reports of these pods: multiples of the truth, its neighbours, and around M."""
    truth = markets.pods.need_millicores[rows]
    for factor in REPORT_FACTORS:
        yield (truth * factor).astype(np.int64)
    yield np.maximum(truth - 1, 0)
    yield truth + 1
    yield np.floor(at_most).astype(np.int64)
    yield np.ceil(at_most).astype(np.int64)
    yield _draw_report(markets, rows, at_most, generator)


def _draw_report(
    markets: Markets, rows: IntArray, share: FloatArray, generator: np.random.Generator
) -> IntArray:
    """Draws one report per pod: a multiple of the truth, a step around its share, or all."""
    truth = markets.pods.need_millicores[rows]
    factor = generator.choice((*REPORT_FACTORS, 1.0), rows.size)
    step = generator.integers(-3, 4, rows.size) * markets.quantum_millicores
    choice = generator.integers(0, 5, rows.size)
    report = (truth * factor).astype(np.int64)
    report = np.where(choice <= 1, np.floor(share).astype(np.int64) + step, report)
    report = np.where(choice == 0, unlimited_need(markets, rows), report)
    return np.maximum(report, 0)
