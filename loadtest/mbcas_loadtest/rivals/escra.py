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

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.rivals.one_number import (
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared

SLICE_USEC = 5_000.0
WINDOW_PERIODS = 5
MAX_LEFT_USEC = 5_000.0
UNUSED_RATIO = 0.2
STARVED_RATIO = 0.5
WINDOW_BITS = np.uint8((1 << WINDOW_PERIODS) - 1)
THROTTLED_PERIODS: IntArray = np.array([bits.bit_count() for bits in range(WINDOW_BITS + 1)])
"""Of each window; the least that counts, 0.1 of five, is one."""
NOBODY: BoolArray = np.zeros((1, 1), np.bool_)


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
        self.quota_usec: FloatArray = np.zeros(shape)
        """0 where there is no container."""
        self._least_usec: FloatArray = np.zeros(shape)
        self.pool_usec: FloatArray = np.full(shape[0], self._total_usec)
        self.overrun_usec: FloatArray = np.zeros(shape[0])
        self._fair_usec: FloatArray = np.full((shape[0], 1), self._total_usec)
        self._throttled = np.zeros(shape, np.uint8)
        """A bit for each period of the window, the last one lowest."""
        self._left_usec: FloatArray = np.zeros((WINDOW_PERIODS, *shape))

    def step(self, seen: Seen) -> Settings | None:
        is_same = np.array_equal(self._exists, seen.exists)
        if not is_same:
            self._come_and_go(seen.exists)
        left = np.maximum(self.quota_usec - seen.usage_usec[0], 0.0)
        self._left_usec[seen.period % WINDOW_PERIODS] = left
        self._throttled = (self._throttled << 1 & WINDOW_BITS) | seen.throttled[0]
        change = self._changes(left)
        changed = change != 0.0
        if not changed.any():
            return None if is_same else self._settings()
        self.quota_usec = self.quota_usec + change
        self._throttled[changed] = 0
        np.copyto(self._left_usec, 0.0, where=changed)
        return self._settings()

    def _settings(self) -> Settings:
        quota = self.quota_usec
        if not self._exists.all():
            quota = np.where(self._exists, quota, self._first_usec)
        return one_number(quota / USEC_PER_MILLICORE_PERIOD, is_whole=False)

    def _come_and_go(self, exists: BoolArray) -> None:
        quota = np.where(self._exists & exists, self.quota_usec, 0.0)
        quota = np.where(exists & ~self._exists, self._first_usec, quota)
        free = self._total_usec - quota.sum(axis=-1)
        self.pool_usec = np.maximum(free, 0.0)
        self.overrun_usec = np.maximum(-free, 0.0)
        new = exists != self._exists
        self._throttled[new] = 0
        self._left_usec[:, new] = 0.0
        count = np.maximum(exists.sum(axis=-1, keepdims=True), 1)
        self._fair_usec = self._total_usec / count
        self._least_usec = np.where(exists, SLICE_USEC, 0.0)
        self.quota_usec, self._exists = quota, exists.copy()

    def _changes(self, left_usec: FloatArray) -> FloatArray:
        """Returns what each quota changes by (m, n), and settles it with the pools."""
        quota = self.quota_usec
        throttled = THROTTLED_PERIODS[self._throttled]
        grows = (throttled > 0) & (self.pool_usec > 0.0)[:, np.newaxis]
        starves = throttled > STARVED_RATIO * WINDOW_PERIODS
        taken = np.zeros_like(quota)
        if starves.any():
            starves &= quota < self._fair_usec
        if self.overrun_usec.any():
            pays = (self.overrun_usec > 0.0)[:, np.newaxis] & (quota > self._fair_usec)
            taken -= self._repay(pays)
            grows, starves = grows & ~pays, starves & ~pays
        else:
            pays = NOBODY
        if starves.any():
            taken += self._fill_up(starves)
            grows &= ~starves
        if grows.any():
            grown, self.pool_usec = _serve(grows * (self._growth_usec * throttled), self.pool_usec)
            taken += grown
        small = MAX_LEFT_USEC * (self._left_usec.sum(axis=0) > MAX_LEFT_USEC * WINDOW_PERIODS)
        unused = UNUSED_RATIO * quota
        given = np.minimum(np.where(left_usec > unused, unused, small), quota - self._least_usec)
        given *= ~(grows | starves | pays)
        self.pool_usec = self.pool_usec + given.sum(axis=-1)
        change: FloatArray = taken - given
        return change

    def _repay(self, pays: BoolArray) -> FloatArray:
        over = np.where(pays, self.quota_usec - self._fair_usec, 0.0)
        share = over / self._fair_usec
        amount = np.where(share > 1.0, share * SLICE_USEC, share * over)
        amount = np.where(amount < SLICE_USEC / 2, over, amount)
        paid, self.overrun_usec = _serve(amount, self.overrun_usec)
        return paid

    def _fill_up(self, starves: BoolArray) -> FloatArray:
        lack = np.where(starves, self._fair_usec - self.quota_usec, 0.0)
        amount = np.where(lack > SLICE_USEC / 2, lack * lack / self._fair_usec, lack)
        before = self.pool_usec[:, np.newaxis] - (np.cumsum(amount, axis=-1) - amount)
        pooled = np.clip(before, 0.0, amount)
        lent = np.where(before > 0.0, 0.0, amount)
        self.pool_usec = self.pool_usec - pooled.sum(axis=-1)
        self.overrun_usec = self.overrun_usec + lent.sum(axis=-1)
        got: FloatArray = pooled + lent
        return got


def _serve(amount: FloatArray, available: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Serves amounts (m, n) from what is available (m,), in the order of rows; and what is left."""
    until = np.cumsum(amount, axis=-1)
    served = np.minimum(np.maximum(available[:, np.newaxis] - (until - amount), 0.0), amount)
    return served, np.maximum(available - until[:, -1], 0.0)


ESCRA = Rival(
    name="escra",
    make=Escra,
    knob="gain of growth",
    default=20.0,
    sweep=(40.0, 20.0, 10.0, 4.0, 2.0, 1.0),
    source="gregcusack/ec_gcm, Manager.cpp, handle_cpu_usage_report, c401cc9 (ICDCS 2022)",
)
