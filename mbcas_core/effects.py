"""What the core wants done: the effects that `rounds.handle` returns, in order."""

from dataclasses import dataclass
from enum import IntEnum

from mbcas_core.events import CpuResources


class Lane(IntEnum):
    """Which queue an order belongs to; numbers as in the API."""

    EMERGENCY = 1
    NORMAL = 2
    RELEASE = 3


class Reason(IntEnum):
    """Why a container has what it has: exactly one at any time; numbers as in the API."""

    OBSERVING = 1
    STARTUP_GRACE = 2
    ON_TARGET = 3
    WITHIN_BAND = 4
    DWELL = 5
    RAISED = 6
    RATIONED = 7
    CUT = 8
    CUT_LIMITED = 9
    RECLAIM_BOUND = 10
    CUT_FOR_OTHERS = 11
    WAITING_SUPPLY = 12
    WAITING_BUDGET = 13
    WAITING_SPACING = 14
    IN_FLIGHT = 15
    EMERGENCY = 16
    EMERGENCY_HELD = 17
    DECAY = 18
    ROLLED_BACK = 19
    ADMITTED_FLOOR = 20
    MODE = 21
    FIXED_BY_POLICY = 22
    SKIPPED = 23
    FLOORS_REDUCED = 24
    FROZEN = 25
    STALE = 26
    BACKING_OFF = 27
    CHANGED_ELSEWHERE = 28
    RELEASED = 29
    WITHDRAWN = 30
    KUBELET_SILENT = 31
    NAMESPACE_RESTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A change of one container. It is tried once and expires; it is never resent."""

    order_id: int
    pod_uid: str
    namespace: str
    pod: str
    container: str
    expected_generation: int
    desired: CpuResources
    burst_usec: int | None
    admitted: CpuResources
    restore_exactly: bool
    expires_after_seconds: float
    lane: Lane
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOrders:
    """Send these orders to a node's shim, in this order."""

    node: str
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInventory:
    """Ask a node's shim for a full inventory."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that must always hold does not: a bug. Count it and log it once.

    Attributes:
        rule: "1" to "6", as numbered in the README of the core, or "audit-" and the name of a
            property of the market (`market.audit`, `audit_targets`, `audit_orders`).
        node: The node it was seen on.
        detail: The numbers.
    """

    rule: str
    node: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something an operator acts on or is told once.

    Attributes:
        node: The node it is about.
        event: A fixed text, such as "container appeared".
        detail: ``key=value`` pairs.
    """

    node: str
    event: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNotice:
    """Something that whoever owns a pod wants to know: an event on Kubernetes.

    Attributes:
        namespace: The pod's.
        pod: Its name.
        pod_uid: Its uid.
        container: Which of its containers.
        event: A fixed word, as "FirstResize"; see `loops.notices`.
        message: A sentence with the numbers.
        warning: True where somebody should act.
    """

    namespace: str
    pod: str
    pod_uid: str
    container: str
    event: str
    message: str
    warning: bool = False


Effect = SendOrders | RequestInventory | Violation | Notice | PodNotice
