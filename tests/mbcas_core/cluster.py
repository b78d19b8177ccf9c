"""The parts of the simulated cluster: containers, nodes, and what can happen to them."""

from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

import numpy as np

from mbcas_core.effects import Order
from mbcas_core.events import (
    COUNTERS,
    ContainerFacts,
    CpuResources,
    Mode,
    NodeFacts,
    OrderResult,
    Outcome,
    Policy,
    PriorityClass,
    ReportArrived,
    Samples,
)
from tests.mbcas_core.load import Kernel


class Mishap(StrEnum):
    """What goes wrong (or merely happens) in a second."""

    NOTHING = auto()
    SURGE = auto()
    CALM = auto()
    LOSE_REPORT = auto()
    LOSE_SAMPLES = auto()
    DELAY_REPORTS = auto()
    REPEAT_SAMPLES = auto()
    REORDER_SAMPLES = auto()
    GARBAGE_COUNTERS = auto()
    CLOCK_JUMP = auto()
    REFUSE_ORDERS = auto()
    FAIL_ORDERS = auto()
    LOSE_ORDERS = auto()
    SLOW_ORDERS = auto()
    SILENCE = auto()
    DETACH = auto()
    REATTACH = auto()
    RESTART = auto()
    ARRIVE = auto()
    LEAVE = auto()
    NODE_SHRINKS = auto()
    NODE_GROWS = auto()
    UNMANAGED_GROWS = auto()
    FOREIGN_CHANGE = auto()
    FREEZE = auto()


ORDERS_GO = (
    Mishap.NOTHING,
    Mishap.REFUSE_ORDERS,
    Mishap.FAIL_ORDERS,
    Mishap.LOSE_ORDERS,
    Mishap.SLOW_ORDERS,
)
"""What becomes of a node's orders from then on."""
SAMPLE_NOW = (Mishap.REPEAT_SAMPLES, Mishap.REORDER_SAMPLES, Mishap.GARBAGE_COUNTERS)
MAX_CONTAINERS = 8


@dataclass
class Pending:
    """An order on its way to what it asks for."""

    order: Order
    due: float
    """When the shim begins; it is void after `order.expires_after_seconds`."""
    outcome: Outcome
    happens: bool
    """Whether anything is set; a failed order may be carried out all the same."""
    answers_at: float | None
    """None: never."""


@dataclass
class Container:
    """One container as the world really has it."""

    facts: ContainerFacts
    request: int | None
    limit: int | None
    actual_request: int | None
    kernel: Kernel
    follows_at: float = np.inf
    """When the kernel follows the spec."""
    told: bool = False
    """The core has heard of it."""
    untold: tuple[int, int] | None = None
    """What the core must still believe after a foreign change: request and limit before it."""
    changed: bool = True
    pending: list[Pending] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return (self.facts.pod_uid, self.facts.container)

    def truth(self) -> tuple[int, int]:
        """The most request and limit that may be in force now or come about: (request, limit)."""
        request, limit = self.request or 0, self.limit or 0
        if self.untold is not None:
            request, limit = self.untold
        on_way = [pending.order.desired for pending in self.pending if pending.happens]
        requests = [request]
        requests += [desired.request_millicores or 0 for desired in on_way]
        limits = [limit] + [desired.limit_millicores or 0 for desired in on_way]
        if self.untold is None:
            requests.append(self.actual_request or 0)
            limits.append((self.kernel.limit_millicores or 0) if self.limit is not None else 0)
        return max(requests), max(limits)


@dataclass
class Node:
    """One node and its shim."""

    name: str
    facts: NodeFacts
    containers: list[Container] = field(default_factory=list)
    connected: bool = False
    wants_inventory: bool = True
    facts_changed: bool = True
    removed: list[int] = field(default_factory=list)
    results: list[tuple[float, OrderResult]] = field(default_factory=list)
    reports: list[tuple[float, ReportArrived, list[Container]]] = field(default_factory=list)
    """On the wire: when each arrives, and whose foreign changes it tells."""
    told_facts: NodeFacts | None = None
    known: dict[int, tuple[str, str]] = field(default_factory=dict)
    """What the core has been told of: (pod uid, container) by handle."""
    last_arrival: float = -np.inf
    silent_until: float = -np.inf
    clock_offset: float = 0.0
    last_samples: Samples | None = None
    next_handle: int = 1
    orders_go: Mishap = Mishap.NOTHING
    back_at: float = np.inf
    """When a shim that is gone connects again."""


