"""The settings that tune the core, under the names that `mbcas_core.parameters` gives them.

Defaults and ranges live there and only there: a value out of range is refused by the core, with
the field's name.
"""

from typing import Any, Literal

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mbcas_core.events import Mode, Policy, PriorityClass
from mbcas_core.parameters import WORKLOAD_CLASSES, Parameters, PriceResponse
from mbcas_core.presets import PRESETS, Preset

ModeName = Literal["off", "recommend", "auto"]
PolicyName = Literal["limits-only", "requests-and-limits", "requests-only", "hard-quota"]
PriceResponseName = Literal["off", "frozen", "two-pass"]
PresetName = Literal["default", "plan"]

_CORE = Parameters()
_PRIORITY_TABLES = ("tau", "priority_factor", "elasticity")
_OWN_SHAPE = ("mode", "policy", "price_response", "class_weight", *_PRIORITY_TABLES)


def _mode_name(mode: Mode) -> ModeName:
    names: dict[Mode, ModeName] = {
        Mode.OFF: "off",
        Mode.RECOMMEND: "recommend",
        Mode.AUTO: "auto",
    }
    return names[mode]


def _policy_name(policy: Policy) -> PolicyName:
    names: dict[Policy, PolicyName] = {
        Policy.LIMITS_ONLY: "limits-only",
        Policy.REQUESTS_AND_LIMITS: "requests-and-limits",
        Policy.REQUESTS_ONLY: "requests-only",
        Policy.HARD_QUOTA: "hard-quota",
    }
    return names[policy]


def _as_settings(parameters: Parameters) -> dict[str, Any]:
    """Returns every parameter under the name of its setting."""
    same = {name: getattr(parameters, name) for name in Parameters.__dataclass_fields__}
    tables = {
        f"{name}_{key.name.lower()}": same[name][key]
        for name in _PRIORITY_TABLES
        for key in PriorityClass
    }
    weights = {
        f"class_weight_{name}": parameters.class_weight.get(name, 1.0) for name in WORKLOAD_CLASSES
    }
    own = {
        "mode": _mode_name(parameters.mode),
        "policy": _policy_name(parameters.policy),
        "price_response": parameters.price_response.value,
    }
    return {name: same[name] for name in same if name not in _OWN_SHAPE} | tables | weights | own


def _differences(preset: Preset) -> dict[str, Any]:
    """Returns the settings in which a preset differs from the default."""
    default = _as_settings(_CORE)
    return {
        name: value
        for name, value in _as_settings(PRESETS[preset]).items()
        if value != default[name]
    }


