"""Everything that can be tuned, in one place: names, units, defaults and bounds.

The server fills it from its settings; tests and simulations build it directly. `validate` names the
first field that is out of range.
"""

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum

from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import Mode, Policy, PriorityClass

PriorityTable = dict[PriorityClass, float]
WORKLOAD_CLASSES = ("unknown", "idle", "bursty", "steady")
"""Kinds of load that containers are found to have (`workload.classes`)."""


def _tau_default() -> PriorityTable:
    return {PriorityClass.CRITICAL: 0.01, PriorityClass.NORMAL: 0.05, PriorityClass.LOW: 0.10}


def _priority_factor_default() -> PriorityTable:
    return {PriorityClass.CRITICAL: 1.5, PriorityClass.NORMAL: 1.0, PriorityClass.LOW: 0.7}


def _elasticity_default() -> PriorityTable:
    return {PriorityClass.CRITICAL: 0.2, PriorityClass.NORMAL: 0.5, PriorityClass.LOW: 0.9}


class PriceResponse(StrEnum):
    """How needs answer to the price; by the names that the API uses."""

    OFF = "off"
    FROZEN = "frozen"
    TWO_PASS = "two-pass"  # noqa: S105 - it counts passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The tunable numbers of the core. Defaults are those of the public surface."""

    mode: Mode = Mode.RECOMMEND
    """What is done with containers that do not say."""
    canary_share: float = 1.0
    """Share of the pods that may be in mode auto, 0 to 1, chosen by their uid; the others are in
    mode recommend instead."""
    policy: Policy = Policy.LIMITS_ONLY
    """Which numbers the market sets for containers that do not say."""
    burst_credit: bool = False
    """Let unused quota carry over, up to one quota (only where the shim may write it)."""

    round_period_seconds: float = 15.0
    """Time between two clearings of a node, 1 to 600."""
    tick_period_seconds: float = 1.0
    """Time between two passes of the fast loop, 0.1 to 10."""

    reserve_millicores: int = 100
    """Least reserve of a node: CPU that is never handed out as surplus."""
    reserve_ratio: float = 0.02
    """The reserve is at least this share of the allocatable CPU, 0 to 0.9."""
    ceiling_overcommit: float = 3.0
    """Sum of ceilings over supply of reservations, 1 to 100 (strict containers: 1)."""
    reclaim_max_fraction: float = 0.3
    """Share of the allocatable CPU that may be reclaimed below admitted requests, 0 to 1."""
    quantum_millicores: int = 10
    """Surplus is handed out in units of this on nodes, 1 to 1000."""
    pod_cap_ratio: float = 0.75
    """No pod gets more than this share of allocatable, or its admitted limit if larger, 0 to 1."""
    default_request_millicores: int = 10
    """Least weight of a pod in millicores."""

    tau: PriorityTable = field(default_factory=_tau_default)
    """Throttling target of each priority class: share of wall time, 0.001 to 0.5."""
    priority_factor: PriorityTable = field(default_factory=_priority_factor_default)
    """Factor of the weight of each priority class, 0.01 to 100."""
    class_weight: dict[str, float] = field(default_factory=dict)
    """Factor of the weight of each workload class, by its name, 0.01 to 100; 1 where not named."""

    price_response: PriceResponse = PriceResponse.OFF
    """How needs answer to the price (see `market.response`)."""
    elasticity: PriorityTable = field(default_factory=_elasticity_default)
    """How strongly each priority class answers, 0 to 1."""
    tau_max: float = 0.5
    """The price raises no throttling target above this, 0.001 to 0.5."""
    response_smoothing: float = 0.5
    """Weight of the newest round in the shortage that needs answer to, 0.01 to 1."""
    response_epoch_rounds: int = 4
    """For so many rounds the shortage that needs answer to stays the same, 1 to 1000."""

    refusal_floor_step: float = 0.0
    """What each refusal beyond three in a row adds to a pod's floor, as a share of what it declared
    acceptable, 0 to 1; 0: nothing. Above 0 it pays to declare too much (`market.participation`)."""
    credit_endowment_millicore_rounds: int = 0
    """Credits that a pod starts with for each core of its admitted request, 0 to 1,000,000: one
    lifts it by a millicore for a round (`market.credits`). 0: there are no credits."""

    reservation_quantile: float = 0.9
    """Quantile of past 15 s demand that the reservation need rests on, 0 to 1."""
    need_window_seconds: float = 30.0
    """The largest need of the last one to two windows counts: CPU is not given back sooner."""

    band_ratio: float = 0.10
    """Moves within this share of what is applied are not worth a change, 0 to 1."""
    band_millicores: int = 10
    """Nor are moves below this."""
    cut_max_ratio: float = 0.5
    """A round cuts at most this share, 0.01 to 1."""
    dwell_down_seconds: float = 30.0
    """A row rests this long after a change before it is cut, unless others are owed the CPU."""
    startup_grace_seconds: float = 30.0
    """No cuts of a container younger than this, or first seen more recently."""
    rollback_window_seconds: float = 10.0
    """A cut is taken back when throttling exceeds 3 tau within this time."""
    min_observed_seconds: int = 2
    """Seconds that must have been measured before the first decision about a container, 1 to 60."""

    emergency_decay_seconds: float = 60.0
    """Time in which a lifted ceiling comes back to its target after the burst."""
    emergency_exit_seconds: float = 4.0
    """A burst is over when use stays below 0.6 of its peak for this long."""
    order_timeout_seconds: float = 10.0
    """An order without a result after this is given up."""
    backoff_seconds: float = 10.0
    """A row whose order was refused rests this long, doubled each time up to ten minutes."""
    foreign_rest_seconds: float = 600.0
    """A row that somebody else changed rests this long."""
    stale_after_seconds: float = 15.0
    """A row without a sample for longer takes no decisions."""
    pod_spacing_seconds: float = 10.0
    """Time between two orders for one pod."""
    emergency_spacing_seconds: float = 3.0
    """The same for emergencies."""
    resize_budget_per_second: float | None = None
    """Orders a second for the whole cluster; None: max(10, 0.02 x nodes), at most 100."""
    node_orders_per_second: float = 2.0
    """Orders a second for one node whose shim patches pods (no bound where it writes cgroups)."""
    fast_node_orders_per_second: float = 10.0
    """The same where the kubelet carries them out at once (Kubernetes 1.36 and later)."""

    audit_share: float = 0.05
    """Share of each node's rounds whose every property is audited, 0 to 1."""

    max_nodes: int = 10_000
    """Nodes one server holds."""
    max_containers_per_node: int = 1_000
    """Containers of one node."""
    max_containers: int = 300_000
    """Containers of all nodes."""

    def __post_init__(self) -> None:
        errors = [
            FieldError(name, f"is {getattr(self, name)}, must be from {low} to {high}")
            for name, (low, high) in _RANGES.items()
            if getattr(self, name) is not None and not _within(getattr(self, name), low, high)
        ]
        for name, (low, high) in _TABLE_RANGES.items():
            table = getattr(self, name)
            errors += [
                FieldError(
                    f"{name}.{key.name.lower()}",
                    f"is {table.get(key, 'missing')}, must be from {low} to {high}",
                )
                for key in PriorityClass
                if not _within(table.get(key, math.nan), low, high)
            ]
        low, high = _CLASS_WEIGHT_RANGE
        errors += [
            FieldError(f"class_weight.{name}", f"is {weight}, must be from {low} to {high}")
            for name, weight in self.class_weight.items()
            if not _within(weight, low, high)
        ]
        errors += [
            FieldError(
                f"class_weight.{name}",
                f"is no class of loads, must be one of {', '.join(WORKLOAD_CLASSES)}",
            )
            for name in self.class_weight
            if name not in WORKLOAD_CLASSES
        ]
        if errors:
            raise InvalidInputError(errors)


