"""Takes back what kubelets do not admit.

An ask that is Deferred goes on counting for the scheduler and keeps others out; one that is
Infeasible keeps every other change of its pod from being carried out. Either way the numbers that
MBCAS set go back to what is allocated, within a round, and the pod rests: longer each time, until
the kubelet admits a raise again. What somebody else asked for stays.
"""

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Effect, Lane, PodNotice, Reason
from mbcas_core.events import Pending
from mbcas_core.loops import kubelet
from mbcas_core.loops.dispatch import Changes, dispatch
from mbcas_core.state import State
from mbcas_core.units import BoolArray, IntArray


def run(state: State, *, now_seconds: float) -> list[Effect]:
    """Withdraws what is pending and ours."""
    pods = state.fleet.pods
    pending = pods.alive & (
        (pods.pending == Pending.DEFERRED) | (pods.pending == Pending.INFEASIBLE)
    )
    if not pending.any():
        return []
    rows = _ours(state, pending, now_seconds)
    if rows.size == 0:
        return []
    table = state.ledger
    request, limit = _allocated(state, rows)
    done = dispatch(
        state,
        Changes(
            rows=rows,
            request=request,
            limit=limit,
            reason=np.full(rows.size, int(Reason.WITHDRAWN)),
            value=np.full(rows.size, np.inf),
        ),
        lane=Lane.EMERGENCY,
        now_seconds=now_seconds,
    )
    sent = rows[done.sent]
    # The ask goes on counting until the API server has taken it back.
    before = table.before_request[sent], table.before_limit[sent]
    ledger.keep_billed(table, sent, request=before[0], limit=before[1])
    state.decisions.reason[sent] = int(Reason.WITHDRAWN)
    state.counts["withdrawals"] += sent.size
    return done.effects + _rest(state, sent, now_seconds)


def _ours(state: State, pending: BoolArray, now: float) -> IntArray:
    """The rows that asked for what is pending, sorted by node and pod."""
    fleet, table = state.fleet, state.ledger
    rows: IntArray = np.flatnonzero(fleet.rows.alive & pending[fleet.rows.pod])
    asked = fleet.rows.request_set[rows] & (
        table.desired_request[rows] != table.allocated_request[rows]
    )
    asked |= fleet.rows.limit_set[rows] & (table.desired_limit[rows] != table.allocated_limit[rows])
    # Also of pods that are left alone by now: until it is taken back, an ask keeps others out.
    able = asked & fleet.rows.admitted_known[rows] & ~ledger.in_flight(table, rows)
    able &= fleet.nodes.attached[fleet.rows.node[rows]] & (now >= table.rest_until[rows])
    able &= ~kubelet.is_silent(state, rows) & ~kubelet.is_behind(state, rows)
    rows = rows[able]
    order = np.lexsort((rows, fleet.rows.pod[rows], fleet.rows.node[rows]))
    return rows[order]


def _allocated(state: State, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Request and limit without what we asked for."""
    facts, table = state.fleet.rows, state.ledger
    limit = np.where(facts.limit_set[rows], table.allocated_limit[rows], table.desired_limit[rows])
    request = np.where(
        facts.request_set[rows], table.allocated_request[rows], table.desired_request[rows]
    )
    has_limit = facts.has_limit[rows]
    request = np.where(has_limit, np.minimum(request, limit), request)
    return request, np.where(facts.guaranteed[rows], request, limit)


def _rest(state: State, rows: IntArray, now: float) -> list[Effect]:
    """Lets the pods of these rows rest; the first time in a streak it is told."""
    pods = state.fleet.pods
    own, first = np.unique(state.fleet.rows.pod[rows], return_index=True)
    effects: list[Effect] = []
    for pod, row in zip(own.tolist(), rows[first].tolist(), strict=True):
        wait = ledger.back_off(int(pods.withdrawals[pod]), state.parameters.backoff_seconds)
        if pods.withdrawals[pod] == 0:
            effects.append(_notice(state, row, Pending(int(pods.pending[pod])), wait))
        pods.withdrawals[pod] += 1
        pods.withdrawn_until[pod] = now + wait
    return effects


def _notice(state: State, row: int, pending: Pending, wait: float) -> PodNotice:
    names, table = state.fleet.names[row], state.ledger
    asked = f"request {table.before_request[row]}m, limit {table.before_limit[row]}m"
    given = f"request {table.desired_request[row]}m, limit {table.desired_limit[row]}m"
    return PodNotice(
        namespace=names.namespace,
        pod=names.pod,
        pod_uid=names.pod_uid,
        container=names.container,
        event="ResizeWithdrawn",
        message=f"The kubelet found {asked} {pending.name.lower()}: MBCAS takes it back to {given} "
        f"and asks for no more for {wait:.0f} s.",
        warning=True,
    )
