"""Per slot the least constant limit, given what waits; and shares of a node by true needs.

At the end of each slot the oracle is shown what waits and knows what comes in the next. A container
gets the least limit with which at most a share of the slot's periods is throttled: evaluation.md,
section 3, no. 14. It is least slot by slot, not for the whole run: work that waits at the end of a
slot is the next slot's. Batch containers, which throttling does not harm, share what others leave.

The contention oracle gives the same needs to the market of mechanism.md (Model, Clearing): floors
b = admitted request, weights w = admitted request x priority factor, and

    maximise  prod (x_i - b'_i)^(w_i)    with  b'_i = min(b_i, r_i) <= x_i <= r_i,  sum x <= CPUs.

So what it shows is what the rule could do if needs were known; batch needs all it can use. Where
needs fit the node it is the per-slot oracle.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.units import (
    MILLICORES_PER_CORE,
    MIN_CEILING_MILLICORES,
    BoolArray,
    FloatArray,
)
from mbcas_loadtest.oracles.search import Stretch, find_known_work, find_least_limit
from mbcas_loadtest.plant.recursion import share_by_weight
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings, System
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

PRIORITY_FACTOR = {PriorityClass.CRITICAL: 1.5, PriorityClass.NORMAL: 1.0, PriorityClass.LOW: 0.7}
"""mechanism.md, Model."""
WEIGHT_MIN = 10.0
TAU_SWEEP = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


class PerSlot:
    """The oracle on the world's m nodes."""

    actuation = Actuation.DIRECT

    def __init__(
        self,
        world: World,
        tau_ratio: float,
        *,
        slot_seconds: int,
        has_burst: bool = False,
        is_shared: bool = False,
    ) -> None:
        """Knows the world.

        Args:
            world: All of it.
            tau_ratio: Share of a slot's periods that may be throttled, in [0, 1].
            slot_seconds: Length of a slot.
            has_burst: Whether unused quota is carried over, up to the quota.
            is_shared: Whether needs beyond the node are cut by the market.
        """
        assert 0.0 <= tau_ratio <= 1.0, "a share of a slot's periods"
        self.interval_periods = slot_seconds * PERIODS_PER_SECOND
        self._world = world
        self._work_usec = find_known_work(world)
        self._tau_ratio = tau_ratio
        self._has_burst, self._is_shared = has_burst, is_shared
        self._batch: BoolArray = np.array(world.declared.batch, np.bool_)

    def step(self, seen: Seen) -> Settings | None:
        """Returns the least limits of the slot that begins, or None after the last period."""
        stretch = self._look_ahead(seen)
        if stretch is None:
            return None
        throttled_max = int(self._tau_ratio * stretch.arrivals_usec.shape[0] + 1e-9)
        need = find_least_limit(stretch, throttled_max).astype(np.float64)
        limit = self._share(need) if self._is_shared else self._leave_to_batch(need)
        return Settings(
            request_millicores=limit,
            limit_millicores=limit,
            burst_millicores=limit if self._has_burst else np.zeros(limit.shape),
        )

    def _look_ahead(self, seen: Seen) -> Stretch | None:
        world, begin = self._world, seen.period
        coming = self._work_usec[begin : begin + self.interval_periods]
        if not coming.shape[0]:
            return None
        assert seen.backlog_usec is not None, "the truth includes what waits"
        return Stretch(
            arrivals_usec=coming,
            backlog_usec=seen.backlog_usec[-1] * seen.exists,
            threads=world.threads,
            max_backlog_usec=world.max_backlog_usec,
            request_usec=world.request_usec,
            applied_millicores=seen.applied.limit_millicores,
            applied_burst_millicores=seen.applied.burst_millicores,
            has_burst=self._has_burst,
        )

    def _leave_to_batch(self, need: FloatArray) -> FloatArray:
        if not self._batch.any():
            return need
        world = self._world
        others = np.where(self._batch, 0.0, need).sum(axis=1, keepdims=True)
        left = world.declared.cpus * MILLICORES_PER_CORE - others
        each = np.clip(
            left / self._batch.sum(), MIN_CEILING_MILLICORES, world.threads * MILLICORES_PER_CORE
        )
        limit: FloatArray = np.where(self._batch, each, need)
        return limit

    def _share(self, need: FloatArray) -> FloatArray:
        declared = self._world.declared
        factor = np.array([PRIORITY_FACTOR[each] for each in declared.priority])
        admitted = declared.request_millicores.astype(np.float64)
        usable = self._world.threads * MILLICORES_PER_CORE
        shares = share_node(
            np.where(self._batch, usable, need),
            floor_millicores=admitted,
            weight=np.maximum(admitted, WEIGHT_MIN) * factor,
            capacity_millicores=declared.cpus * float(MILLICORES_PER_CORE),
        )
        limit: FloatArray = np.maximum(shares, MIN_CEILING_MILLICORES)
        return limit


def share_node(
    need_millicores: FloatArray,
    *,
    floor_millicores: FloatArray,
    weight: FloatArray,
    capacity_millicores: float,
) -> FloatArray:
    """Returns the shares (m, n) that maximise the welfare above.

    Where the floors alone exceed the node, they are shared in proportion to themselves at most.
    """
    base = np.minimum(floor_millicores, need_millicores)
    surplus = capacity_millicores - base.sum(axis=1)
    shares: FloatArray = need_millicores.copy()
    is_full = need_millicores.sum(axis=1) > capacity_millicores
    for node in np.flatnonzero(is_full):
        if surplus[node] <= 0:
            shares[node] = share_by_weight(
                base[node], floor_millicores[node], capacity=capacity_millicores
            )
        else:
            extra = need_millicores[node] - base[node]
            shares[node] = base[node] + share_by_weight(
                extra, weight[node], capacity=float(surplus[node])
            )
    return shares


def _rival(name: str, make: Callable[[World, float], System], source: str) -> Rival:
    return Rival(
        name=name,
        make_with_truth=make,
        knob="tau: share of periods that may be throttled",
        default=0.05,
        sweep=TAU_SWEEP,
        source=source,
    )


_SLOT = "evaluation.md, section 3, no. 14: bisection over known arrivals"
_MARKET = "mechanism.md, Model and Clearing, with needs found by bisection over known arrivals"
ORACLE_15S = _rival("oracle-15s", partial(PerSlot, slot_seconds=15), _SLOT)
ORACLE_2S = _rival("oracle-2s", partial(PerSlot, slot_seconds=2), _SLOT)
ORACLE_15S_BURST = _rival(
    "oracle-15s-burst", partial(PerSlot, slot_seconds=15, has_burst=True), _SLOT
)
ORACLE_2S_BURST = _rival("oracle-2s-burst", partial(PerSlot, slot_seconds=2, has_burst=True), _SLOT)
ORACLE_CONTENTION = _rival(
    "oracle-contention", partial(PerSlot, slot_seconds=15, is_shared=True), _MARKET
)
ORACLE_CONTENTION_BURST = _rival(
    "oracle-contention-burst",
    partial(PerSlot, slot_seconds=15, has_burst=True, is_shared=True),
    _MARKET,
)
