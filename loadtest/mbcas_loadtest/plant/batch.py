"""The plant for long simulations: many periods of many nodes, in place.

The arithmetic is that of `recursion.step`, with pods, compiled (`kernels`). How a simulation uses
it, k periods at a time (10 are a second):

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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.plant.kernels import Periods, Pods, State, Told, run_periods

Entry = TypeVar("Entry", bound=np.generic)

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
        of_pod = np.arange(shape[1]) if pod is None else pod
        self._shape = shape
        self._pods = Pods(
            threads=_full(threads, shape),
            request_usec=_full(request_usec, shape),
            max_backlog_usec=_full(max_backlog_usec, shape),
            late_share=_full(find_late_share(_full(request_usec, shape)), shape),
            pod=np.ascontiguousarray(of_pod, np.int64),
            capacity_usec=float(cpus * CPU_PERIOD_USEC),
        )
        self._state = State(
            weight=_full(weight, shape),
            backlog_usec=np.zeros(shape),
            late_usec=np.zeros(shape),
            carried_usec=np.zeros(shape),
            was_active=np.zeros(shape, np.bool_),
            pod_carried_usec=np.zeros((shape[0], int(of_pod[-1]) + 1)),
        )
        self.weight: FloatArray = self._state.weight
        self._periods = 0

    @property
    def backlog_usec(self) -> FloatArray:
        """Work that waits now, (m, n)."""
        return self._state.backlog_usec

    def run(
        self,
        arrivals_usec: NDArray[np.floating],
        quota: Quota,
        *,
        done: Periods | None = None,
        first: int = 0,
    ) -> Periods:
        """Runs k periods.

        Args:
            arrivals_usec: New work of each period, (k, m, n), from 0.
            quota: What is set meanwhile.
            done: Where they are put, from period `first` on; None: arrays of their own.
            first: See there.

        Returns:
            `done`.
        """
        count = len(arrivals_usec)
        if done is None:
            done = empty_periods((count, *self._shape))
        assert first + count <= len(done.usage_usec), "room for every period"
        told = self._tell(quota, count)
        arrivals = np.ascontiguousarray(arrivals_usec, np.float64)
        run_periods(self._pods, self._state, told, arrivals, first, done)
        return done

    def forget(self, gone: BoolArray) -> None:
        """Empties containers (m, n) that are gone: no work waits, no runtime is carried over."""
        state = self._state
        for left in (state.backlog_usec, state.late_usec, state.carried_usec):
            left[gone] = 0.0
        state.was_active[gone] = False

    def _tell(self, quota: Quota, count: int) -> Told:
        nodes, pods = self._state.pod_carried_usec.shape
        of_pods, shares = quota.pod_quota_usec, quota.write_share
        pod_burst = np.zeros(()) if quota.pod_burst_usec is None else quota.pod_burst_usec
        nothing: FloatArray = np.zeros((0, nodes, pods))
        told = Told(
            quota_usec=_rows(quota.quota_usec, self._shape),
            burst_usec=_rows(quota.burst_usec, self._shape),
            written=_rows(quota.written, self._shape),
            pod_quota_usec=nothing if of_pods is None else _rows(of_pods, (nodes, pods)),
            pod_burst_usec=_rows(pod_burst, (nodes, pods)),
            write_share=self._write_shares(count) if shares is None else _full(shares, (count,)),
        )
        # Compiled code does not look whether what it reads is there.
        assert {len(each) for each in told} <= {0, 1, count}, "one row, or one for each period"
        self._periods += count
        return told

    def _write_shares(self, count: int) -> FloatArray:
        """Returns moments that fall anywhere in a period, evenly over many periods."""
        numbers = np.arange(self._periods, self._periods + count, dtype=np.float64)
        return np.mod(numbers * GOLDEN, 1.0)


def empty_periods(shape: tuple[int, ...]) -> Periods:
    """Returns room for k periods of (m, n)."""
    return Periods(
        admitted_usec=np.empty(shape),
        usage_usec=np.empty(shape),
        throttled=np.empty(shape, np.bool_),
        throttled_usec=np.empty(shape),
        timer_ran=np.empty(shape, np.bool_),
        bursts=np.empty(shape, np.bool_),
        backlog_usec=np.empty(shape),
    )


def _full(values: FloatArray | float, shape: tuple[int, ...]) -> FloatArray:
    full: FloatArray = np.empty(shape)
    full[...] = values
    return full


def _rows(values: NDArray[Entry], shape: tuple[int, ...]) -> NDArray[Entry]:
    """Returns (k, *shape) in order in memory; (1, *shape) of what is the same in all periods."""
    of_each = values.ndim == len(shape) + 1
    wanted = (len(values) if of_each else 1, *shape)
    if values.shape == wanted and values.flags.c_contiguous and values.flags.writeable:
        return values
    rows: NDArray[Entry] = np.empty(wanted, values.dtype)
    rows[...] = values
    return rows