def draw_container(
    draw: np.random.Generator, handle: int, serial: int, *, mate: Container | None, local: bool
) -> Container:
    """Draws a container; where the shim is local, it knows what was admitted.

    A pod's QoS class bounds what may be asked of it: without resources it is skipped, and a
    Guaranteed one has a hard quota.
    """
    policy = (mate.facts.policy if mate else None) or Policy(int(draw.integers(1, 5)))
    request, limit = _draw_resources(draw, policy)
    modes = [Mode.AUTO] * 4 + [Mode.RECOMMEND, Mode.OFF]
    facts = ContainerFacts(
        handle=handle,
        pod_uid=f"uid-{serial}",
        namespace="shop",
        pod=f"pod-{serial}",
        container=f"c{serial}",
        container_id=f"run-{serial}",
        spec=CpuResources(),
        admitted=CpuResources(request_millicores=request, limit_millicores=limit)
        if local
        else None,
        generation=0 if local else 1,
        age_seconds=None if local else 0.0,
        skip_reason="no resources" if request is None else "",
        mode=modes[int(draw.integers(len(modes)))],
        policy=policy,
        priority_class=PriorityClass(int(draw.integers(1, 4))),
        strict=bool(draw.random() < 0.2) or None,
        min_millicores=int(draw.integers(0, 300)) if draw.random() < 0.2 else None,
        max_millicores=int(draw.integers(300, 3000)) if draw.random() < 0.2 else None,
        min_acceptable_millicores=serial % 4 * 500 or None,
    )
    if mate is not None:  # What is declared of a pod holds for all of its containers.
        facts = replace(
            mate.facts,
            handle=handle,
            container=facts.container,
            container_id=facts.container_id,
            admitted=facts.admitted,
            skip_reason=facts.skip_reason,
        )
    kernel = Kernel(np.random.default_rng(int(draw.integers(1 << 40))), limit)
    return Container(facts, request, limit, request, kernel)


def _draw_resources(draw: np.random.Generator, policy: Policy) -> tuple[int | None, int | None]:
    request = int(draw.integers(1, 16)) * 50
    limit = request + int(draw.integers(0, 8)) * 100
    kind = draw.random()
    if kind < 0.05:
        return None, None
    if policy == Policy.HARD_QUOTA:
        return request, request
    if kind < 0.25:  # As people write them, without a thought for the node.
        limit = 16_000
    return request, None if kind < 0.15 else limit


def take_samples(due: list[Container], *, time_seconds: float) -> Samples:
    """Reads the counters of these containers."""
    details = [container.kernel.take_detail() for container in due]
    seconds = [second for detail in details for second in detail]
    return Samples(
        node_time_seconds=time_seconds,
        handles=np.array([container.facts.handle for container in due], np.int32),
        counters=np.stack([container.kernel.counters() for container in due], axis=1),
        detail_seconds=np.array([len(detail) for detail in details], np.uint8),
        slice_millicores=np.array([x for slices, _ in seconds for x in slices], np.uint16),
        second_throttled=np.array([count for _, count in seconds], np.uint8),
    )


def spoil(draw: np.random.Generator, samples: Samples) -> Samples:
    """Makes nonsense of one of the samples, or of all."""
    counters = samples.counters.copy()
    column = int(draw.integers(counters.shape[1]))
    at = int(draw.integers(len(COUNTERS)))
    match int(draw.integers(7)):
        case 0:
            counters[at, column] = -5
        case 1:
            counters[at, column] = np.iinfo(np.int64).max
        case 2:
            counters[at, column] = np.iinfo(np.int64).min
        case 3:
            counters[:, column] //= 2
        case 4:
            counters[COUNTERS.index("quota_usec"), column] = 1 << 59
        case 5:
            wild = [np.nan, np.inf, -np.inf, 1e300][int(draw.integers(4))]
            return replace(samples, node_time_seconds=wild)
        case _:
            return replace(samples, handles=samples.handles + 1000)
    return replace(samples, counters=counters)