def _within(value: float, low: float, high: float) -> bool:
    return low <= value <= high


_CLASS_WEIGHT_RANGE = (0.01, 100.0)
_TABLE_RANGES: dict[str, tuple[float, float]] = {
    "tau": (0.001, 0.5),
    "priority_factor": (0.01, 100.0),
    "elasticity": (0, 1),
}
_RANGES: dict[str, tuple[float, float]] = {
    "canary_share": (0, 1),
    "round_period_seconds": (1, 600),
    "tick_period_seconds": (0.1, 10),
    "reserve_millicores": (0, 1_000_000),
    "reserve_ratio": (0, 0.9),
    "ceiling_overcommit": (1, 100),
    "reclaim_max_fraction": (0, 1),
    "quantum_millicores": (1, 1000),
    "pod_cap_ratio": (0.01, 1),
    "default_request_millicores": (1, 1_000_000),
    "refusal_floor_step": (0, 1),
    "credit_endowment_millicore_rounds": (0, 1_000_000),
    "tau_max": (0.001, 0.5),
    "response_smoothing": (0.01, 1),
    "response_epoch_rounds": (1, 1000),
    "reservation_quantile": (0, 1),
    "need_window_seconds": (1, 3600),
    "band_ratio": (0, 1),
    "band_millicores": (0, 10_000),
    "cut_max_ratio": (0.01, 1),
    "dwell_down_seconds": (0, 3600),
    "startup_grace_seconds": (0, 3600),
    "rollback_window_seconds": (0, 600),
    "min_observed_seconds": (1, 60),
    "emergency_decay_seconds": (1, 600),
    "emergency_exit_seconds": (1, 60),
    "order_timeout_seconds": (1, 600),
    "backoff_seconds": (0.1, 600),
    "foreign_rest_seconds": (0, 86_400),
    "stale_after_seconds": (1, 600),
    "pod_spacing_seconds": (0, 3600),
    "emergency_spacing_seconds": (0, 3600),
    "resize_budget_per_second": (0.01, 10_000),
    "node_orders_per_second": (0.01, 10_000),
    "fast_node_orders_per_second": (0.01, 10_000),
    "audit_share": (0, 1),
    "max_nodes": (1, 100_000),
    "max_containers_per_node": (1, 10_000),
    "max_containers": (1, 10_000_000),
}
assert set(_RANGES) <= {item.name for item in fields(Parameters)}, "every range names a field"
