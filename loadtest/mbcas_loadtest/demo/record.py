"""What a demo run measured. The report and its JSON are made from this and nothing else."""

from dataclasses import dataclass, field
from typing import Literal

from mbcas_loadtest.node.kinds import Environment, Role
from mbcas_loadtest.pages.series import ContainerSeries

PhaseName = Literal["static", "mbcas"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerResult:
    """One container over the counted part of one phase (the warm-up left out)."""

    name: str
    role: Role
    priority_class: str
    admitted_millicores: int
    usage_core_seconds: float
    reserved_core_seconds: float
    ceiling_core_seconds: float
    throttled_fraction: float
    """Throttled periods x 0.1 s over wall time."""
    delay_p50_ms: float | None
    """Over the requests that arrived in the counted part; None where there are no requests."""
    delay_p99_ms: float | None
    requests_arrived: int
    requests_finished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One phase over time."""

    seconds: list[float] = field(default_factory=list)
    """Since the phase began."""
    containers: list[ContainerSeries] = field(default_factory=list)
    shadow_price: list[float] = field(default_factory=list)
    shortage: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase."""

    name: PhaseName
    duration_seconds: float
    """Of the counted part."""
    resizes: int
    invariant_violations: int
    containers: list[ContainerResult]
    series: Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """From the end of the first throttled 100 ms of a surge to the new quota in the kernel."""

    p50: float | None
    p95: float | None
    count: int
    unanswered: int = 0
    """Surges that ended before the quota was raised; they are in no percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonCost:
    """What a daemon cost while the `mbcas` phase was counted."""

    cpu_cores: float
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRecord:
    """A whole run."""

    environment: Environment
    seed: int
    policy: str
    burst: bool
    node_millicores: int
    warmup_seconds: float
    round_period_seconds: float
    startup_grace_seconds: float
    static_rule: str
    """The rule by which an owner would have declared the values, in a sentence."""
    phases: list[Phase]
    first_allocation_seconds: float | None
    reaction_seconds: Reaction
    server: DaemonCost
    shim: DaemonCost
    static_burst: bool | None = None
    """Burst credit in `static`; `burst` is that of `mbcas`. None where it was not noted."""
