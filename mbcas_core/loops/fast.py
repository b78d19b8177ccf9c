"""The fast loop: rows that are throttled now are lifted together, out of what is free.

Rows that the last clearing rationed are left alone: their throttling is scarcity, which the market
has already shared out, and lifting them would take the slack from whoever surges next (README).
What is free goes by the market's own rule and weights; a node that cannot grant a lift in full is
cleared in the same tick, so that CPU comes from whoever has more than the market now says it
should.
"""

import numpy as np

from mbcas_core import ledger
from mbcas_core.agents import needs
from mbcas_core.effects import Effect, Lane, Reason
from mbcas_core.events import Mode, Policy
from mbcas_core.fleet import Selection
from mbcas_core.loops import audit, kubelet
from mbcas_core.loops.dispatch import Changes, dispatch
from mbcas_core.market.orders import Grants, OrderRows, clear_orders
from mbcas_core.signals.counters import Seconds
from mbcas_core.signals.windows import throttled_ratio
from mbcas_core.stability import emergency
from mbcas_core.state import CEILING, RESERVATION, State
from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_core.workload.bursts import remembered_peak

ROLLBACK_TAUS = 3.0
MIN_LIFT_MILLICORES = 10
MIN_ROUND_SECONDS = 0.5
"""A node that cannot grant a lift is cleared at once, but not more often than this."""


def run(state: State, seconds: Seconds, *, now_seconds: float) -> list[Effect]:
    """Ends what is over and lifts what is throttled now."""
    active: IntArray = np.flatnonzero(state.emergency.active)
    if active.size:
        emergency.step(
            state.emergency,
            state.windows,
            active,
            exit_seconds=round(state.parameters.emergency_exit_seconds),
            decay_seconds=state.parameters.emergency_decay_seconds,
            now_seconds=now_seconds,
        )
    throttled = seconds.rows[(seconds.throttled > 0).any(axis=1)]
    if throttled.size == 0:
        return []
    rows, rollback = _triggered(state, throttled, now_seconds)
    if rows.size == 0:
        return []
    needs.add_caution(state.agent, rows[rollback], now_seconds=now_seconds)
    emergency.lift(
        state.emergency,
        rows,
        wish=_wish(state, rows, rollback),
        rolled_back=rollback,
        now_seconds=now_seconds,
    )
    return _grant(state, rows, now_seconds)


def _triggered(state: State, rows: IntArray, now: float) -> tuple[IntArray, BoolArray]:
    """The rows to lift, ascending, and which of them take a cut back."""
    fleet, table, parameters = state.fleet, state.ledger, state.parameters
    policy = fleet.rows.policy[rows]
    able = state.bounds(rows) & (policy != Policy.REQUESTS_ONLY)
    able &= (fleet.rows.mode[rows] == Mode.AUTO) & ~fleet.rows.skipped[rows]
    able &= ~fleet.rows.fixed[rows] & (now >= fleet.rows.hold_until[rows])
    able &= kubelet.takes_orders(state, rows) & kubelet.may_raise(state, rows, now_seconds=now)
    # A ceiling alone is never refused by a kubelet.
    resting = now < fleet.pods.withdrawn_until[fleet.rows.pod[rows]]
    able &= ~(resting & (policy == Policy.HARD_QUOTA))
    able &= fleet.nodes.attached[fleet.rows.node[rows]] & ~state.decisions.rationed[rows]
    able &= ~np.isnan(state.decisions.time[rows])
    able &= (now >= table.rest_until[rows]) & (now >= table.foreign_until[rows])
    able &= ~ledger.in_flight(table, rows)
    rows = rows[able]
    tau = fleet.rows.tau[rows]
    recent = throttled_ratio(state.windows, rows, seconds=emergency.SURGE_SECONDS)
    surge = emergency.surging(state.windows, rows, tau, recent=recent)
    rollback = (now - table.cut_time[rows] <= parameters.rollback_window_seconds) & (
        recent > np.minimum(ROLLBACK_TAUS * tau, 0.4)
    )
    lifted = surge | rollback
    return rows[lifted], rollback[lifted]


def _wish(state: State, rows: IntArray, rollback: BoolArray) -> FloatArray:
    """What each row should have at once, in millicores."""
    table = state.ledger
    ceiling = np.maximum(table.applied_limit[rows], MIN_LIFT_MILLICORES).astype(np.float64)
    ratio = throttled_ratio(state.windows, rows, seconds=emergency.SURGE_SECONDS)
    wish = np.maximum(ceiling * (1.0 + ratio), remembered_peak(state.bursts, rows))
    before = table.cut_from[rows].astype(np.float64)
    return np.where(rollback, np.maximum(wish, 2.0 * before - ceiling), wish)