class CoreSettings(BaseSettings):
    """What the core is tuned with."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        env_prefix="MBCAS_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    preset: PresetName = "default"
    """A set of settings to start from, each of which a setting of its own still overrides: "plan"
    is price_response=two-pass, class_weight_idle=0.3, refusal_floor_step=0.1. These are the rules
    of the founding plan, under which some lies pay; its tabular learner is not among them yet."""
    mode: ModeName = _mode_name(_CORE.mode)
    """What is done with containers that do not say: "off" leaves them alone, "recommend" computes
    what would be done, "auto" resizes them."""
    policy: PolicyName = "limits-only"
    """Which numbers the market sets for containers that do not say: the ceiling only
    ("limits-only"), both, the reservation only, or one number for both ("hard-quota")."""
    canary_share: float = _CORE.canary_share
    """Share of the pods that may be in mode auto, 0 to 1. Which ones depends on their uid alone;
    the others are in mode recommend instead."""
    burst_credit: bool = _CORE.burst_credit
    """Let unused quota carry over, up to one quota. Only where shims may write it: everywhere in
    local mode, on Kubernetes where it was allowed."""

    round_period_seconds: float = _CORE.round_period_seconds
    """Time between two clearings of a node, 1 to 600. Shorter reacts sooner and writes more."""
    tick_period_seconds: float = _CORE.tick_period_seconds
    """Longest time between two passes of the fast loop, 0.1 to 10."""

    reserve_millicores: int = _CORE.reserve_millicores
    """Least reserve of a node: CPU that is never handed out as surplus."""
    reserve_ratio: float = _CORE.reserve_ratio
    """The reserve is at least this share of the allocatable CPU, 0 to 0.9."""
    ceiling_overcommit: float = _CORE.ceiling_overcommit
    """Sum of ceilings over supply of reservations, 1 to 100. Strict containers: 1."""
    reclaim_max_fraction: float = _CORE.reclaim_max_fraction
    """Share of the allocatable CPU that may be reclaimed below admitted requests, 0 to 1."""
    quantum_millicores: int = _CORE.quantum_millicores
    """Surplus is handed out in units of this, 1 to 1000."""
    pod_cap_ratio: float = _CORE.pod_cap_ratio
    """No pod gets more than this share of allocatable, or its admitted limit if that is larger,
    0.01 to 1."""
    default_request_millicores: int = _CORE.default_request_millicores
    """Least weight of a pod, in millicores of request."""

    tau_critical: float = _CORE.tau[PriorityClass.CRITICAL]
    """Throttling target of priority class critical: share of wall time, 0.001 to 0.5."""
    tau_normal: float = _CORE.tau[PriorityClass.NORMAL]
    """The same for normal."""
    tau_low: float = _CORE.tau[PriorityClass.LOW]
    """The same for low."""
    priority_factor_critical: float = _CORE.priority_factor[PriorityClass.CRITICAL]
    """Factor of the weight of priority class critical, 0.01 to 100."""
    priority_factor_normal: float = _CORE.priority_factor[PriorityClass.NORMAL]
    """The same for normal."""
    priority_factor_low: float = _CORE.priority_factor[PriorityClass.LOW]
    """The same for low."""

    class_weight_idle: float = 1.0
    """Factor of the weight of containers whose load is of class idle, 0.01 to 100. Other than 1, it
    pays to look like another class."""
    class_weight_bursty: float = 1.0
    """The same for class bursty."""
    class_weight_steady: float = 1.0
    """The same for class steady."""
    class_weight_unknown: float = 1.0
    """The same for class unknown."""

    price_response: PriceResponseName = "off"
    """How needs answer to the price: not ("off"), by more throttling where CPU was short for others
    ("frozen"), or scaled after a first clearing ("two-pass", under which lies pay)."""
    elasticity_critical: float = _CORE.elasticity[PriorityClass.CRITICAL]
    """How strongly priority class critical answers, 0 to 1."""
    elasticity_normal: float = _CORE.elasticity[PriorityClass.NORMAL]
    """The same for normal."""
    elasticity_low: float = _CORE.elasticity[PriorityClass.LOW]
    """The same for low."""
    tau_max: float = _CORE.tau_max
    """The price raises no throttling target above this, 0.001 to 0.5."""
    response_smoothing: float = _CORE.response_smoothing
    """Weight of the newest round in the shortage that needs answer to, 0.01 to 1."""
    response_epoch_rounds: int = _CORE.response_epoch_rounds
    """For so many rounds the shortage that needs answer to stays the same, 1 to 1000."""
    refusal_floor_step: float = _CORE.refusal_floor_step
    """What each refusal beyond three in a row adds to a pod's floor, as a share of what it declared
    acceptable, 0 to 1. Above 0 it pays to declare too much."""
    credit_endowment_millicore_rounds: int = _CORE.credit_endowment_millicore_rounds
    """Credits that a pod starts with for each core of its admitted request, 0 to 1,000,000. With a
    credit, a pod that would refuse gets a millicore for a round from pods that have more than their
    static share, which get the credit. 0: there are no credits."""

    reservation_quantile: float = _CORE.reservation_quantile
    """Quantile of past 15 s demand that the reservation need rests on, 0 to 1."""
    need_window_seconds: float = _CORE.need_window_seconds
    """The largest need of the last one to two windows counts: CPU is not given back sooner."""

    band_ratio: float = _CORE.band_ratio
    """Moves within this share of what is applied are not worth a change, 0 to 1."""
    band_millicores: int = _CORE.band_millicores
    """Nor are moves below this."""
    cut_max_ratio: float = _CORE.cut_max_ratio
    """A round cuts at most this share, 0.01 to 1."""
    dwell_down_seconds: float = _CORE.dwell_down_seconds
    """A container rests this long after a change before it is cut."""
    startup_grace_seconds: float = _CORE.startup_grace_seconds
    """No cuts of a container younger than this, or first seen more recently."""
    rollback_window_seconds: float = _CORE.rollback_window_seconds
    """A cut is taken back when throttling exceeds 3 tau within this time."""
    min_observed_seconds: int = _CORE.min_observed_seconds
    """Seconds that must have been measured before the first decision about a container, 1 to 60."""

    emergency_decay_seconds: float = _CORE.emergency_decay_seconds
    """Time in which a lifted ceiling comes back to its target after a burst."""
    emergency_exit_seconds: float = _CORE.emergency_exit_seconds
    """A burst is over when use stays below 0.6 of its peak for this long."""
    order_timeout_seconds: float = _CORE.order_timeout_seconds
    """An order without a result after this is given up."""
    backoff_seconds: float = _CORE.backoff_seconds
    """A container whose order was refused rests this long, doubled each time up to ten minutes."""
    foreign_rest_seconds: float = _CORE.foreign_rest_seconds
    """A container that somebody else changed rests this long."""
    stale_after_seconds: float = _CORE.stale_after_seconds
    """A container without a sample for longer takes no decisions."""
    pod_spacing_seconds: float = _CORE.pod_spacing_seconds
    """Time between two orders for one pod."""
    emergency_spacing_seconds: float = _CORE.emergency_spacing_seconds
    """The same for emergencies."""
    resize_budget_per_second: float | None = _CORE.resize_budget_per_second
    """Orders a second for the whole cluster; unset: max(10, 0.02 x nodes), at most 100."""
    node_orders_per_second: float = _CORE.node_orders_per_second
    """Orders a second for one node whose shim patches pods; no bound where it writes cgroups."""
    fast_node_orders_per_second: float = _CORE.fast_node_orders_per_second
    """The same from Kubernetes 1.36 on, whose kubelets carry resizes out at once."""

    audit_share: float = _CORE.audit_share
    """Share of each node's rounds whose every property is audited, 0 to 1. Findings are counted in
    `mbcas_invariant_violations_total`; 1 costs about as much again as clearing does."""

    max_nodes: int = _CORE.max_nodes
    """Nodes this server holds; the next one is refused."""
    max_containers_per_node: int = _CORE.max_containers_per_node
    """Containers of one node."""
    max_containers: int = _CORE.max_containers
    """Containers of all nodes."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:  # noqa: ANN401 - what was given is not checked yet
        if not isinstance(given, dict) or given.get("preset") not in list(Preset):
            return given  # Validation will say so.
        return _differences(Preset(given["preset"])) | given

    def parameters(self) -> Parameters:
        """Returns the core's view of these settings.

        Raises:
            InvalidInputError: A value is out of its range.
        """
        same = {
            name: getattr(self, name)
            for name in type(self).model_fields.keys() & Parameters.__dataclass_fields__.keys()
            if name not in _OWN_SHAPE
        }
        tables: dict[str, Any] = {
            name: {key: getattr(self, f"{name}_{key.name.lower()}") for key in PriorityClass}
            for name in _PRIORITY_TABLES
        }
        return Parameters(
            mode=Mode[self.mode.upper()],
            policy=Policy[self.policy.upper().replace("-", "_")],
            price_response=PriceResponse(self.price_response),
            class_weight={
                name: weight
                for name in WORKLOAD_CLASSES
                if (weight := getattr(self, f"class_weight_{name}")) != 1.0
            },
            **tables,
            **same,
        )
