"""MBCAS with the founding plan's refusals: whoever refuses often enough gets a higher floor.

**Rule** (`refusal_floor_step` in `mbcas_core.market.participation`, off by default). A pod that
declared a_i and needs r_i refuses where x_i < min(a_i, r_i). After three refusals in a row, each
further one adds a step, a share of a_i, to its floor, up to a_i with what was promised. Growth is
paid from the node's surplus, scaled down to it where it is more: `grow_floors`, as in production.
(There, who no longer refuses loses the growth after a while and starts anew; here it keeps the
growth, which is what one round of the cycle pays.)

**Why it is off.** a_i is declared, costs nothing, and is paid for.

**Example.** C = 1000, two pods with weights 1, floors 100, needs 1000: 500 each. If the first
declares 900, its floor grows by up to the surplus of 800, to 900, and the other keeps its 100.
"""

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear, sum_counted_floors
from mbcas_core.market.participation import PATIENCE_ROUNDS, grow_floors
from mbcas_core.market.pods import NO_CAP_MILLICORES, PodBids
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, with_floors

PLAN_STEP_RATIO = 0.1
"""That of the preset `plan`."""


class RefusalFloor(Rule):
    """MBCAS whose floors grow by refusals; remembers how often each refused in a row."""

    name = "refusal_floor"

    def __init__(self, *, step_ratio: float = PLAN_STEP_RATIO) -> None:
        assert 0.0 < step_ratio <= 1.0, "a step is a share of what was declared acceptable"
        self._step_ratio = step_ratio
        self._refused_in_a_row: IntArray | None = None
        self.settling_rounds = PATIENCE_ROUNDS + int(np.ceil(1.0 / step_ratio))

    def reset(self) -> None:
        self._refused_in_a_row = None

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        assert self._facts is not None, "refusals are about facts: call observe first"
        acceptable = self._facts.acceptable_millicores
        refused = self._refused_in_a_row
        if refused is None:
            refused = np.zeros(bids.market.size, dtype=np.int64)
        assert refused.size == bids.market.size, "row i stays the same bidder until reset is called"

        floor = self._grow(bids, capacity_millicores, acceptable, refused)
        cleared = clear(
            with_floors(bids, floor), capacity_millicores, quantum_millicores=quantum_millicores
        )
        refuses = cleared.allocation_millicores < np.minimum(acceptable, bids.need_millicores)
        kept = np.where(refused > PATIENCE_ROUNDS, refused, 0)
        self._refused_in_a_row = np.where(refuses, refused + 1, kept)
        return cleared

    def _grow(
        self, bids: Bids, capacity: IntArray, acceptable: IntArray, refused: IntArray
    ) -> IntArray:
        """Returns the floors with what refusals have earned."""
        steps = np.minimum(np.maximum(refused - PATIENCE_ROUNDS, 0) * self._step_ratio, 1.0)
        rows = bids.market.size
        return grow_floors(
            PodBids(
                pod=np.arange(rows),
                need_millicores=bids.need_millicores,
                floor_millicores=bids.floor_millicores,
                weight=np.ones(rows),
                node=bids.market,
                pod_cap_millicores=np.full(rows, NO_CAP_MILLICORES),
                pod_weight=bids.weight,
            ),
            acceptable_millicores=acceptable,
            growth_millicores=(steps * acceptable).astype(np.int64),
            surplus_millicores=capacity - sum_counted_floors(bids, capacity.size),
        )
