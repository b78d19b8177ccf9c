"""The plant for long simulations: many periods of many nodes, in place.

The arithmetic is that of `recursion.step`, with pods; what can wait for the end of a run of periods
is done there at once. How a simulation uses it, k periods at a time (10 are a second):

    plant = Plant((m, n), cpus=world.declared.cpus, threads=world.threads, weight=weight,
                  max_backlog_usec=world.max_backlog_usec, request_usec=world.request_usec,
                  pod=world.declared.pod)
    meter = DelayMeter((m, n), threads=world.threads, request_usec=world.request_usec)
    periods = plant.run(arrivals[t : t + k], Quota(quota_usec=..., burst_usec=..., written=...))
    meter.add(periods)                                     # delays.py
    p99 = meter.quantile_seconds(0.99)                     # (m, n)

Quotas are CPU time a period: millicores x 100. A quota holds from the start of its period; where
`written`, it was written in that period, and the kernel refilled it then. An equal quota that was
not written costs nothing and changes nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.plant.pods import Pods
from mbcas_loadtest.plant.recursion import (
    lost_time_usec,
    mean_kept_usec,
    rewrite,
    share_by_weight,
)

LATE_RATIO = 0.25
"""Share of a period's work that is in service at its end, for requests as long as the period: half
of the last request, and half of that again where the runtime ended first. Without it the plant
throttles 2 points more often than requests served one by one do, where these take 25 ms."""
GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, are spread evenly however many there are."""
LATE_MOST = 0.5
"""Of a period's work, however long its requests are."""


