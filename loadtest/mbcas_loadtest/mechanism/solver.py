"""The same outcome by another way: a general solver on the Eisenberg-Gale programme.

    maximise    sum w_i log(x_i - b'_i)
    subject to  b' <= x <= r,  sum x <= C

Written in y = (x - b') n / S with S = C - sum b', and with sum w = 1, so that n bidders share n
whatever the market's size: a solver's tolerances are absolute. The multiplier nu of sum y <= n is
then the shadow price in other units: lambda = nu n W / S per millicore, W the sum of the weights.

It shares nothing with the clearing but the statement of the problem: an interior-point method
(Clarabel) works on exponential cones, and knows neither levels nor vessels. Bidders with s_i = 0
stay at their floors and take no part. Needs `.[dev]`.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbcas_core.units import MILLICORES_PER_CORE, FloatArray
from mbcas_loadtest.errors import DemoError

TOLERANCE = 1e-12
"""Asked of the solver. With 10^-10 a bidder near its kink (y close to its most, where both
multipliers are close to 0) is off by up to 10^-4 of what it gets. In a few of a hundred markets the
solver ends above this tolerance, and says so."""
MAX_ITERATIONS = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surplus:
    """One market in which floors fit and needs do not: what is to share above the floors."""

    wished_millicores: FloatArray
    """(n,) s, above 0."""
    weight: FloatArray
    """(n,)"""
    surplus_millicores: float
    """S, above 0 and below sum s."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What the solver found."""

    above_millicores: FloatArray
    """(n,) x - b'."""
    shadow_price: float
    """Weight per core: the multiplier of the capacity."""
    exact: bool
    """Whether the solver met its tolerance."""
    solver_seconds: float
    """As the solver tells it, without what cvxpy does before and after."""


class Programme:
    """The programme for markets of n bidders, built once; a market is a set of parameters."""

    def __init__(self, bidders: int) -> None:
        cvxpy = _import_cvxpy()
        self._weight = cvxpy.Parameter(bidders, nonneg=True)
        self._most = cvxpy.Parameter(bidders, nonneg=True)
        self._above = cvxpy.Variable(bidders)
        self._capacity = cvxpy.sum(self._above) <= bidders
        welfare = cvxpy.sum(cvxpy.multiply(self._weight, cvxpy.log(self._above)))
        within = [self._above >= 0, self._above <= self._most, self._capacity]
        self._problem = cvxpy.Problem(cvxpy.Maximize(welfare), within)

    def set_market(self, market: Surplus) -> None:
        """Takes a market's numbers, scaled."""
        self._weight.value = market.weight / market.weight.sum()
        self._most.value = market.wished_millicores / self._unit(market)

    def solve(self) -> None:
        """Runs cvxpy and its solver on the market that is set."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            self._problem.solve(
                solver="CLARABEL",
                tol_gap_abs=TOLERANCE,
                tol_gap_rel=TOLERANCE,
                tol_feas=TOLERANCE,
                max_iter=MAX_ITERATIONS,
            )

    def read(self, market: Surplus) -> Solution:
        """Returns what was found, in the market's units."""
        unit = self._unit(market)
        price = float(self._capacity.dual_value) * market.weight.sum() / unit
        return Solution(
            above_millicores=np.asarray(self._above.value) * unit,
            shadow_price=price * MILLICORES_PER_CORE,
            exact=self._problem.status == "optimal",
            solver_seconds=float(self._problem.solver_stats.solve_time),
        )

    @staticmethod
    def _unit(market: Surplus) -> float:
        """Returns how many millicores stand for 1."""
        return market.surplus_millicores / market.weight.size


def solve(market: Surplus) -> Solution:
    """Solves one market."""
    programme = Programme(market.weight.size)
    programme.set_market(market)
    programme.solve()
    return programme.read(market)


def _import_cvxpy() -> Any:  # noqa: ANN401 - a module, whose stubs know none of what is used.
    try:
        import cvxpy  # noqa: PLC0415 - only developers have it.
    except ModuleNotFoundError:
        raise DemoError(
            "cvxpy is not installed: pip install -e '.[dev]' brings it and the solver"
        ) from None
    return cvxpy
