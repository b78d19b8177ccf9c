"""Rules that break what the clearing keeps: a check that does not see it checks nothing.

Each has the clearing's signature and shares whole millicores as it would one market by hand.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.verdicts import Mechanism, above_as_allocated

Share = Callable[[list[int], list[int], list[float], int], list[int]]
"""Needs, floors, weights and capacity of one market to what each gets."""


def proportional(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """By need: who asks for more gets more."""
    del floors, weights
    total = sum(needs)
    return list(needs) if total <= c else [need * c // total for need in needs]


def first_come(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """In order, each all it asks for."""
    del floors, weights
    given = []
    for need in needs:
        given.append(min(need, c))
        c -= given[-1]
    return given


def floors_ignored(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """The same water-filling, but nobody is promised anything."""
    return _clear_one(needs, [0] * len(floors), weights, c)


def equal_weights(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """A pod for a head: whoever splits counts twice."""
    return _clear_one(needs, floors, [1.0] * len(weights), c)


def price_taking(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """Needs shrink by a price that grows with demand; what is left over stays unused."""
    shortage = max(0.0, 1 - c / sum(needs)) if sum(needs) else 0.0
    return _clear_one([int(need * (1 - shortage / 2)) for need in needs], floors, weights, c)


def reports_ignored(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    """All the same: a lie does no good, and no harm either."""
    del floors, weights
    return [c // len(needs)] * len(needs)


def shrinking_surplus(
    needs: list[int], floors: list[int], weights: list[float], c: int
) -> list[int]:
    """Of what the floors leave, 100m at most are shared, and fewer the larger the node."""
    counted = sum(min(floor, need) for floor, need in zip(floors, needs, strict=True))
    return _clear_one(needs, floors, weights, min(c, counted + 100 - min(c // 20, 100)))


def _clear_one(needs: list[int], floors: list[int], weights: list[float], c: int) -> list[int]:
    bids = Bids(
        market=np.zeros(len(needs), dtype=np.int64),
        need_millicores=np.array(needs, dtype=np.int64),
        floor_millicores=np.array(floors, dtype=np.int64),
        weight=np.array(weights, dtype=np.float64),
    )
    capacity = np.array([max(c, 0)], dtype=np.int64)
    cleared = clear(bids, capacity, quantum_millicores=1)
    return [int(x) for x in cleared.allocation_millicores]


def break_clearing(share: Share) -> Mechanism:
    """Returns the mechanism with this rule in the place of its clearing."""

    def broken(bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int) -> Clearing:
        clearing = clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
        allocation = clearing.allocation_millicores.copy()
        for market, capacity in enumerate(capacity_millicores.tolist()):
            rows = np.flatnonzero(bids.market == market)
            allocation[rows] = share(
                bids.need_millicores[rows].tolist(),
                bids.floor_millicores[rows].tolist(),
                bids.weight[rows].tolist(),
                capacity,
            )
        return replace(clearing, allocation_millicores=allocation)

    return Mechanism(clear=broken, above=above_as_allocated)
