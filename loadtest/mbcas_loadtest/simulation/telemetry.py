"""What shims would report of simulated kernels, and what becomes of the reports on the way.

A sample holds cumulative counters and the detail of its second, as the shim's do. Lost, it takes
its detail with it and nothing else; it may come a second late, after the newer one, or be delayed.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import COUNTERS, Samples, SamplesArrived
from mbcas_core.units import (
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    MIN_CEILING_MILLICORES,
    SLICES_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
)
from mbcas_loadtest.simulation.system import Seen

USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE
"""CPU time a period of one millicore."""
_KNOWN = (
    "usage_usec",
    "nr_periods",
    "nr_throttled",
    "throttled_usec",
    "nr_bursts",
    "quota_usec",
    "burst_usec",
)
_PLACE = np.array([COUNTERS.index(name) for name in _KNOWN])
_PERIOD = COUNTERS.index("period_usec")


@dataclass(slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Counters:
    """Cumulative counters of m nodes of n containers, (m, n) each, as the kernel counts them."""

    usage_usec: FloatArray
    nr_periods: FloatArray
    nr_throttled: FloatArray
    throttled_usec: FloatArray
    nr_bursts: FloatArray

    def lay_out(
        self, limit_millicores: FloatArray | IntArray, burst_millicores: FloatArray
    ) -> IntArray:
        """Returns them in the order of COUNTERS, (m, COUNTERS, n), with what is in force."""
        limit = np.where(np.isinf(limit_millicores), 0.0, limit_millicores)
        limit = np.where(limit > 0, np.maximum(limit, MIN_CEILING_MILLICORES), 0.0)
        laid: IntArray = np.zeros((limit.shape[0], len(COUNTERS), limit.shape[1]), np.int64)
        counted = (
            self.usage_usec,
            self.nr_periods,
            self.nr_throttled,
            self.throttled_usec,
            self.nr_bursts,
            limit * USEC_PER_MILLICORE,
            burst_millicores * USEC_PER_MILLICORE,
        )
        laid[:, _PLACE] = np.rint(np.stack(counted, axis=1))
        laid[:, _PERIOD] = CPU_PERIOD_USEC
        return laid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Reading:
    """One second's counters and detail of n containers on each of m nodes."""

    counters: IntArray
    """(m, COUNTERS, n)."""
    slice_millicores: NDArray[np.uint16]
    """(m, n, 10), oldest first."""
    throttled_periods: NDArray[np.uint8]
    """(m, n) of the second."""
    handles: NDArray[np.int32]
    """(n,)."""
    node_time_seconds: float
    """The nodes' clocks at its end."""

    def of(self, nodes: IntArray) -> Samples:
        """Returns what these nodes read, one after the other."""
        count = nodes.size * self.handles.size
        return Samples(
            node_time_seconds=self.node_time_seconds,
            handles=np.tile(self.handles, nodes.size),
            counters=self.counters[nodes].transpose(1, 0, 2).reshape(len(COUNTERS), count),
            detail_seconds=np.ones(count, np.uint8),
            slice_millicores=self.slice_millicores[nodes].reshape(-1),
            second_throttled=self.throttled_periods[nodes].reshape(-1),
        )


