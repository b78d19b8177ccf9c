"""The one primary reason of every row: the first in a fixed order that holds."""

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Reason
from mbcas_core.events import Mode
from mbcas_core.fleet import Selection
from mbcas_core.loops import kubelet, release
from mbcas_core.loops.decide import Standing, Wishes, find_limits
from mbcas_core.market.targets import Targets
from mbcas_core.state import State
from mbcas_core.units import BoolArray, IntArray


def of(
    state: State,
    selection: Selection,
    standing: Standing,
    targets: Targets,
    wishes: Wishes,
    *,
    raised: BoolArray,
    cut: BoolArray,
    now_seconds: float,
) -> IntArray:
    """A `Reason` for each row of the round, shape (n,), before spacing and budget.

    Args:
        state: Read only.
        selection: The rows of the round.
        standing: Where they stood.
        targets: What the market says.
        wishes: Which of them should move.
        raised: Those whose raise is sent.
        cut: Those whose cut is sent.
        now_seconds: The server's clock.
    """
    short = _short(selection, targets)
    cases: list[tuple[BoolArray, Reason]] = [
        *_outside(state, standing, targets, wishes, now_seconds),
        *_moved(state, standing, targets, wishes, short=short, raised=raised, cut=cut),
        *_barred(state, standing, wishes, now_seconds),
        *_kept(state, selection, standing, targets, wishes, short=short),
    ]
    reasons: IntArray = np.full(standing.rows.size, int(Reason.WITHIN_BAND))
    for condition, reason in reversed(cases):  # The first that holds is written last.
        reasons[condition] = reason
    return reasons


def _outside(
    state: State, standing: Standing, targets: Targets, wishes: Wishes, now: float
) -> list[tuple[BoolArray, Reason]]:
    """Rows that nothing can be done about now."""
    fleet, table, rows = state.fleet, state.ledger, standing.rows
    few = state.windows.seconds[rows] < state.parameters.min_observed_seconds
    fixed = ~(targets.reservation.takes_part | targets.ceiling_headroom.takes_part)
    fixed &= ~(wishes.up_limit | wishes.down_limit)
    frozen = np.full(rows.size, state.frozen)
    released = release.is_held(state, rows, now_seconds=now)
    released |= (
        fleet.rows.returns_request[rows] | fleet.rows.returns_limit[rows]
    ) & release.is_owed(state, rows, now_seconds=now)
    withdrawn = now < fleet.pods.withdrawn_until[fleet.rows.pod[rows]]
    return [
        (released & fleet.rows.admitted_known[rows], Reason.RELEASED),
        (fleet.rows.skipped[rows], Reason.SKIPPED),
        (fleet.rows.mode[rows] != Mode.AUTO, Reason.MODE),
        (few, Reason.OBSERVING),
        (~standing.fresh, Reason.STALE),
        (fixed, Reason.FIXED_BY_POLICY),
        (frozen, Reason.FROZEN),
        (kubelet.is_silent(state, rows), Reason.KUBELET_SILENT),
        (now < table.foreign_until[rows], Reason.CHANGED_ELSEWHERE),
        (ledger.in_flight(table, rows), Reason.IN_FLIGHT),
        (kubelet.is_pending(state, rows) | withdrawn, Reason.WITHDRAWN),
        (now < table.rest_until[rows], Reason.BACKING_OFF),
        (~standing.settled, Reason.IN_FLIGHT),
    ]


def _short(selection: Selection, targets: Targets) -> BoolArray:
    """True where scarcity keeps a target below its need, and not its pod's cap alone."""
    short: BoolArray = np.zeros(targets.reclaim_bound.size, np.bool_)
    for good in (targets.reservation, targets.ceiling_headroom):
        rationed = good.pod_allocation_millicores < good.pod_need_millicores
        below = good.takes_part & (good.target_millicores < good.need_millicores)
        short |= below & rationed[selection.pod_of_row]
    return short


def _moved(
    state: State,
    standing: Standing,
    targets: Targets,
    wishes: Wishes,
    *,
    short: BoolArray,
    raised: BoolArray,
    cut: BoolArray,
) -> list[tuple[BoolArray, Reason]]:
    rows = standing.rows
    sinking = ~np.isnan(state.emergency.exit_time[rows])
    return [
        (raised & standing.lifted & state.emergency.rolled_back[rows], Reason.ROLLED_BACK),
        (raised & standing.lifted & ~sinking, Reason.EMERGENCY),
        (raised & short, Reason.RATIONED),
        (raised, Reason.RAISED),
        (cut & wishes.contested, Reason.CUT_FOR_OTHERS),
        (cut & sinking, Reason.DECAY),
        (cut & wishes.limited, Reason.CUT_LIMITED),
        (cut & targets.reclaim_bound, Reason.RECLAIM_BOUND),
        (cut, Reason.CUT),
    ]


def _barred(
    state: State, standing: Standing, wishes: Wishes, now: float
) -> list[tuple[BoolArray, Reason]]:
    """Rows that should move, and wait for somebody else."""
    table, rows = state.ledger, standing.rows
    rests = kubelet.namespace_rests(state, rows, now_seconds=now)
    request = np.where(
        wishes.up_request | wishes.down_request, wishes.request, table.desired_request[rows]
    )
    limit = np.where(wishes.up_limit | wishes.down_limit, wishes.limit, table.desired_limit[rows])
    moves = wishes.up_request | wishes.down_request | wishes.up_limit | wishes.down_limit
    asked = moves & (request == table.desired_request[rows]) & (limit == table.desired_limit[rows])
    steady = now < state.fleet.rows.steady_until[rows]
    return [
        (wishes.barred & rests, Reason.NAMESPACE_RESTS),
        (wishes.barred & kubelet.is_failing(state, rows), Reason.IN_FLIGHT),
        ((wishes.barred | wishes.protected) & steady, Reason.OBSERVING),
        (asked & state.fleet.rows.kube[rows], Reason.IN_FLIGHT),
    ]


def _kept(
    state: State,
    selection: Selection,
    standing: Standing,
    targets: Targets,
    wishes: Wishes,
    *,
    short: BoolArray,
) -> list[tuple[BoolArray, Reason]]:
    rows, node = standing.rows, selection.node_of_row
    reduced = targets.reservation.floors_reduced | targets.ceiling_headroom.floors_reduced
    limit = find_limits(state, rows, targets.ceiling_millicores, bounds=standing.bounds)
    at_admitted = (
        targets.ceiling_headroom.takes_part
        & (limit == state.fleet.rows.admitted_limit[rows])
        & (state.decisions.ceiling_need[rows] < limit)
    )
    on_target = (standing.applied_request == targets.reservation_millicores) & (
        ~state.fleet.rows.has_limit[rows] | (standing.applied_limit == limit)
    )
    return [
        (wishes.up_request | wishes.up_limit, Reason.WAITING_SUPPLY),
        (wishes.protected & standing.young, Reason.STARTUP_GRACE),
        (wishes.protected, Reason.EMERGENCY_HELD),
        (wishes.dwelling, Reason.DWELL),
        (reduced[node], Reason.FLOORS_REDUCED),
        (standing.lifted, Reason.EMERGENCY_HELD),
        (on_target & at_admitted, Reason.ADMITTED_FLOOR),
        (on_target & short, Reason.RATIONED),
        (on_target, Reason.ON_TARGET),
    ]
