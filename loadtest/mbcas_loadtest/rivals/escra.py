"""Escra: quotas move every 100 ms within one pool, after what each period left over or lacked.

**Rule** (gregcusack/ec_gcm, Manager.cpp, handle_cpu_usage_report, as stored at commits 000b5b1 and
c401cc9; slice of 5 ms in stats/global/cpu_g.cpp, windows of 5 in stats/local/cpu_l.h; ICDCS 2022).
The pool and all quotas add up to a total; the fair share is the total by the number of containers.
With `throttled` and `left` a container's means over the last five periods, forgotten at each change
of its quota, the first of these that applies happens after each period:

    overrun > 0, quota > fair:      pays back over x over / fair (over / fair slices where that is
                                    above 1; all of `over` where it is small), at most the overrun
    quota < fair, throttled > 0.5:  gets lack x lack / fair (all of `lack` where it is small) from
                                    the pool; where that is empty, as overrun
    throttled >= 0.1, pool > 0:     gets gain x throttled x slice from the pool
    over 20 % of the period unused: keeps 80 %, at least a slice
    left > 5 ms:                    gives 5 ms back, down to a slice

So no limit is below 50m, a slice a period.

**The gain** is the knob. The two stored versions of the rule have 4, older ones 2; 20, the default
here, is what evaluation.md read in the source, and could not be found again.

**Ours.** The total is the node, all containers are one application. Reports come one by one there;
here a period is settled at once: what is given back is there in the next one, and the pool serves
first those below their fair share, then the others, in the order of rows. Windows are empty at the
start. A container starts with what was declared, even if that needs an overrun. Lost messages and
the leak they cause are left out.

**Example.** Total 400 ms, two containers, fair 200 ms, quotas 100 ms each, pool 200 ms, gain 20.
One is throttled: its mean is 0.2, it gets 20 x 0.2 x 5 = 20 ms. The other used 50 of 100 ms and
keeps 80 ms.
"""

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray
from mbcas_loadtest.rivals.kernels import SLICE_USEC, WINDOW_PERIODS, Escras, run_escras
from mbcas_loadtest.rivals.one_number import (
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared


class Escra:
    """Pools of m nodes; quotas (m, n)."""

    interval_periods = 1
    actuation = Actuation.DIRECT

    def __init__(self, declared: Declared, gain: float) -> None:
        self._growth_usec = gain * SLICE_USEC / WINDOW_PERIODS
        """For each throttled period of the window."""
        first = declared_millicores(declared) * USEC_PER_MILLICORE_PERIOD
        self._first_usec = np.maximum(first, SLICE_USEC)
        self._total_usec = float(declared.cpus * CPU_PERIOD_USEC)
        shape = first.shape
        self._exists: BoolArray = np.zeros(shape, np.bool_)
        self._escras = Escras(
            quota_usec=np.zeros(shape),
            least_usec=np.zeros(shape),
            throttled=np.zeros((WINDOW_PERIODS, *shape), np.uint8),
            left_usec=np.zeros((WINDOW_PERIODS, *shape)),
            fair_usec=np.full(shape[0], self._total_usec),
            pool_usec=np.full(shape[0], self._total_usec),
            overrun_usec=np.zeros(shape[0]),
        )
        self.quota_usec: FloatArray = self._escras.quota_usec
        self.pool_usec: FloatArray = self._escras.pool_usec
        self.overrun_usec: FloatArray = self._escras.overrun_usec

    def step(self, seen: Seen) -> Settings | None:
        is_same = bool((self._exists == seen.exists).all())
        if not is_same:
            self._come_and_go(seen.exists)
        slot = seen.period % WINDOW_PERIODS
        is_changed = run_escras(
            self._escras, seen.usage_usec[0], seen.throttled[0], slot, self._growth_usec
        )
        return self._settings() if is_changed or not is_same else None

    def _settings(self) -> Settings:
        quota = self.quota_usec
        if not self._exists.all():
            quota = np.where(self._exists, quota, self._first_usec)
        return one_number(quota / USEC_PER_MILLICORE_PERIOD, is_whole=False)

    def _come_and_go(self, exists: BoolArray) -> None:
        escras = self._escras
        quota = np.where(self._exists & exists, escras.quota_usec, 0.0)
        quota = np.where(exists & ~self._exists, self._first_usec, quota)
        free = self._total_usec - quota.sum(axis=-1)
        escras.pool_usec[...] = np.maximum(free, 0.0)
        escras.overrun_usec[...] = np.maximum(-free, 0.0)
        new = exists != self._exists
        escras.throttled[:, new] = 0
        escras.left_usec[:, new] = 0.0
        escras.fair_usec[...] = self._total_usec / np.maximum(exists.sum(axis=-1), 1)
        escras.least_usec[...] = np.where(exists, SLICE_USEC, 0.0)
        escras.quota_usec[...] = quota
        self._exists = exists.copy()


ESCRA = Rival(
    name="escra",
    make=Escra,
    knob="gain of growth",
    default=20.0,
    sweep=(40.0, 20.0, 10.0, 4.0, 2.0, 1.0),
    source="gregcusack/ec_gcm, Manager.cpp, handle_cpu_usage_report, c401cc9 (ICDCS 2022)",
)
