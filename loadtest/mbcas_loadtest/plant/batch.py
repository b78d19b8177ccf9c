"""The plant for long simulations: many periods of many nodes, in place.

The arithmetic is that of `recursion.step`; what can wait for the end of a run of periods is done
there at once. How a simulation uses it, k periods at a time (10 are a second):

    plant = Plant((m, n), cpus=world.declared.cpus, threads=world.threads, weight=weight,
                  max_backlog_usec=world.max_backlog_usec)
    meter = DelayMeter((m, n), ...)                        # delays.py
    periods = plant.run(arrivals[t : t + k], quota)        # quota: (m, n), or (k, m, n)
    meter.add(periods)

Quotas are CPU time a period: millicores x 100. What a period is given holds from its start; where
`written`, the quota was written in it, and the kernel refilled it then.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.plant.recursion import share_by_weight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Quota:
    """What is set in each period. Arrays broadcast to (k, m, n)."""

    quota_usec: FloatArray
    """CPU time a period, above 0; inf where there is no quota."""
    burst_usec: FloatArray
    """At most the quota; no matter where there is none."""
    written: BoolArray
    """The quota was written in this period, changed or not."""
    pod_quota_usec: FloatArray | None = None
    """(..., pods) of the pods' own groups, inf where there is none; None: no pod has one."""
    pod_burst_usec: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Periods:
    """What k periods did, (k, m, n) each; arrays of its own, which nobody overwrites."""

    admitted_usec: FloatArray
    """Work that arrived: what a closed loop did not send is not in it."""
    usage_usec: FloatArray
    throttled: BoolArray
    throttled_usec: FloatArray
    """Summed over the CPUs that it would have used: may exceed the period."""
    timer_ran: BoolArray
    """The periods that the kernel counts in nr_periods."""
    bursts: BoolArray
    """The periods that the kernel counts in nr_bursts."""
    backlog_usec: FloatArray
    """At the end of each period."""


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
        pod: IntArray | None = None,
    ) -> None:
        """Starts idle.

        Args:
            shape: (m, n).
            cpus: Of each node.
            threads: How many CPUs a container's work can use at once, (m, n), at least 1.
            weight: (m, n), above 0. May be changed between runs: `plant.weight[...] = ...`.
            max_backlog_usec: A closed loop's requests at most, inf: open loop.
            pod: (n,) number of each container's pod, ascending from 0; None: a pod each.
        """
        self._capacity_usec = cpus * CPU_PERIOD_USEC
        self._threads = np.broadcast_to(np.asarray(threads, np.float64), shape)
        self._width_usec = self._threads * CPU_PERIOD_USEC
        self.weight: FloatArray = np.broadcast_to(np.asarray(weight, np.float64), shape).copy()
        self._max_backlog_usec = np.broadcast_to(np.asarray(max_backlog_usec, np.float64), shape)
        self._is_closed = bool(np.isfinite(self._max_backlog_usec).any())
        self._pod = np.arange(shape[1]) if pod is None else pod
        self.backlog_usec: FloatArray = np.zeros(shape)
        self._carried_usec = np.zeros(shape)
        self._was_active = np.zeros(shape, np.bool_)

    def run(self, arrivals_usec: NDArray[np.floating], quota: Quota) -> Periods:
        """Runs k periods.

        Args:
            arrivals_usec: New work of each period, (k, m, n).
            quota: What is set meanwhile.
        """
        shape = arrivals_usec.shape
        quota_usec = np.broadcast_to(quota.quota_usec, shape)
        limited = np.isfinite(quota_usec)
        burst_usec = np.where(limited, quota.burst_usec, 0.0)
        most_usec = quota_usec + burst_usec
        written = np.broadcast_to(quota.written, shape)
        is_written: BoolArray = np.asarray(written.any(axis=(1, 2)))
        runtime, runnable, served = np.empty(shape), np.empty(shape), np.empty(shape)
        backlog, dropped = np.empty(shape), np.zeros(shape)
        waiting, carried = self.backlog_usec, self._carried_usec
        for i in range(shape[0]):
            work = np.add(waiting, arrivals_usec[i], out=backlog[i])
            has = np.add(carried, quota_usec[i], out=runtime[i])
            np.minimum(has, most_usec[i], out=has)
            if is_written[i]:
                has += np.where(written[i] & limited[i], quota_usec[i], 0.0)
            can = np.minimum(work, self._width_usec, out=runnable[i])
            gets = np.minimum(can, has, out=served[i])
            self._contend(gets)
            waiting = np.subtract(work, gets, out=work)
            if self._is_closed:
                np.subtract(waiting, self._max_backlog_usec, out=dropped[i])
                np.maximum(dropped[i], 0.0, out=dropped[i])
                np.subtract(waiting, dropped[i], out=waiting)
            np.subtract(has, gets, out=carried)
            np.minimum(carried, burst_usec[i], out=carried)
        self.backlog_usec = waiting.copy()
        return self._periods(
            np.asarray(arrivals_usec - dropped, np.float64),
            limited=limited,
            runtime=runtime,
            runnable=runnable,
            served=served,
            backlog=backlog,
            quota_usec=quota_usec,
        )

    def forget(self, gone: BoolArray) -> None:
        """Empties containers (m, n) that are gone: no work waits, no runtime is carried over."""
        self.backlog_usec[gone] = 0.0
        self._carried_usec[gone] = 0.0
        self._was_active[gone] = False

    def _contend(self, wanted: FloatArray) -> None:
        """Shares the CPUs of the nodes that have too few, in place."""
        over = wanted.sum(axis=-1) > self._capacity_usec
        if over.any():
            wanted[over] = share_by_weight(
                wanted[over], self.weight[over], capacity=self._capacity_usec
            )

    def _periods(
        self,
        admitted: FloatArray,
        *,
        limited: BoolArray,
        runtime: FloatArray,
        runnable: FloatArray,
        served: FloatArray,
        backlog: FloatArray,
        quota_usec: FloatArray,
    ) -> Periods:
        throttled = (runtime < runnable) & (served >= runtime)
        width = np.minimum(self._threads, np.ceil(runnable / CPU_PERIOD_USEC))
        lost = np.maximum(width * CPU_PERIOD_USEC - served, 0.0)
        active = runnable > 0
        was_active = np.concatenate([self._was_active[np.newaxis], active[:-1]])
        self._was_active = active[-1]
        return Periods(
            admitted_usec=admitted,
            usage_usec=served,
            throttled=throttled,
            throttled_usec=np.where(throttled, lost, 0.0),
            timer_ran=limited & (active | was_active),
            bursts=limited & (served > quota_usec),
            backlog_usec=backlog,
        )
