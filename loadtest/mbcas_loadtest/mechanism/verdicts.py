"""What a property is checked on, and what a check says.

A **mechanism** is anything with the signature of the clearing. The properties are statements about
real numbers, and integers keep them up to the rounding. So each is checked twice:

- on the **shares** before rounding, b' + min(s, w L) from the level the clearing returned, where
  only the arithmetic of floats is forgiven: a miss of 10^-9, relative to what is compared;
- on the **integers**, where each row lies within a quantum of its share (the property "rounding"
  says so), hence a difference of two of them within two quanta, and so on; each property states
  how many quanta it allows, and why.

Together they leave no room: the shares have the property, and the integers are the shares rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.market.pods import PodBids, PodClearing, clear_pods
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.mechanism.markets import Markets

REAL_TOLERANCE = 1e-9
"""A miss of the shares that is more than rounding errors of floats, relative to the shares."""
QUANTUM_TOLERANCE = 1.0 + 1e-6
"""A share within 2^-24 of a whole quantum counts as whole, so a row may move by that much more."""


class ClearRule(Protocol):
    """Shares each market among its bids; the signature of `clear`."""

    def __call__(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing: ...


class ClearPodsRule(Protocol):
    """Shares each node among its pods and their containers; the signature of `clear_pods`."""

    def __call__(
        self, bids: PodBids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> PodClearing: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleared:
    """Bids, what they got, and what they would have got without rounding."""

    bids: Bids
    capacity_millicores: IntArray
    clearing: Clearing
    base: IntArray
    """(n,) what nobody can take: min(b, r), or 0 where floors are reduced."""
    above: FloatArray
    """(n,) the share above the base; kept apart, as a sum would lose small ones."""

    @property
    def share(self) -> FloatArray:
        """What each would get without rounding, shape (n,)."""
        share: FloatArray = self.base + self.above
        return share

    @property
    def allocation(self) -> IntArray:
        """What each gets, shape (n,)."""
        return self.clearing.allocation_millicores

    @property
    def counted_floor(self) -> IntArray:
        """min(b, r), shape (n,)."""
        counted: IntArray = np.minimum(self.bids.floor_millicores, self.bids.need_millicores)
        return counted


def above_base(bids: Bids, clearing: Clearing, base: IntArray) -> FloatArray:
    """Returns min(s, w L): what each would get above the base if nothing were rounded."""
    reduced = clearing.floors_reduced[bids.market]
    counted = np.minimum(bids.floor_millicores, bids.need_millicores)
    weight = np.where(reduced, bids.floor_millicores, bids.weight)
    wished = np.where(reduced, counted, bids.need_millicores) - base
    above: FloatArray = np.minimum(wished, weight * clearing.level[bids.market])
    return above


def above_as_allocated(bids: Bids, clearing: Clearing, base: IntArray) -> FloatArray:
    """Returns what was given above the base: for a rule that clears at no level."""
    del bids
    above: FloatArray = (clearing.allocation_millicores - base).astype(np.float64)
    return above


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """A rule under test."""

    clear: ClearRule = clear
    clear_pods: ClearPodsRule = clear_pods
    above: Callable[[Bids, Clearing, IntArray], FloatArray] = above_base

    def run(self, bids: Bids, capacity_millicores: IntArray, quantum_millicores: int) -> Cleared:
        """Clears markets and finds the shares behind the integers."""
        clearing = self.clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
        counted = np.minimum(bids.floor_millicores, bids.need_millicores)
        base: IntArray = np.where(clearing.floors_reduced[bids.market], 0, counted)
        return Cleared(
            bids=bids,
            capacity_millicores=capacity_millicores,
            clearing=clearing,
            base=base,
            above=self.above(bids, clearing, base),
        )

    def run_pods(self, markets: Markets) -> Cleared:
        """Clears markets among their pods."""
        return self.run(markets.pods, markets.capacity_millicores, markets.quantum_millicores)


MBCAS = Mechanism()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What the check of one property found in each of m markets."""

    claimed: BoolArray
    """(m,) where the property is claimed and could be tried."""
    real_miss: FloatArray
    """(m,) by how much shares miss it at most, relative; 0 where they do not."""
    quanta_miss: FloatArray
    """(m,) by how many quanta integers miss it at most; 0 where they do not."""
    quanta_allowed: float

    @property
    def violated(self) -> BoolArray:
        """Where it does not hold, shape (m,)."""
        allowed = self.quanta_allowed * QUANTUM_TOLERANCE
        # Asked this way round, a miss that is not a number counts as one.
        kept: BoolArray = (self.real_miss <= REAL_TOLERANCE) & (self.quanta_miss <= allowed)
        return self.claimed & ~kept


class Misses:
    """Collects by how much each of m markets misses a property."""

    def __init__(self, markets: Markets) -> None:
        self._quantum = markets.quantum_millicores
        self._real: FloatArray = np.zeros(markets.count)
        self._quanta: FloatArray = np.zeros(markets.count)

    def add_real(
        self, market: IntArray, miss: FloatArray | IntArray, scale: FloatArray | IntArray
    ) -> None:
        """Adds differences of shares; `scale` is the size of what was compared."""
        np.maximum.at(self._real, market, miss / np.maximum(scale, 1.0))

    def add_quanta(
        self, market: IntArray, miss: FloatArray | IntArray, *, quantum: int | None = None
    ) -> None:
        """Adds differences of integers, in millicores."""
        np.maximum.at(self._quanta, market, miss / (quantum or self._quantum))

    def judge(self, *, quanta_allowed: float, claimed: BoolArray | None = None) -> Verdict:
        """Returns the verdict; without `claimed`, the property holds everywhere."""
        return Verdict(
            claimed=np.ones(self._real.size, dtype=np.bool_) if claimed is None else claimed,
            real_miss=self._real,
            quanta_miss=self._quanta,
            quanta_allowed=quanta_allowed,
        )


class Property(Protocol):
    """Checks one property in each of many markets; perturbations come from the generator."""

    def __call__(
        self, markets: Markets, generator: np.random.Generator, mechanism: Mechanism
    ) -> Verdict: ...


def pick_pods(markets: Markets, generator: np.random.Generator, *, least: int = 1) -> IntArray:
    """Picks a pod at random in each market that has at least `least`; returns their rows."""
    market = markets.pods.market
    count = np.bincount(market, minlength=markets.count)
    first = np.cumsum(count) - count
    row: IntArray = first + (generator.random(markets.count) * count).astype(np.int64)
    return row[count >= least]


def with_needs(bids: Bids, rows: IntArray, need_millicores: IntArray) -> Bids:
    """Returns the bids with other reports in these rows."""
    need = bids.need_millicores.copy()
    need[rows] = need_millicores
    return replace(bids, need_millicores=need)


def unlimited_need(markets: Markets, rows: IntArray) -> IntArray:
    """Returns a report for each row that no capacity and no floor can satisfy."""
    market = markets.pods.market[rows]
    need: IntArray = (
        markets.capacity_millicores[market] * 2
        + markets.pods.floor_millicores[rows]
        + markets.pods.need_millicores[rows]
        + 1
    )
    return need


def exactly(miss: FloatArray | IntArray) -> FloatArray:
    """Returns a miss that no number of quanta allows, where there is any at all."""
    intolerable: FloatArray = np.where(miss > 0, np.inf, 0.0)
    return intolerable
