"""The clearing beside a general convex solver: the same outcome, and how much sooner.

Both are given the same markets of 100 bidders with floors that fit and needs that do not. The
clearing is timed alone, the rounding to quanta included, on a batch and on one market by itself.
The solver is timed in three ways: cvxpy as one usually writes it, the programme built for each
market; the programme built and compiled once, its parameters set for each market; and, within
that, the time the solver itself reports. All run on one core. The first two and the clearing are
timed by the CPU they use, so that other load counts for neither; the solver reports wall time,
which on a busy machine is longer than that.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.market.price import find_prices
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.solver import Programme, Solution, Surplus, solve

BIDDERS = 100
QUANTUM_MILLICORES = 10
REPEAT = 15
OFTEN = 50
"""Clearings of a single market per reading of the clock, which is coarse."""
BUILT_ANEW = 20
"""How many markets the programme is built for one by one; each takes long."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScarceMarkets:
    """m markets of n bidders each, in arrays of shape (m, n)."""

    wished_millicores: IntArray
    floor_millicores: IntArray
    weight: FloatArray
    surplus_millicores: IntArray
    """(m,)"""

    @property
    def capacity_millicores(self) -> IntArray:
        """C of each market, shape (m,)."""
        capacity: IntArray = self.floor_millicores.sum(axis=1) + self.surplus_millicores
        return capacity

    def bids(self, first: int, count: int) -> Bids:
        """Returns the bids of some of the markets."""
        chosen = slice(first, first + count)
        floor = self.floor_millicores[chosen]
        return Bids(
            market=np.repeat(np.arange(count), floor.shape[1]),
            need_millicores=(floor + self.wished_millicores[chosen]).ravel(),
            floor_millicores=floor.ravel(),
            weight=self.weight[chosen].ravel(),
        )

    def surplus(self, market: int) -> Surplus:
        """Returns one market as the solver takes it."""
        return Surplus(
            wished_millicores=self.wished_millicores[market].astype(np.float64),
            weight=self.weight[market],
            surplus_millicores=float(self.surplus_millicores[market]),
        )


def draw_scarce_markets(
    generator: np.random.Generator, markets: int, bidders: int
) -> ScarceMarkets:
    """Draws markets with weights within 10^+-2 that can grant 2 to 98 % of what is wished."""
    shape = (markets, bidders)
    wished: IntArray = generator.integers(1, 4000, shape)
    fit = generator.uniform(0.02, 0.98, markets)
    return ScarceMarkets(
        wished_millicores=wished,
        floor_millicores=generator.integers(0, 2000, shape),
        weight=10.0 ** generator.uniform(-2, 2, shape),
        surplus_millicores=np.maximum((wished.sum(axis=1) * fit).astype(np.int64), 1),
    )


def bench_solver(
    *, batch: int = 1000, compared: int = 300, bidders: int = BIDDERS, seed: int = 1000
) -> dict[str, Any]:
    """Clears a batch, and has the solver solve the first so many of its markets."""
    markets = draw_scarce_markets(np.random.default_rng(seed), batch, bidders)
    compared = min(compared, batch)
    everyone, capacity = markets.bids(0, batch), markets.capacity_millicores
    one = markets.bids(0, 1)
    batch_seconds = _median_seconds(lambda: _clear(everyone, capacity))
    single_seconds = _median_seconds(lambda: _clear_often(one, capacity[:1])) / OFTEN

    programme = Programme(bidders)
    solutions, cvxpy_seconds = _solve_all(programme, markets, compared)
    solver_seconds = [solution.solver_seconds for solution in solutions]
    per_market = batch_seconds / batch
    anew_seconds = [_build_and_solve(markets.surplus(index)) for index in range(BUILT_ANEW)]
    anew, built_once, alone = map(statistics.median, (anew_seconds, cvxpy_seconds, solver_seconds))
    return {
        "schema": "mbcas.bench.solver/1",
        "seed": seed,
        "bidders": bidders,
        "clearing": {
            "batch_markets": batch,
            "batch_ms": round(batch_seconds * 1e3, 3),
            "per_market_of_the_batch_us": round(per_market * 1e6, 2),
            "single_market_us": round(single_seconds * 1e6, 1),
        },
        "solver": {
            "markets": compared,
            "cvxpy_median_ms": round(anew * 1e3, 3),
            "cvxpy_built_once_median_ms": round(built_once * 1e3, 3),
            "solver_alone_median_ms": round(alone * 1e3, 3),
        },
        "times_faster": {
            "batch_against_cvxpy": round(anew / per_market),
            "batch_against_cvxpy_built_once": round(built_once / per_market),
            "batch_against_solver_alone": round(alone / per_market),
            "single_against_cvxpy": round(anew / single_seconds),
            "single_against_cvxpy_built_once": round(built_once / single_seconds),
            "single_against_solver_alone": round(alone / single_seconds),
        },
        "agreement": _compare(markets, _clear(everyone, capacity), solutions),
    }


def _clear(bids: Bids, capacity: IntArray) -> Clearing:
    return clear(bids, capacity, quantum_millicores=QUANTUM_MILLICORES)


def _clear_often(bids: Bids, capacity: IntArray) -> None:
    for _ in range(OFTEN):
        _clear(bids, capacity)


def _median_seconds(call: Callable[[], object]) -> float:
    """Times calls after one to warm up."""
    call()
    seconds = []
    for _ in range(REPEAT):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def _solve_all(
    programme: Programme, markets: ScarceMarkets, compared: int
) -> tuple[list[Solution], list[float]]:
    """Solves the first markets; the first is solved once before, which compiles the programme."""
    programme.set_market(markets.surplus(0))
    programme.solve()
    solutions, seconds = [], []
    for index in range(compared):
        market = markets.surplus(index)
        started = time.process_time()
        programme.set_market(market)
        programme.solve()
        seconds.append(time.process_time() - started)
        solutions.append(programme.read(market))
    return solutions, seconds


def _build_and_solve(market: Surplus) -> float:
    started = time.process_time()
    solve(market)
    return time.process_time() - started


def _compare(
    markets: ScarceMarkets, clearing: Clearing, solutions: list[Solution]
) -> dict[str, Any]:
    """Returns by how much shares, integers and prices differ, where the solver is exact."""
    compared = len(solutions)
    exact = np.array([solution.exact for solution in solutions])
    found = np.array([solution.above_millicores for solution in solutions])
    wished, weight = markets.wished_millicores[:compared], markets.weight[:compared]
    ours = np.minimum(wished, weight * clearing.level[:compared, np.newaxis])
    floor = markets.floor_millicores[:compared]
    off = (np.abs(found - ours) / (floor + ours)).max(axis=1)
    off_above = (np.abs(found - ours) / ours).max(axis=1)
    allocation = clearing.allocation_millicores.reshape(markets.weight.shape)[:compared]
    quanta = np.abs(allocation - (floor + found)).max(axis=1) / QUANTUM_MILLICORES
    price = find_prices(clearing, markets.capacity_millicores).shadow_price[:compared]
    solver_price = np.array([solution.shadow_price for solution in solutions])
    return {
        "markets": int(exact.sum()),
        "share_largest_relative": float(off[exact].max()),
        "share_median_relative": float(np.median(off[exact])),
        "above_floor_largest_relative": float(off_above[exact].max()),
        "shadow_price_largest_relative": float(np.abs(solver_price / price - 1)[exact].max()),
        "integers_largest_quanta": float(quanta[exact].max()),
        "markets_the_solver_left_inexact": int((~exact).sum()),
        "share_largest_relative_there": float(off[~exact].max(initial=0.0)),
    }
