"""What the market of both goods is told about rows, pods and nodes, and what it answers."""

from dataclasses import dataclass

from mbcas_core.market.price import Prices
from mbcas_core.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketNodes:
    """The m nodes whose markets are cleared."""

    allocatable_millicores: IntArray
    unmanaged_millicores: IntArray
    """Requests of the pods that MBCAS does not manage."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acceptance:
    """What p pods declared acceptable, and what they have to get it; 0 each by default."""

    acceptable_millicores: IntArray
    """`min-acceptable-cpu`; 0 where it is not declared."""
    floor_growth_millicores: IntArray
    """What refusals add to their floors: see `participation`."""
    credit_balance: IntArray
    """Their credits, in millicores times rounds: see `credits`."""
    credit_max: IntArray
    """The most credits that each may hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketPods:
    """The p pods that bid, sorted by node."""

    node: IntArray
    """Index of the pod's node, ascending."""
    weight: FloatArray
    """Above 0; see `pod_weights`."""
    declared_min_millicores: IntArray
    """`min-cpu`, which lowers the floor; MAX_MILLICORES where it is not declared."""
    declared_max_millicores: IntArray
    """`max-cpu`; MAX_MILLICORES where it is not declared."""
    acceptance: Acceptance | None = None
    """None: nothing is declared acceptable, floors are as declared, and there are no credits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketRows:
    """The n containers, sorted by pod."""

    pod: IntArray
    """Index of the container's pod, ascending."""
    takes_part: BoolArray
    """False for a row that is fixed whatever its policy: mode off or recommend, skipped."""
    policy: IntArray
    """A `Policy` each."""
    strict: BoolArray
    """`isolation: strict`."""
    has_limit: BoolArray
    """True where the container was admitted with a limit that bounds it: below all the CPU of its
    node, or set by the market whatever it was (strict, hard quota)."""
    admitted_request_millicores: IntArray
    """0 where it was admitted without."""
    admitted_limit_millicores: IntArray
    """Anything where it was admitted without."""
    reservation_need_millicores: IntArray
    ceiling_need_millicores: IntArray
    fixed_reservation_millicores: IntArray
    """What the row holds where its reservation takes no part: billed, or as admitted."""
    fixed_ceiling_millicores: IntArray
    """The same for the ceiling."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoodTargets:
    """One good's clearing on every node, with everything that is needed to recompute it.

    Rows that take no part have need, floor and target 0 here.
    """

    takes_part: BoolArray
    """(n,) as are the next four."""
    need_millicores: IntArray
    floor_millicores: IntArray
    weight: FloatArray
    target_millicores: IntArray

    pod_need_millicores: IntArray
    """(p,) as are the next six."""
    pod_floor_millicores: IntArray
    pod_cap_millicores: IntArray
    pod_weight: FloatArray
    pod_allocation_millicores: IntArray
    """What credits moved included."""
    pod_credit_millicores: IntArray
    """What credits added to it; below 0: took from it."""
    pod_level: FloatArray
    """Level among the pod's containers; inf where not rationed, or only one container."""

    supply_millicores: IntArray
    """(m,) as are the rest."""
    demand_millicores: IntArray
    """Sum of the pods' needs."""
    floor_sum_millicores: IntArray
    """Sum of the pods' floors, each counted up to its need."""
    target_sum_millicores: IntArray
    level: FloatArray
    """Level among the node's pods; inf where not rationed."""
    floors_reduced: BoolArray
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What every row should have, and how that came about."""

    reservation_millicores: IntArray
    """(n,); the fixed value where the row takes no part."""
    ceiling_millicores: IntArray
    """(n,), at least the reservation; meaningless where the row has no limit."""
    reclaim_bound: BoolArray
    """(n,), True where the reclaim bound raised the need."""

    reservation: GoodTargets
    ceiling_headroom: GoodTargets

    reclaim_factor: FloatArray
    """(m,), the share of the wished-for reclaim that was let through, 0 to 1."""
    available_millicores: IntArray
    """(m,), allocatable less unmanaged less fixed reservations; may be negative."""
    reserve_millicores: IntArray
    """(m,), what is never handed out as surplus."""
    overcommit: FloatArray
    """(m,), what ceilings may add up to, in supplies of reservations."""
    ceilings_exhausted: BoolArray
    """(m,), True where admitted limits use all the ceilings that there are."""
    reservation_limit_millicores: IntArray
    """(m,), what the sum of billed reservations of all rows may be after a raise."""
    ceiling_limit_millicores: IntArray
    """(m,), the same for ceilings; a row without a limit counts with its reservation."""
