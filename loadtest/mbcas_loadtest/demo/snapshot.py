"""What the demo shows while it runs: one record a second, complete in itself."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from mbcas_loadtest.demo.record import DemoRecord, PhaseName
from mbcas_loadtest.node.kinds import Environment, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """One container over the last second."""

    name: str
    role: Role
    priority_class: str
    usage_millicores: float
    throttled_ratio: float
    """Throttled periods over periods of wall time, 0 to 1."""
    reservation_millicores: float
    ceiling_millicores: float | None
    """From the kernel's quota; None where there is none."""
    need_millicores: float | None
    """What its agent asks for; None in the static phase and before the first decision."""
    reason: str
    """Why it has what it has, for people: "declared" in the static phase."""
    delay_p99_ms: float | None
    """Over the counted requests so far (all of them during the warm-up); None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotNode:
    """The node over the last second."""

    node_millicores: int
    usage_millicores: float
    reserved_millicores: float
    free_millicores: float
    """Of the node, not reserved by anybody."""
    shadow_price: float | None
    """Of reservations; None in the static phase and before the first round."""
    shortage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a person sees in one second."""

    environment: Environment
    phase: PhaseName
    phase_number: int
    """From 1."""
    phase_count: int
    elapsed_seconds: float
    """Since the phase began."""
    duration_seconds: float
    """Of the phase, the warm-up included."""
    warmup_seconds: float
    now: str
    """What happens now, in a sentence: "warm-up: shown, not counted"."""
    notes: tuple[str, ...]
    """What a person must know to read the figures: environment, round, grace, burst, policy."""
    rows: tuple[SnapshotRow, ...]
    node: SnapshotNode


class View(Protocol):
    """Something that shows snapshots; entered before the first and left after the last one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def announce(self, text: str) -> None:
        """Shows a line about setting up or tearing down, outside the phases."""

    def update(self, snapshot: Snapshot) -> None:
        """Shows one second; must return within milliseconds and never raise."""

    def finish(self, record: DemoRecord) -> None:
        """Shows the result at the end."""
