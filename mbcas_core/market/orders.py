"""From targets to orders: raises are cleared once more, inside what is really free."""

from dataclasses import dataclass

from mbcas_core.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrderRows:
    """All n containers of the nodes concerned (billing needs them all), sorted by pod.

    A row that shall not be raised in a good has a target at or below what it is billed.
    """

    pod: IntArray
    """(n,) index of the container's pod, ascending."""
    weight: FloatArray
    """(n,) in its pod: see `container_weights`."""
    has_limit: BoolArray
    hard_quota: BoolArray
    """Takes part and has one number: its ceiling follows its reservation."""
    reservation_floor_millicores: IntArray
    """The declared floor; `GoodTargets.floor_millicores` of the reservation."""
    ceiling_floor_millicores: IntArray
    """The admitted limit; 0 where strict, hard quota, or without a limit."""
    reservation_target_millicores: IntArray
    ceiling_target_millicores: IntArray
    reservation_billed_millicores: IntArray
    ceiling_billed_millicores: IntArray

    node: IntArray
    """(p,) index of the pod's node, ascending."""
    pod_weight: FloatArray
    """(p,)"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grants:
    """How much each row may be raised now."""

    reservation_millicores: IntArray
    """(n,), 0 where nothing was granted."""
    ceiling_millicores: IntArray
    """(n,); of a hard quota, or where there is no limit: what the reservation's raise adds."""
    reservation_slack_millicores: IntArray
    """(m,), what was free."""
    ceiling_slack_millicores: IntArray
    """(m,)"""


def clear_orders(
    rows: OrderRows,
    *,
    reservation_limit_millicores: IntArray,
    ceiling_limit_millicores: IntArray,
    quantum_millicores: int,
) -> Grants:
    """Shares what is free among the rows whose target is above what they are billed.

    The limits, shape (m,), are those of `Targets`; the fast loop passes the last round's.
    """
    raise NotImplementedError