def find_late_share(request_usec: FloatArray) -> FloatArray:
    """Returns the share of a period's work that counts as arriving in the next one."""
    share: FloatArray = np.minimum(LATE_RATIO * request_usec / CPU_PERIOD_USEC, LATE_MOST)
    return share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Quota:
    """What is set in each period. Arrays broadcast to (k, m, n): one for all k, or one for each."""

    quota_usec: FloatArray
    """CPU time a period, above 0; inf where there is no quota."""
    burst_usec: FloatArray
    """At most the quota; no matter where there is none."""
    written: BoolArray
    """The quota was written in this period, changed or not."""
    pod_quota_usec: FloatArray | None = None
    """(..., pods) of the pods' own groups, inf where there is none; None: no pod has one."""
    pod_burst_usec: FloatArray | None = None
    write_share: FloatArray | None = None
    """(k,) of each period, over when quotas are written in it; None: spread evenly."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Periods:
    """What k periods did, (k, m, n) each; arrays of its own, which nobody overwrites."""

    admitted_usec: FloatArray
    """Work that arrived and can be done by then: what a closed loop did not send is not in it."""
    usage_usec: FloatArray
    throttled: BoolArray
    """By its own quota: the kernel does not count a child that its pod's quota held back."""
    throttled_usec: FloatArray
    """Summed over the CPUs that it would have used: may exceed the period."""
    timer_ran: BoolArray
    """The periods that the kernel counts in nr_periods."""
    bursts: BoolArray
    """The periods that the kernel counts in nr_bursts."""
    backlog_usec: FloatArray
    """At the end of each period."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class _Told:
    """What is set in each of k periods, (k, m, n)."""

    quota_usec: FloatArray
    limited: BoolArray
    spare_usec: FloatArray
    """What may be carried over, 0 where there is no quota."""
    most_usec: FloatArray
    granted_usec: FloatArray
    """What the writes of one setting add."""
    written: BoolArray
    is_written: BoolArray
    """(k,) whether anything is."""
    write_share: FloatArray
    """(k,)."""


class Plant:
    """m nodes of n containers, and what outlives a period in them."""

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        cpus: float,
        threads: FloatArray | float = 1.0,
        weight: FloatArray | float = 1.0,
        max_backlog_usec: FloatArray | float = np.inf,
        request_usec: FloatArray | float = 0.0,
        pod: IntArray | None = None,
    ) -> None:
        """Starts idle.

        Args:
            shape: (m, n).
            cpus: Of each node.
            threads: How many CPUs a container's work can use at once, (m, n), at least 1.
            weight: (m, n), above 0. May be changed between runs: `plant.weight[...] = ...`.
            max_backlog_usec: A closed loop's requests at most, inf: open loop.
            request_usec: Mean CPU time of a request: the longer, the more of a period's work is
                in service at its end, which counts as arriving in the next one, and the more
                runtime its CPUs keep. 0: work is a liquid.
            pod: (n,) number of each container's pod, ascending from 0; None: a pod each.
        """
        self._capacity_usec = cpus * CPU_PERIOD_USEC
        self._threads = np.broadcast_to(np.asarray(threads, np.float64), shape)
        self._width_usec = self._threads * CPU_PERIOD_USEC
        self._request_usec = np.broadcast_to(np.asarray(request_usec, np.float64), shape)
        self.weight: FloatArray = np.broadcast_to(np.asarray(weight, np.float64), shape).copy()
        self._max_backlog_usec = np.broadcast_to(np.asarray(max_backlog_usec, np.float64), shape)
        self._is_closed = bool(np.isfinite(self._max_backlog_usec).any())
        self._pods = Pods(self._threads, np.arange(shape[1]) if pod is None else pod)
        self._late_share = find_late_share(self._request_usec)
        self._late_usec = np.zeros(shape)
        self._backlog_usec = np.zeros(shape)
        self._carried_usec = np.zeros(shape)
        self._was_active = np.zeros(shape, np.bool_)
        self._periods = 0

    @property
    def backlog_usec(self) -> FloatArray:
        """Work that waits now, (m, n)."""
        return self._backlog_usec

    def run(self, arrivals_usec: NDArray[np.floating], quota: Quota) -> Periods:
        """Runs k periods.

        Args:
            arrivals_usec: New work of each period, (k, m, n), from 0.
            quota: What is set meanwhile.
        """
        arrivals = self._arriving(arrivals_usec)
        shape = arrivals.shape
        told = self._tell(quota, shape)
        pods = None
        if quota.pod_quota_usec is not None:
            pods = self._pods
            pods.set(quota.pod_quota_usec, quota.pod_burst_usec, count=shape[0])
        runtime, runnable, served = np.empty(shape), np.empty(shape), np.empty(shape)
        backlog, dropped = np.empty(shape), np.zeros(shape)
        waiting, carried = self._backlog_usec, self._carried_usec
        for i in range(shape[0]):
            work = np.add(waiting, arrivals[i], out=backlog[i])
            has = np.add(carried, told.quota_usec[i], out=runtime[i])
            np.minimum(has, told.most_usec[i], out=has)
            can = np.minimum(work, self._width_usec, out=runnable[i])
            if told.is_written[i]:
                self._rewrite(i, told, has, can, work - (1 - told.write_share[i]) * arrivals[i])
            gets = np.minimum(can, has, out=served[i])
            if pods is not None:
                pods.hold(gets, i)
            self._contend(gets)
            if pods is not None:
                pods.settle(gets, i)
            waiting = np.subtract(work, gets, out=work)
            if self._is_closed:
                np.subtract(waiting, self._max_backlog_usec, out=dropped[i])
                np.maximum(dropped[i], 0.0, out=dropped[i])
                np.subtract(waiting, dropped[i], out=waiting)
            np.subtract(has, gets, out=carried)
            np.minimum(carried, told.spare_usec[i], out=carried)
        self._backlog_usec = waiting.copy()
        admitted = arrivals - dropped
        throttled = (runtime < runnable) & (served >= runtime)
        active = runnable > 0
        was_active = np.concatenate([self._was_active[np.newaxis], active[:-1]])
        self._was_active = active[-1].copy()
        return Periods(
            admitted_usec=admitted,
            usage_usec=served,
            throttled=throttled,
            throttled_usec=self._lost_usec(throttled, runtime, runnable, backlog, admitted),
            timer_ran=told.limited & (active | was_active),
            bursts=told.limited & (served > told.quota_usec),
            backlog_usec=backlog,
        )

    def forget(self, gone: BoolArray) -> None:
        """Empties containers (m, n) that are gone: no work waits, no runtime is carried over."""
        self._backlog_usec[gone] = 0.0
        self._late_usec[gone] = 0.0
        self._carried_usec[gone] = 0.0
        self._was_active[gone] = False

    def _tell(self, quota: Quota, shape: tuple[int, ...]) -> "_Told":
        """Works out once what the periods need."""
        quota_usec = np.broadcast_to(quota.quota_usec, shape)
        limited = np.isfinite(quota_usec)
        kept = mean_kept_usec(
            quota_usec=quota_usec, threads=self._threads, request_usec=self._request_usec
        )
        spare = np.where(limited, quota.burst_usec + kept, 0.0)
        written = np.broadcast_to(quota.written, shape) & limited
        shares = quota.write_share
        told = _Told(
            quota_usec=quota_usec,
            limited=limited,
            spare_usec=spare,
            most_usec=quota_usec + spare,
            granted_usec=np.where(np.asarray(quota.burst_usec) > 0, 2, 1) * quota_usec,
            written=written,
            is_written=np.asarray(written.any(axis=(1, 2))),
            write_share=self._write_shares(shape[0]) if shares is None else shares,
        )
        self._periods += shape[0]
        return told

    def _rewrite(
        self,
        period: int,
        told: "_Told",
        runtime: FloatArray,
        runnable: FloatArray,
        there: FloatArray,
    ) -> None:
        """Refills in place what is written in this period, when so much work had been there."""
        rewritten, reached = rewrite(
            runtime=runtime,
            runnable=runnable,
            there=there,
            granted=told.granted_usec[period],
            most=told.most_usec[period],
            width=self._width_usec,
            write_share=told.write_share[period],
        )
        np.copyto(runtime, rewritten, where=told.written[period])
        np.copyto(runnable, reached, where=told.written[period])

    def _write_shares(self, count: int) -> FloatArray:
        """Returns moments that fall anywhere in a period, evenly over many periods."""
        numbers = np.arange(self._periods, self._periods + count, dtype=np.float64)
        return np.mod(numbers * GOLDEN, 1.0)

    def _arriving(self, arrivals_usec: NDArray[np.floating]) -> FloatArray:
        """Returns the work that can be done in each period: what is late counts in the next."""
        there = arrivals_usec.astype(np.float64)
        late = there * self._late_share
        there -= late
        there[0] += self._late_usec
        there[1:] += late[:-1]
        self._late_usec = late[-1]
        return there

    def _contend(self, wanted: FloatArray) -> None:
        """Shares the CPUs of the nodes that have too few, in place."""
        over = wanted.sum(axis=-1) > self._capacity_usec
        if over.any():
            wanted[over] = share_by_weight(
                wanted[over], self.weight[over], capacity=self._capacity_usec
            )

    def _lost_usec(
        self,
        throttled: BoolArray,
        runtime: FloatArray,
        runnable: FloatArray,
        backlog: FloatArray,
        arrivals: FloatArray,
    ) -> FloatArray:
        """Throttled time, worked out for the throttled periods alone: they are few."""
        lost = np.zeros(throttled.shape)
        where = np.nonzero(throttled)
        lost[where] = lost_time_usec(
            runtime=runtime[where],
            runnable=runnable[where],
            left=backlog[where],
            arrivals=arrivals[where],
            threads=self._threads[where[1:]],
        )
        return lost
