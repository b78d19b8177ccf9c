"""A drawn world: what a scenario puts on m independent nodes of n containers, before anyone acts.

Arrays have the shape (m, n) unless they say otherwise. Node i is the draw of `seeds[i]`, so every
system meets the same arrivals, and runs are paired by seed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import PriorityClass
from mbcas_core.units import BoolArray, FloatArray, IntArray

PERIODS_PER_SECOND = 10
"""A period of the plant is 100 ms, as the kernel's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Declared:
    """What the pods' manifests say: all that a system may know before it has seen anything."""

    names: tuple[str, ...]
    """(n,) of the containers; each is a pod of its own unless `pod` says otherwise."""
    pod: IntArray
    """(n,) number of the pod that each container belongs to, ascending from 0."""
    request_millicores: IntArray
    """Above 0."""
    limit_millicores: IntArray
    """0 where there is none."""
    priority: tuple[PriorityClass, ...]
    """(n,)."""
    cpus: int
    """CPUs of a node, all of them allocatable."""
    batch: tuple[bool, ...]
    """(n,) True where nobody waits for answers: no delay is counted, throttling is no harm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Faults:
    """What goes wrong while a world runs; times in seconds from its start, ends excluded."""

    shim_lost_seconds: tuple[tuple[float, float], ...] = ()
    """No report and no order passes."""
    server_restart_seconds: tuple[float, ...] = ()
    api_down_seconds: tuple[tuple[float, float], ...] = ()
    deferred_ratio: float = 0.0
    """Share of resizes that the kubelet defers for `deferred_seconds`."""
    deferred_seconds: tuple[float, float] = (10.0, 60.0)
    report_loss_ratio: float = 0.0
    clock_skew_seconds: float = 0.0
    """Of the nodes' clocks to the server's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class World:
    """m nodes of n containers for some time."""

    scenario: str
    seeds: tuple[int, ...]
    """(m,)."""
    declared: Declared
    arrivals_usec: NDArray[np.float32]
    """(periods, m, n) work that arrives in each period of 100 ms: the true demand."""
    threads: FloatArray
    """How many CPUs a container's work can use at once, at least 1."""
    max_backlog_usec: FloatArray
    """Work of a closed loop's requests: what would arrive beyond it is not sent. inf: open loop."""
    request_usec: FloatArray
    """Mean CPU time of one request: the grain of arrivals and of delays."""
    exists: BoolArray
    """(periods // 10, n): in which seconds a container is there at all. All True in most worlds."""
    warmup_seconds: int = 600
    """Reported apart."""
    slo_delay_seconds: FloatArray | None = None
    """(n,) bound of the P99 delay, NaN where there is none."""
    faults: Faults = field(default_factory=Faults)
    modelled: str = ""
    """Of a replayed trace: what of it is measured and what is modelled."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.threads.shape[0], self.threads.shape[1]

    @property
    def seconds(self) -> int:
        return int(self.arrivals_usec.shape[0]) // PERIODS_PER_SECOND
