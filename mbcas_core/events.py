"""What the core is told: the events that `rounds.handle` takes, and what they carry.

Times are seconds on the server's monotonic clock unless a name says otherwise. Whoever builds an
event has checked types, lengths and ranges of identifiers; counters are untrusted and are judged by
`signals`.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import IntArray

COUNTERS = (
    "usage_usec",
    "nr_periods",
    "nr_throttled",
    "throttled_usec",
    "nr_bursts",
    "quota_usec",
    "period_usec",
    "burst_usec",
    "pressure_usec",
)
"""Rows of `Samples.counters`, in this order. A quota of 0 means none; a missing pressure is 0."""

MAX_DETAIL_SECONDS = 5
"""A sample carries at most this many seconds of detail: the longest interval between reports."""


class Mode(IntEnum):
    """What MBCAS does with a container; numbers as in the API."""

    OFF = 1
    RECOMMEND = 2
    AUTO = 3


class Policy(IntEnum):
    """Which numbers the market sets; numbers as in the API."""

    LIMITS_ONLY = 1
    REQUESTS_AND_LIMITS = 2
    REQUESTS_ONLY = 3
    HARD_QUOTA = 4


class PriorityClass(IntEnum):
    """A pod's priority, declared at admission; numbers as in the API."""

    CRITICAL = 1
    NORMAL = 2
    LOW = 3


class Enforcement(IntEnum):
    """How a shim carries out orders; numbers as in the API."""

    CGROUP = 1
    RESIZE = 2


class QosClass(IntEnum):
    """A pod's QoS class; numbers as in the API."""

    GUARANTEED = 1
    BURSTABLE = 2
    BEST_EFFORT = 3


class Pending(IntEnum):
    """What keeps the kubelet from carrying out a pod's newest spec."""

    NOTHING = 0
    DEFERRED = 1
    """It does not fit now; what was asked still counts for the scheduler."""
    INFEASIBLE = 2
    """It never fits."""
    FAILING = 3
    """Carrying it out failed, and the kubelet tries again and again."""


class Outcome(IntEnum):
    """How an order ended; numbers as in the API."""

    APPLIED = 1
    UNCHANGED = 2
    STALE = 3
    EXPIRED = 4
    REFUSED = 5
    FAILED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuResources:
    """CPU of one container as one party sees it; None where there is none or it is not known."""

    request_millicores: int | None = None
    limit_millicores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Facts about a node that seldom change."""

    allocatable_millicores: int
    unmanaged_millicores: int = 0
    cpu_count: int = 1
    enforcement: Enforcement = Enforcement.CGROUP
    fast_kubelet: bool = False
    """True from Kubernetes 1.36 on: resizes take 0.2 s, not 2 s."""
    burst_writable: bool = False
    """True where the shim may write burst credit although the kubelet writes the quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """Facts about one container, its annotations already parsed."""

    handle: int
    pod_uid: str
    namespace: str
    pod: str
    container: str
    container_id: str
    spec: CpuResources
    owner: str = ""
    image_id: str = ""
    allocated: CpuResources | None = None
    actual: CpuResources | None = None
    admitted: CpuResources | None = None
    """None: what the spec says when the row is first seen. Where `request_set` or `limit_set`: what
    is remembered of that one; the other is None, and is what the spec says."""
    request_set: bool = False
    """The spec's request was last set by MBCAS (on Kubernetes)."""
    limit_set: bool = False
    generation: int = 0
    observed_generation: int = 0
    """The newest generation that the kubelet has seen."""
    pending: Pending = Pending.NOTHING
    """What its conditions say about the newest generation."""
    qos: QosClass | None = None
    """None where there is no Kubernetes."""
    guaranteed_but_for_cpu: bool = False
    """Equal requests and limits would make its pod Guaranteed, which is refused."""
    scaled_by_requests: bool = False
    """An HPA scales its owner on CPU as a share of the requests: they must not move."""
    system_critical: bool = False
    """A raised request of its pod may have others evicted: requests must not move."""
    ready: bool = True
    age_seconds: float | None = None
    """Since this run of the container started; None where the shim does not say."""
    restart_count: int = 0
    skip_reason: str = ""
    mode: Mode | None = None
    """None: the default of the parameters. The same for the fields below."""
    policy: Policy | None = None
    priority_class: PriorityClass | None = None
    strict: bool | None = None
    min_millicores: int | None = None
    max_millicores: int | None = None
    min_acceptable_millicores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Counters of n containers; entry i of every array is about the same container."""

    node_time_seconds: float
    """When they were read, on the node's monotonic clock."""
    handles: NDArray[np.int32]
    counters: IntArray
    """Shape (len(COUNTERS), n), cumulative, as the kernel gives them."""
    detail_seconds: NDArray[np.uint8]
    """Whole seconds of detail of each container, newest last, 0 to MAX_DETAIL_SECONDS."""
    slice_millicores: NDArray[np.uint16]
    """Mean use in each 100 ms slice, shape (10 * sum(detail_seconds),)."""
    second_throttled: NDArray[np.uint8]
    """How much nr_throttled rose in each second, shape (sum(detail_seconds),)."""

    def __post_init__(self) -> None:
        count = self.handles.size
        seconds = int(self.detail_seconds.sum())
        assert self.counters.shape == (len(COUNTERS), count), "one column per container"
        assert self.detail_seconds.shape == (count,), "one number of seconds per container"
        assert self.slice_millicores.shape == (10 * seconds,), "ten slices a second"
        assert self.second_throttled.shape == (seconds,), "one count a second"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """What became of an order."""

    order_id: int
    outcome: Outcome
    status: int = 0
    """The API server's HTTP status; 0 where none was asked."""
    cause: str = ""
    field: str = ""
    retry_after_seconds: float | None = None
    generation: int = 0
    actual: CpuResources | None = None
    message: str = ""
    """The API server's sentence, for people."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """What a shim has said since the last tick, merged in the order it was said.

    Removals come first, then containers, then samples, then results.
    """

    full_inventory: bool = False
    node_facts: NodeFacts | None = None
    removed_handles: tuple[int, ...] = ()
    containers: tuple[ContainerFacts, ...] = ()
    samples: tuple[Samples, ...] = ()
    results: tuple[OrderResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAttached:
    """A shim of this node connected; a full inventory follows. Orders not yet answered are void."""

    node: str
    time_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetached:
    """The node's shim is gone: its rows stay as they are and nothing is decided about them."""

    node: str
    time_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportArrived:
    """A node reported. It must have been attached, and its first report be a full inventory."""

    node: str
    time_seconds: float
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplesArrived:
    """As a ReportArrived with samples alone from each of these nodes.

    For simulations, which hold many nodes and read them all at one time.
    """

    nodes: tuple[str, ...]
    node: IntArray
    """(n,) which of them each of the n sampled containers is on."""
    time_seconds: float
    samples: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class TickDue:
    """Time to take the samples in, lift what is throttled, and clear the markets that are due."""

    time_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesFrozen:
    """From now on no orders are given (or they are again)."""

    frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAsked:
    """Give containers back their admitted values, and leave them alone for a while."""

    namespace: str
    """Only those of this namespace; empty for all."""
    pod: str
    """Only those of this pod; empty for all of the namespace."""
    hold_seconds: float
    time_seconds: float


Event = (
    NodeAttached
    | NodeDetached
    | ReportArrived
    | SamplesArrived
    | TickDue
    | WritesFrozen
    | ReleaseAsked
)