def _grant(state: State, rows: IntArray, now: float) -> list[Effect]:
    fleet = state.fleet
    selection = fleet.select(np.unique(fleet.rows.node[rows]))
    everyone = selection.rows
    asks = np.zeros(fleet.rows.capacity, np.bool_)
    asks[rows] = True
    lifted = asks[everyone]
    hard = state.hard_quota(everyone)
    billed_request, billed_limit = state.billed(everyone)
    wish = np.zeros(everyone.size, np.int64)
    wish[lifted] = np.ceil(state.emergency.hold[everyone[lifted]]).astype(np.int64)
    cap = np.maximum(state.decisions.pod_cap[everyone].max(axis=1), billed_limit)
    wish = np.minimum(wish, cap)
    asked = OrderRows(
        pod=selection.pod_of_row,
        weight=np.maximum(fleet.rows.admitted_request[everyone], 1).astype(np.float64),
        has_limit=state.bounds(everyone),
        hard_quota=hard,
        reservation_floor_millicores=state.decisions.floor[everyone, RESERVATION],
        ceiling_floor_millicores=np.zeros(everyone.size, np.int64),
        reservation_target_millicores=np.where(lifted & hard, wish, billed_request),
        ceiling_target_millicores=np.where(lifted & ~hard, wish, billed_limit),
        reservation_billed_millicores=billed_request,
        ceiling_billed_millicores=billed_limit,
        node=selection.node_of_pod,
        pod_weight=state.pod_weight(selection.pods),
    )
    limits = (
        state.market.request_limit[selection.nodes],
        state.market.limit_limit[selection.nodes],
    )
    grants = clear_orders(
        asked,
        reservation_limit_millicores=limits[0],
        ceiling_limit_millicores=limits[1],
        quantum_millicores=state.parameters.quantum_millicores,
    )
    turn = np.full(selection.nodes.size, state.tick_count)
    found = audit.check_orders(state, selection, asked, grants, limits=limits, turn=turn)
    # On Kubernetes a lift of the ceiling leaves alone what the spec says of the request.
    kept = np.where(
        fleet.rows.kube[everyone], state.ledger.desired_request[everyone], billed_request
    )
    request = np.where(hard, billed_request + grants.reservation_millicores, kept)
    limit = np.where(hard, request, billed_limit + grants.ceiling_millicores)
    worth = lifted & (limit - billed_limit >= MIN_LIFT_MILLICORES)
    short = lifted & (limit < wish)
    hungry = selection.nodes[selection.node_of_row[short]]
    rested = now - fleet.nodes.round_time[hungry] >= MIN_ROUND_SECONDS
    fleet.nodes.next_round[hungry[rested]] = -np.inf
    own: IntArray = np.flatnonzero(worth)
    if own.size == 0:
        return found
    sent, effects = _send(state, everyone[own], request[own], limit[own], now)
    _note_sent(state, selection, grants, own[sent], now)
    return found + effects


def _note_sent(
    state: State, selection: Selection, grants: Grants, own: IntArray, now: float
) -> None:
    """Keeps, for the explanation, what these lifts came from (indices into the selection)."""
    table, rows, node = state.decisions, selection.rows[own], selection.node_of_row[own]
    table.time[rows] = now
    table.slack[rows, RESERVATION] = grants.reservation_slack_millicores[node]
    table.slack[rows, CEILING] = grants.ceiling_slack_millicores[node]
    table.granted[rows, RESERVATION] = grants.reservation_millicores[own]
    table.granted[rows, CEILING] = grants.ceiling_millicores[own]
    table.emergency_need[rows] = state.emergency.hold[rows]
    held = np.ceil(table.emergency_need[rows]).astype(np.int64)
    table.ceiling_need[rows] = np.maximum(table.ceiling_need[rows], held)


def _send(
    state: State, rows: IntArray, request: IntArray, limit: IntArray, now: float
) -> tuple[BoolArray, list[Effect]]:
    """Returns which lifts were sent."""
    billed_request, billed_limit = state.billed(rows)
    rolled_back = state.emergency.rolled_back[rows]
    reason = np.where(rolled_back, int(Reason.ROLLED_BACK), int(Reason.EMERGENCY))
    gain = (limit - billed_limit).astype(np.float64)
    done = dispatch(
        state,
        Changes(rows=rows, request=request, limit=limit, reason=reason, value=gain),
        lane=Lane.EMERGENCY,
        now_seconds=now,
    )
    sent = rows[done.sent]
    state.decisions.reason[sent] = reason[done.sent]
    state.decisions.billed[sent, RESERVATION] = billed_request[done.sent]
    state.decisions.billed[sent, CEILING] = billed_limit[done.sent]
    return done.sent, done.effects
