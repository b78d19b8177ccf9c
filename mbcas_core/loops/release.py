"""Gives containers back what they were admitted with.

A number that MBCAS has set goes back where it sets it no longer: its container is not in auto, for
whatever reason, or excluded, the policy in effect does not move it, or somebody asked for a release
(which holds for a while, and for every container whatever its mode). Cuts are always possible. A
raised reservation must fit what the node has: the reserve is there for it, for it was promised at
admission; what does not fit waits.
"""

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Effect, Lane, Reason
from mbcas_core.events import ReleaseAsked
from mbcas_core.loops import kubelet
from mbcas_core.loops.dispatch import Changes, burst_is_off, dispatch, is_left_alone
from mbcas_core.state import State
from mbcas_core.units import MIN_CEILING_MILLICORES, BoolArray, IntArray


def hold(state: State, event: ReleaseAsked) -> None:
    """Leaves containers alone for a while, at what they were admitted with."""
    rows = find_rows(state, event.namespace, event.pod)
    state.fleet.rows.hold_until[rows] = event.time_seconds + event.hold_seconds
    state.fleet.nodes.next_round[np.unique(state.fleet.rows.node[rows])] = -np.inf


def find_rows(state: State, namespace: str, pod: str) -> IntArray:
    """The rows of a pod, of a namespace, or all of them, ascending."""
    if not namespace:
        return state.fleet.row_ids()
    if pod:
        return np.array(state.fleet.rows_of_pod_name(namespace, pod), np.int64)
    own = [row for row, names in state.fleet.names.items() if names.namespace == namespace]
    return np.array(sorted(own), np.int64)


def is_held(state: State, rows: IntArray, *, now_seconds: float) -> BoolArray:
    """True where somebody asked for a release, not too long ago."""
    held: BoolArray = now_seconds < state.fleet.rows.hold_until[rows]
    return held


def is_owed(state: State, rows: IntArray, *, now_seconds: float) -> BoolArray:
    """True where a row has a number that should go back and is not what was admitted."""
    request, limit = _wanted(state, rows, now_seconds)
    table = state.ledger
    owed: BoolArray = (request != table.desired_request[rows]) | (
        limit != table.desired_limit[rows]
    )
    return owed


def count_remaining(state: State, rows: IntArray) -> int:
    """How many of these rows do not have what they were admitted with."""
    facts, table = state.fleet.rows, state.ledger
    off = table.desired_request[rows] != facts.admitted_request[rows]
    off |= facts.has_limit[rows] & (table.desired_limit[rows] != facts.admitted_limit[rows])
    off |= ledger.in_flight(table, rows) | (table.doubt_request[rows] > 0)
    off |= (table.doubt_limit[rows] > 0) | burst_is_off(state, rows, wanted=False)
    return int(np.count_nonzero(off & facts.admitted_known[rows]))


def run(state: State, *, now_seconds: float) -> list[Effect]:
    """Sends what goes back now."""
    rows = _able(state, now_seconds)
    if rows.size == 0:
        return []
    table = state.ledger
    request, limit = _wanted(state, rows, now_seconds)
    request, limit = _fit(state, rows, request, limit)
    moves = (request != table.desired_request[rows]) | (limit != table.desired_limit[rows])
    given_up = is_held(state, rows, now_seconds=now_seconds) | is_left_alone(state, rows)
    moves |= given_up & burst_is_off(state, rows, wanted=False)
    own = np.flatnonzero(moves)
    if own.size == 0:
        return []
    done = dispatch(
        state,
        Changes(
            rows=rows[own],
            request=request[own],
            limit=limit[own],
            reason=np.full(own.size, int(Reason.RELEASED)),
            value=np.abs(limit - table.desired_limit[rows])[own].astype(np.float64),
        ),
        lane=Lane.RELEASE,
        now_seconds=now_seconds,
    )
    state.decisions.reason[rows[own][done.sent]] = int(Reason.RELEASED)
    return done.effects


def _able(state: State, now: float) -> IntArray:
    """The rows that may have something to give back and can be changed, by node and pod."""
    facts, nodes, table = state.fleet.rows, state.fleet.nodes, state.ledger
    rows: IntArray = np.flatnonzero(
        facts.alive & (facts.returns_request | facts.returns_limit | (now < facts.hold_until))
    )
    if rows.size == 0:
        return rows
    able = nodes.attached[facts.node[rows]] & facts.admitted_known[rows]
    able &= ~ledger.in_flight(table, rows) & (now >= table.rest_until[rows])
    able &= kubelet.takes_orders(state, rows)
    rows = rows[able]
    order = np.lexsort((rows, facts.pod[rows], facts.node[rows]))
    return rows[order]


def _wanted(state: State, rows: IntArray, now: float) -> tuple[IntArray, IntArray]:
    """Request and limit of these rows with all given back that should be."""
    facts, table = state.fleet.rows, state.ledger
    held = is_held(state, rows, now_seconds=now) & facts.admitted_known[rows]
    has_limit = facts.has_limit[rows]
    request = np.where(
        facts.returns_request[rows] | held,
        facts.admitted_request[rows],
        table.desired_request[rows],
    )
    limit = np.where(
        (facts.returns_limit[rows] | held) & has_limit,
        facts.admitted_limit[rows],
        table.desired_limit[rows],
    )
    # What stays as it is may be in the way of what goes back.
    request = np.where(has_limit, np.minimum(request, limit - _gap(state, rows, limit)), request)
    return request, limit


def _gap(state: State, rows: IntArray, limit: IntArray) -> IntArray:
    """What a request that does not go back must leave to the limit."""
    facts = state.fleet.rows
    gap = facts.keeps_gap[rows] & (facts.admitted_limit[rows] != limit)
    return np.where(gap, MIN_CEILING_MILLICORES, 0)


def _fit(
    state: State, rows: IntArray, request: IntArray, limit: IntArray
) -> tuple[IntArray, IntArray]:
    """Leaves out the raises of reservations for which the node has no room now."""
    fleet, table = state.fleet, state.ledger
    billed, _ = state.billed(rows)
    counted = np.where(state.hard_quota(rows), np.maximum(request, limit), request)
    rise = np.maximum(counted - billed, 0)
    if not rise.any():
        return request, limit
    nodes = np.unique(fleet.rows.node[rows])
    everyone = fleet.select(nodes)
    taken = np.bincount(everyone.node_of_row, state.billed(everyone.rows)[0], nodes.size)
    free = fleet.nodes.allocatable[nodes] - fleet.nodes.unmanaged[nodes] - taken
    place = np.searchsorted(nodes, fleet.rows.node[rows])
    running = np.cumsum(rise)
    first = np.searchsorted(place, np.arange(nodes.size))
    before = np.append(0, running)[first]
    fits = (rise == 0) | (running - before[place] <= free[place])
    desired_request, desired_limit = table.desired_request[rows], table.desired_limit[rows]
    one = state.hard_quota(rows) | fleet.rows.guaranteed[rows]
    gap = np.where(fleet.rows.keeps_gap[rows], MIN_CEILING_MILLICORES, 0)
    kept_limit = np.where(one, desired_limit, np.maximum(limit, desired_request + gap))
    has_limit = fleet.rows.has_limit[rows]
    return (
        np.where(fits, request, desired_request),
        np.where(fits | ~has_limit, limit, kept_limit),
    )
