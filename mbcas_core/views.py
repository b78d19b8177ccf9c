"""What the core shows: plain records of its state for the API, and nothing that can change it.

Every field means what the field of the same name in `mbcas/v1/market.proto` means; times are
seconds on the server's monotonic clock. None stands for "absent".
"""

from dataclasses import dataclass, field

from mbcas_core.effects import Reason
from mbcas_core.events import Mode, Policy, PriorityClass


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceView:
    """Three gauges of scarcity."""

    shadow_price: float
    shadow_price_normalized: float
    shortage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodView:
    """One good's market on one node."""

    supply_millicores: int
    demand_millicores: int
    floor_millicores: int
    target_millicores: int
    billed_millicores: int
    price: PriceView
    floors_reduced: bool
    exhausted_by_admitted_limits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerGoodView:
    """One number of one container on its way from a wish to the kernel."""

    admitted_millicores: int | None
    need_millicores: int | None
    target_millicores: int | None
    desired_millicores: int | None
    allocated_millicores: int | None
    applied_millicores: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container in its node's market."""

    namespace: str
    pod: str
    container: str
    pod_uid: str
    mode: Mode
    policy: Policy
    priority_class: PriorityClass
    weight: float
    usage_millicores: float | None
    throttled_ratio: float | None
    reservation: ContainerGoodView
    ceiling: ContainerGoodView
    lag_seconds: float | None
    emergency: bool
    emergency_since_seconds: float | None
    reason: Reason
    decision_time_seconds: float | None
    min_acceptable_millicores: int | None = None
    refused: bool = False
    compliance_level: float = 1.0
    """Its pod's; for metrics, not on the wire."""
    credits: int | None = None
    skip_reason: str = ""
    """Why it cannot be resized; empty where it can."""
    status_lag_seconds: float | None = None
    limit_bounds_nothing: bool = False
    """It is no ceiling of its node: as high as all its CPU. For the summary, not on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketView:
    """One node's market after its last tick."""

    node: str
    report_time_seconds: float
    round: int
    round_time_seconds: float | None
    live: bool
    frozen: bool
    allocatable_millicores: int
    unmanaged_millicores: int
    reservation: GoodView
    ceiling: GoodView
    containers: list[ContainerView] = field(default_factory=list)
    refusing_pods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsView:
    """What was measured of a container."""

    sample_count: int
    usage_millicores: float
    throttled_ratio_2s: float
    throttled_ratio_15s: float
    demand_millicores: float
    variation: float
    quota_millicores: float | None
    sample_age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomView:
    """From demand to need."""

    workload_class: str
    forecast: str
    base_millicores: float
    tau: float
    level: float
    usage_millicores: float
    recent_need_millicores: float
    burst_millicores: float
    reservation_quantile_millicores: float
    need_floor_millicores: float
    emergency_millicores: float
    ceiling_need_millicores: int
    reservation_need_millicores: int
    price_response: str = "off"
    response_shortage: float = 0.0
    effective_tau: float = 0.0
    demand_factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodDecisionView:
    """One good's clearing as this container's pod and the container itself saw it."""

    takes_part: bool
    need_millicores: int
    floor_millicores: int
    reclaim_factor: float
    pod_need_millicores: int
    pod_floor_millicores: int
    pod_cap_millicores: int
    pod_weight: float
    node_supply_millicores: int
    node_level: float | None
    pod_allocation_millicores: int
    pod_level: float | None
    container_weight: float
    target_millicores: int
    class_weight: float = 1.0
    floors_reduced: bool = False
    credit_millicores: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDecisionView:
    """From target to order."""

    time_seconds: float | None
    billed_reservation_millicores: int
    billed_ceiling_millicores: int
    slack_reservation_millicores: int
    slack_ceiling_millicores: int
    granted_reservation_millicores: int
    granted_ceiling_millicores: int
    desired_reservation_millicores: int | None
    desired_ceiling_millicores: int | None
    last_order_id: int
    last_result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """Everything one decision rests on, in the order in which it is computed."""

    container: ContainerView
    node: str
    signals: SignalsView
    headroom: HeadroomView
    reservation: GoodDecisionView
    ceiling_headroom: GoodDecisionView
    order: OrderDecisionView
    summary: str