def read_second(
    counters: IntArray,
    slice_millicores: FloatArray,
    throttled_periods: NDArray[np.generic],
    *,
    handles: NDArray[np.int32],
    node_time_seconds: float,
) -> Reading:
    """Returns a second as shims would report it; slices are (10, m, n) here."""
    return Reading(
        counters=counters,
        slice_millicores=np.rint(slice_millicores.transpose(1, 2, 0)).astype(np.uint16),
        throttled_periods=throttled_periods.astype(np.uint8),
        handles=handles,
        node_time_seconds=node_time_seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Arrival:
    """What arrives together: a reading of some of the nodes."""

    nodes: IntArray
    reading: Reading

    def as_event(self, names: tuple[str, ...], time_seconds: float) -> SamplesArrived:
        """Returns it as the core is told; `names` are those of all nodes."""
        return SamplesArrived(
            nodes=tuple(names[node] for node in self.nodes.tolist()),
            node=np.repeat(np.arange(self.nodes.size), self.reading.handles.size),
            time_seconds=time_seconds,
            samples=self.reading.of(self.nodes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What happens to reports between node and server."""

    loss_ratio: float = 0.0
    reorder_ratio: float = 0.0
    """Share of the samples that come a second late, after the newer one."""
    delay_seconds: int = 0
    """Of every sample, beyond the fraction of a second that any takes."""
    clock_skew_seconds: float = 0.0
    """Of the nodes' clocks."""


class Telemetry:
    """The sampling side of the shims of m nodes."""

    def __init__(self, shape: tuple[int, int], line: Line) -> None:
        self._line = line
        self._counters = Counters(
            usage_usec=np.zeros(shape),
            nr_periods=np.zeros(shape),
            nr_throttled=np.zeros(shape),
            throttled_usec=np.zeros(shape),
            nr_bursts=np.zeros(shape),
        )
        self._nodes: IntArray = np.arange(shape[0])
        self._late: Arrival | None = None
        self._waiting: deque[list[Arrival]] = deque()

    def forget(self, slots: BoolArray) -> None:
        """Containers (n,) appear anew: their cgroups begin at 0."""
        counters = self._counters
        for counted in (
            counters.usage_usec,
            counters.nr_periods,
            counters.nr_throttled,
            counters.throttled_usec,
            counters.nr_bursts,
        ):
            counted[:, slots] = 0.0

    def lose(self) -> None:
        """What is on its way does not arrive: nobody listens."""
        self._waiting.clear()
        self._late = None

    def sample(
        self, seen: Seen, *, node_time_seconds: float, draw: NDArray[np.float32]
    ) -> list[Arrival]:
        """Reads the kernels after a second; returns what arrives, as it arrives.

        Args:
            seen: Of this second.
            node_time_seconds: Of the server's clock; the nodes' may be others.
            draw: (m,) uniform from 0 to 1: what becomes of each node's sample.
        """
        reading = self._read(seen, node_time_seconds + self._line.clock_skew_seconds)
        late_from = self._line.loss_ratio
        in_time_from = late_from + self._line.reorder_ratio
        sent = [Arrival(nodes=self._nodes[draw >= in_time_from], reading=reading)]
        if self._late is not None:
            sent.append(self._late)
        late = self._nodes[(draw >= late_from) & (draw < in_time_from)]
        self._late = Arrival(nodes=late, reading=reading) if late.size else None
        self._waiting.append([arrival for arrival in sent if arrival.nodes.size])
        return self._waiting.popleft() if len(self._waiting) > self._line.delay_seconds else []

    def _read(self, seen: Seen, node_time_seconds: float) -> Reading:
        counters, throttled = self._counters, seen.throttled.sum(axis=0)
        counters.usage_usec += seen.usage_usec.sum(axis=0)
        counters.nr_periods += seen.timer_ran.sum(axis=0)
        counters.nr_throttled += throttled
        counters.throttled_usec += seen.throttled_usec.sum(axis=0)
        counters.nr_bursts += seen.bursts.sum(axis=0)
        assert len(seen.usage_usec) == SLICES_PER_SECOND, "one second"
        slots: IntArray = np.flatnonzero(seen.exists[0])
        laid = counters.lay_out(seen.applied.limit_millicores, seen.applied.burst_millicores)
        slices = seen.usage_usec / USEC_PER_MILLICORE
        if slots.size < seen.exists.shape[1]:
            laid, slices, throttled = laid[..., slots], slices[..., slots], throttled[..., slots]
        return read_second(
            laid,
            slices,
            throttled,
            handles=(slots + 1).astype(np.int32),
            node_time_seconds=node_time_seconds,
        )
