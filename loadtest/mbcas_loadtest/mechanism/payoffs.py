"""What CPU is really worth to a bidder: the payoff that attacks are measured by.

**Payoff.** Of demand D over the next horizon, x millicores serve min(x, D); what idles costs c_w,
what is missing c_t a millicore:

    u(x) = - c_w E[(x - D)+] - c_t E[(D - x)+] = (c_w + c_t) E[min(x, D)] - c_w x - c_t E[D],

concave with its peak at the need theta = F^-1(c_t / (c_t + c_w)). With c_w = 1 and at most tau
throttling, c_t = (1 - tau) / tau, so theta = F^-1(1 - tau). Gains are given as shares of the
**useful value** v(x) = c_t E[min(x, D)] - c_w E[(x - D)+] = u(x) + c_t E[D], which is 0 at x = 0.

**Demand.** A histogram: D falls into bin k with probability p_k and is uniform in it; a bin without
width is an atom. Atoms alone give every distribution with finitely many values, contiguous bins
approximate a smooth one as closely as wanted, and all that is needed is elementary:

    E[min(x, D)] = sum p_k (x below the bin, its middle above, x - (x - l)^2 / 2(h - l) inside).

**Whole millicores.** The need is the whole number with the larger payoff beside theta, so that no
other report asks for something better.

**Example.** D is 100 or 300, half and half; tau = 20 %, so c_t = 4 and theta = 300. u(100) =
-4 x 0.5 x 200 = -400, u(200) = -0.5 x 100 - 4 x 0.5 x 100 = -250, u(300) = -0.5 x 200 = -100, and
v(200) = -250 + 4 x 200 = 550.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.rule import Facts

LEAST_PART_VALUE = 1e-9
"""A part that is worth nothing, as rounding may leave one, is sold last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """Histograms of the demand of n bidders, (n, bins) each."""

    low_millicores: FloatArray
    high_millicores: FloatArray
    """At least the low end, at most the next bin's low end."""
    probability: FloatArray
    """Rows sum to 1."""

    def take(self, rows: IntArray) -> "Demand":
        """Returns the demand of some bidders."""
        return Demand(
            low_millicores=self.low_millicores[rows],
            high_millicores=self.high_millicores[rows],
            probability=self.probability[rows],
        )

    def mean(self) -> FloatArray:
        """Returns E[D], shape (n,)."""
        middle = (self.low_millicores + self.high_millicores) / 2.0
        mean: FloatArray = (self.probability * middle).sum(axis=1)
        return mean

    def served(self, allocation_millicores: FloatArray) -> FloatArray:
        """Returns E[min(x, D)], shape (n,)."""
        low, high = self.low_millicores, self.high_millicores
        reached = np.clip(allocation_millicores[:, None], low, high)
        width = np.where(high > low, high - low, 1.0)
        inside = np.minimum(allocation_millicores[:, None], reached)
        inside = inside - (reached - low) ** 2 / (2.0 * width)
        served: FloatArray = (self.probability * inside).sum(axis=1)
        return served

    def quantile(self, ratio: FloatArray) -> FloatArray:
        """Returns F^-1(ratio) of each bidder, ratios in (0, 1), shape (n,)."""
        until = np.cumsum(self.probability, axis=1)
        bins = until.shape[1]
        bin_of = np.minimum((until < ratio[:, None]).sum(axis=1), bins - 1)
        rows = np.arange(ratio.size)
        probability = self.probability[rows, bin_of]
        into = ratio - (until[rows, bin_of] - probability)
        share: FloatArray = np.ones(ratio.size)
        np.divide(into, probability, out=share, where=probability > 0)
        low, high = self.low_millicores[rows, bin_of], self.high_millicores[rows, bin_of]
        quantile: FloatArray = low + np.clip(share, 0.0, 1.0) * (high - low)
        return quantile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payoffs:
    """What CPU is worth to n bidders; idle CPU costs 1 a millicore."""

    demand: Demand
    throttling_target_ratio: FloatArray
    """(n,) tau, in (0, 1)."""
    elasticity: FloatArray
    """(n,) how far each would follow a price, for the rules that have one."""

    def take(self, rows: IntArray) -> "Payoffs":
        """Returns the payoffs of some bidders."""
        return Payoffs(
            demand=self.demand.take(rows),
            throttling_target_ratio=self.throttling_target_ratio[rows],
            elasticity=self.elasticity[rows],
        )

    def throttling_cost(self) -> FloatArray:
        """Returns c_t of each bidder, shape (n,)."""
        cost: FloatArray = (1.0 - self.throttling_target_ratio) / self.throttling_target_ratio
        return cost

    def payoff(self, allocation_millicores: IntArray) -> FloatArray:
        """Returns u of each bidder at its allocation, at most 0, shape (n,)."""
        payoff: FloatArray = self.useful_value(allocation_millicores) - (
            self.throttling_cost() * self.demand.mean()
        )
        return payoff

    def useful_value(self, allocation_millicores: IntArray) -> FloatArray:
        """Returns v of each bidder at its allocation, shape (n,)."""
        return self._useful_value(allocation_millicores.astype(np.float64))

    def find_need(self) -> IntArray:
        """Returns the whole number of millicores with the largest payoff, shape (n,)."""
        peak = self.demand.quantile(1.0 - self.throttling_target_ratio)
        below = np.floor(peak).astype(np.int64)
        above = np.ceil(peak).astype(np.int64)
        need: IntArray = np.where(self.useful_value(above) > self.useful_value(below), above, below)
        return need

    def relax(self, throttling_target_ratio: FloatArray) -> FloatArray:
        """Returns the need at larger targets as a share of the need, at most 1, shape (n,)."""
        peak = self.demand.quantile(1.0 - self.throttling_target_ratio)
        relaxed = self.demand.quantile(1.0 - throttling_target_ratio)
        return np.minimum(relaxed / np.maximum(peak, 1.0), 1.0)

    def facts(self, demand_millicores: IntArray) -> Facts:
        """Returns what rules may know of the bidders; the kernel sees this demand.

        Nobody declares a least acceptable allocation.
        """
        part_ratio, part_value = self._cut_value()
        return Facts(
            demand_millicores=demand_millicores,
            elasticity=self.elasticity,
            throttling_target_ratio=self.throttling_target_ratio,
            relax=self.relax,
            acceptable_millicores=np.zeros_like(demand_millicores),
            part_ratio=part_ratio,
            part_value=part_value,
        )

    def _useful_value(self, allocation: FloatArray) -> FloatArray:
        value: FloatArray = (1.0 + self.throttling_cost()) * self.demand.served(
            allocation
        ) - allocation
        return value

    def _cut_value(self) -> tuple[FloatArray, FloatArray]:
        """Returns the useful value up to the need as parts of constant slope.

        Exact between atoms; within a bin that has a width, its mean slope.
        """
        peak = self.demand.quantile(1.0 - self.throttling_target_ratio)[:, None]
        ends = np.stack([self.demand.low_millicores, self.demand.high_millicores], axis=2)
        ends = np.minimum(ends.reshape(peak.size, -1), peak)
        worth = np.stack([self._useful_value(ends[:, k]) for k in range(ends.shape[1])], axis=1)
        length = np.diff(ends, axis=1, prepend=0.0)
        gained = np.diff(worth, axis=1, prepend=0.0)
        value: FloatArray = np.full(length.shape, LEAST_PART_VALUE)
        np.divide(gained, length, out=value, where=length > 0)
        ratio: FloatArray = length / np.maximum(peak, LEAST_PART_VALUE)
        return ratio, np.maximum(value, LEAST_PART_VALUE)


def scale_payoffs(payoffs: Payoffs, factor: int) -> Payoffs:
    """Returns the same bidders with every millicore of demand counted as `factor` of them."""
    demand = payoffs.demand
    scaled = replace(
        demand,
        low_millicores=demand.low_millicores * factor,
        high_millicores=demand.high_millicores * factor,
    )
    return replace(payoffs, demand=scaled)
