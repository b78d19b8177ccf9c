"""Max-min shares of the true demand: what sharing a full node could do with all information.

Every two seconds it sees what will arrive in the next two, and what waits. A container's need is
the least rate that leaves nothing waiting at the slot's end and covers what arrives in a share of
the slot's periods, the knob; at most what its threads can use. Needs beyond the node are cut to
weighted max-min shares (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2), weights being
the declared requests, as the kernel's are. It bounds what better information can bring under
contention; how little limit a container alone could live with is the oracles' question.

**Example.** 2 CPUs, equal requests, needs of 400m, 900m and 1500m: 400m, 800m, 800m.
"""

import math

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, FloatArray
from mbcas_loadtest.plant.recursion import share_by_weight
from mbcas_loadtest.rivals.one_number import (
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

SLOT_PERIODS = 20


class MaxMin:
    """The sharing on the world's m nodes."""

    interval_periods = SLOT_PERIODS
    actuation = Actuation.DIRECT

    def __init__(self, world: World, covered_ratio: float) -> None:
        assert 0.0 <= covered_ratio <= 1.0, "a share of the slot's periods"
        self._world = world
        self._covered_ratio = covered_ratio
        declared = world.declared
        self._weight = declared.request_millicores.astype(np.float64)
        self._absent_millicores = declared_millicores(declared)
        self._capacity_usec = float(declared.cpus * CPU_PERIOD_USEC)

    def step(self, seen: Seen) -> Settings | None:
        assert seen.backlog_usec is not None, "the truth includes what waits"
        coming = self._world.arrivals_usec[seen.period : seen.period + SLOT_PERIODS]
        periods = coming.shape[0]
        if periods == 0:
            return None
        seconds = (seen.period + np.arange(periods)) // PERIODS_PER_SECOND
        exists = self._world.exists[seconds][:, np.newaxis]
        need = self._needs(np.where(exists, coming, 0.0), seen.backlog_usec[-1])
        shares = share_by_weight(need, self._weight, capacity=self._capacity_usec)
        millicores = np.where(
            exists.any(axis=0), shares / USEC_PER_MILLICORE_PERIOD, self._absent_millicores
        )
        return one_number(millicores, is_whole=False)

    def _needs(self, coming_usec: FloatArray, backlog_usec: FloatArray) -> FloatArray:
        """Returns CPU time a period for (k, m, n) of what comes."""
        periods = coming_usec.shape[0]
        mean = (backlog_usec + coming_usec.sum(axis=0)) / periods
        rank = math.ceil(self._covered_ratio * periods) - 1
        if rank >= 0:
            mean = np.maximum(mean, np.partition(coming_usec, rank, axis=0)[rank])
        needs: FloatArray = np.minimum(mean, self._world.threads * CPU_PERIOD_USEC)
        return needs


MAX_MIN = Rival(
    name="max-min-truth",
    make_with_truth=MaxMin,
    knob="share of periods covered",
    default=0.95,
    sweep=(1.0, 0.95, 0.9, 0.8, 0.6, 0.0),
    source="Bertsekas and Gallager, Data Networks, 1992, 6.5.2; evaluation.md, section 3, no. 11",
)
