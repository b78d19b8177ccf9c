"""Builders of one or a few small markets, and of what is known of their bidders."""

from collections.abc import Sequence

import numpy as np

from mbcas_core.market.clearing import Bids
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.payoffs import Demand, Payoffs
from mbcas_loadtest.mechanism.rules.rule import Facts, Rule


def whole(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def bids_of(
    needs: Sequence[int],
    *,
    floors: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    market: Sequence[int] | None = None,
) -> Bids:
    """Returns bids of one market, with floors 0 and weights 1 where they are not given."""
    return Bids(
        market=whole([0] * len(needs) if market is None else market),
        need_millicores=whole(needs),
        floor_millicores=whole([0] * len(needs) if floors is None else floors),
        weight=np.array([1.0] * len(needs) if weights is None else weights),
    )


def allocate(rule: Rule, bids: Bids, *capacities: int, quantum: int = 10) -> list[int]:
    cleared = rule.clear(bids, whole(capacities), quantum_millicores=quantum)
    return [int(x) for x in cleared.allocation_millicores]


def atoms(
    values: Sequence[Sequence[float]],
    probabilities: Sequence[Sequence[float]],
    *,
    tau: float = 0.05,
    elasticity: float = 0.5,
) -> Payoffs:
    """Returns payoffs of bidders whose demand takes these values."""
    value: FloatArray = np.array(values, dtype=np.float64)
    return Payoffs(
        demand=Demand(
            low_millicores=value,
            high_millicores=value,
            probability=np.array(probabilities, dtype=np.float64),
        ),
        throttling_target_ratio=np.full(len(values), tau),
        elasticity=np.full(len(values), elasticity),
    )


def facts_of(
    demand: Sequence[int],
    *,
    elasticity: float = 0.5,
    acceptable: Sequence[int] | None = None,
    part_ratio: Sequence[Sequence[float]] | None = None,
    part_value: Sequence[Sequence[float]] | None = None,
) -> Facts:
    """Returns facts of bidders that relax nothing; a millicore is worth 1 to them by default."""
    rows = len(demand)
    return Facts(
        demand_millicores=whole(demand),
        elasticity=np.full(rows, elasticity),
        throttling_target_ratio=np.full(rows, 0.05),
        relax=np.ones_like,
        acceptable_millicores=whole([0] * rows if acceptable is None else acceptable),
        part_ratio=np.array([[1.0]] * rows if part_ratio is None else part_ratio),
        part_value=np.array([[1.0]] * rows if part_value is None else part_value),
    )
