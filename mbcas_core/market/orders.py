"""From targets to orders: raises are cleared once more, inside what is really free.

A target says what a row should have. Some moves are held back and cuts take time, so what others
still hold is not free yet. A row is **billed** the most of what was sent, admitted and applied; a
node's slack is its limit less all that is billed; a raise bids

    max(0, target - billed)   with the floor   max(0, min(floor, target) - billed)

and the two-level clearing shares the slack, so that what is owed comes first and no node is billed
above its limit. What was not granted waits for supply.

A ceiling is never below its reservation. Where a raised reservation needs a raised ceiling, that
part of the ceiling's raise counts as owed, and in the end a reservation is granted no more than its
ceiling allows. A hard quota, and a row without a limit, is billed in ceilings with its reservation
and needs room in both goods.

Example: slack 100, one row billed 200 with floor 260 and target 400, another billed 100 with floor
100 and target 150, equal weights. Bids 200 and 50 with floors 60 and 0: 40 are surplus, 20 each.
The first is granted 80, the second 20.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import sum_by
from mbcas_core.market.pods import NO_CAP_MILLICORES, PodBids, clear_pods
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
    """(n,) one that bounds it: see `MarketRows`."""
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
    node_of_row = rows.node[rows.pod]
    reservation, reservation_slack = _clear_raises(
        rows,
        node_of_row,
        _Raises(
            target=rows.reservation_target_millicores,
            floor=rows.reservation_floor_millicores,
            billed=rows.reservation_billed_millicores,
        ),
        reservation_limit_millicores,
        quantum_millicores,
    )
    reserved = rows.reservation_billed_millicores + reservation
    follows: BoolArray = rows.hard_quota | ~rows.has_limit
    raised_target = np.where(follows, 0, rows.ceiling_target_millicores)
    ceiling_billed = find_billed_ceilings(rows)
    owed = np.minimum(rows.ceiling_floor_millicores, raised_target)
    # Only a reservation that is being raised lifts its ceiling: the other rows stay as they are.
    lifted = np.where(reservation > 0, reserved, 0)
    ceiling, ceiling_slack = _clear_raises(
        rows,
        node_of_row,
        _Raises(
            target=np.maximum(raised_target, lifted),
            floor=np.maximum(owed, lifted),
            billed=ceiling_billed,
        ),
        ceiling_limit_millicores,
        quantum_millicores,
    )
    allowed = np.maximum(ceiling_billed + ceiling - rows.reservation_billed_millicores, 0)
    return Grants(
        reservation_millicores=np.minimum(reservation, allowed),
        ceiling_millicores=ceiling,
        reservation_slack_millicores=reservation_slack,
        ceiling_slack_millicores=ceiling_slack,
    )


def find_billed_ceilings(rows: OrderRows) -> IntArray:
    """Returns what each row counts with among the ceilings: without a limit, its reservation."""
    billed: IntArray = np.where(
        rows.has_limit, rows.ceiling_billed_millicores, rows.reservation_billed_millicores
    )
    return billed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raises:
    """One good of the n rows."""

    target: IntArray
    floor: IntArray
    billed: IntArray


def _clear_raises(
    rows: OrderRows, node_of_row: IntArray, raises: _Raises, limit: IntArray, quantum: int
) -> tuple[IntArray, IntArray]:
    """Returns what each row is granted and what was free on each node."""
    billed_of_node = sum_by(node_of_row, raises.billed, limit.size)
    slack: IntArray = np.maximum(limit - billed_of_node, 0)
    need = np.maximum(raises.target - raises.billed, 0)
    if not need.any():
        return need, slack
    owed = np.minimum(raises.floor, raises.target) - raises.billed
    bids = PodBids(
        pod=rows.pod,
        need_millicores=need,
        floor_millicores=np.maximum(owed, 0),
        weight=rows.weight,
        node=rows.node,
        # Targets respect the pods' caps already.
        pod_cap_millicores=np.full(rows.node.size, NO_CAP_MILLICORES),
        pod_weight=rows.pod_weight,
    )
    cleared = clear_pods(bids, slack, quantum_millicores=quantum)
    return cleared.allocation_millicores, slack
