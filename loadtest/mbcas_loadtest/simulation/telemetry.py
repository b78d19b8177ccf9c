"""What shims would report of simulated kernels, and what becomes of the reports on the way.

A sample holds cumulative counters and the detail of its second, as the shim's do. Lost, it takes
its detail with it and nothing else; it may come a second late, after the newer one, or be delayed.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import COUNTERS, Samples
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


def build_samples(
    counters: IntArray,
    slice_millicores: FloatArray,
    throttled_periods: NDArray[np.generic],
    *,
    handles: NDArray[np.int32],
    node_time_seconds: float,
) -> list[Samples]:
    """Returns one second's sample of each of m nodes.

    Args:
        counters: (m, COUNTERS, n).
        slice_millicores: (10, m, n) of the second's slices, oldest first.
        throttled_periods: (m, n) of the second.
        handles: (n,).
        node_time_seconds: The node's clock at its end.
    """
    slices = np.rint(slice_millicores.transpose(1, 2, 0)).astype(np.uint16)
    by_node = slices.reshape(len(counters), -1)
    throttled = throttled_periods.astype(np.uint8)
    ones = np.ones(handles.size, np.uint8)
    return [
        Samples(
            node_time_seconds=node_time_seconds,
            handles=handles,
            counters=own,
            detail_seconds=ones,
            slice_millicores=sliced,
            second_throttled=hit,
        )
        for own, sliced, hit in zip(counters, by_node, throttled, strict=True)
    ]


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
        self._late: list[Samples | None] = [None] * shape[0]
        self._waiting: deque[list[tuple[Samples, ...]]] = deque()

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
        self._late = [None] * len(self._late)

    def sample(
        self, seen: Seen, *, node_time_seconds: float, draw: NDArray[np.float32]
    ) -> list[tuple[Samples, ...]]:
        """Reads the kernels after a second; returns what arrives of each node, as it arrives.

        Args:
            seen: Of this second.
            node_time_seconds: Of the server's clock; the nodes' may be others.
            draw: (m,) uniform from 0 to 1: what becomes of each node's sample.
        """
        fresh = self._read(seen, node_time_seconds + self._line.clock_skew_seconds)
        sent = [self._pass(node, one, float(draw[node])) for node, one in enumerate(fresh)]
        self._waiting.append(sent)
        if len(self._waiting) <= self._line.delay_seconds:
            return [()] * len(sent)
        return self._waiting.popleft()

    def _read(self, seen: Seen, node_time_seconds: float) -> list[Samples]:
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
        return build_samples(
            laid,
            slices,
            throttled,
            handles=(slots + 1).astype(np.int32),
            node_time_seconds=node_time_seconds,
        )

    def _pass(self, node: int, fresh: Samples, draw: float) -> tuple[Samples, ...]:
        """What becomes of a node's sample, and of one that is late."""
        late, self._late[node] = self._late[node], None
        arrived = [fresh]
        if draw < self._line.loss_ratio:
            arrived = []
        elif draw < self._line.loss_ratio + self._line.reorder_ratio:
            self._late[node] = fresh
            arrived = []
        return tuple(arrived + ([late] if late is not None else []))
