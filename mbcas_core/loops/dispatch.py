"""From wanted changes to orders: spacing, the resize budget, and the last guard of rule 1.

Whoever wants changes has already shared what is free among the raises. Here a change can only be
dropped, never grow: because its pod was patched a moment ago, because there is no token left, or
because the sums do not add up, which would be a bug and is counted as one.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Effect, Lane, Order, Reason, SendOrders, Violation
from mbcas_core.events import COUNTERS, CpuResources, Mode
from mbcas_core.loops import kubelet
from mbcas_core.signals.counters import PERIOD, QUOTA
from mbcas_core.state import SentOrder, State
from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray, IntArray

BURST = COUNTERS.index("burst_usec")
CGROUP_SPACING_SECONDS = 1.0
"""Where the shim writes the quota itself: each write refills it, so not more often than this."""
EXPIRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """What should be sent about n rows, sorted by node and pod; none without a change."""

    rows: IntArray
    request: IntArray
    limit: IntArray
    reason: IntArray
    value: FloatArray
    """What the change is worth to the budget; the largest go first."""

    def patches(self, state: State) -> BoolArray:
        """True where the change ends in a write to the API, and not in burst credit alone."""
        table, facts, rows = state.ledger, state.fleet.rows, self.rows
        new = self.request != table.desired_request[rows]
        new |= facts.has_limit[rows] & (self.limit != table.desired_limit[rows])
        patched: BoolArray = state.fleet.nodes.patches_pods[facts.node[rows]]
        patched &= new | ~facts.kube[rows]
        return patched


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispatched:
    """What became of the changes, in the order of `Changes`."""

    sent: BoolArray
    spaced: BoolArray
    over_budget: BoolArray
    effects: list[Effect]


def dispatch(state: State, changes: Changes, *, lane: Lane, now_seconds: float) -> Dispatched:
    """Sends what may be sent now.

    Args:
        state: Changed: what is sent is desired from now on.
        changes: What is wanted.
        lane: Emergencies have their own half of the budget and a shorter spacing. What is released
            may use the reserve: see `release`.
        now_seconds: The server's clock.
    """
    effects: list[Effect] = []
    if changes.rows.size == 0:
        none = np.zeros(0, np.bool_)
        return Dispatched(sent=none, spaced=none, over_budget=none, effects=effects)
    spaced = _too_soon(state, changes.rows, lane, now_seconds)
    funded = _fund(state, changes, ~spaced, lane)
    sent = ~spaced & funded
    sent &= _guard(state, changes, sent, lane, effects)
    if sent.any():
        effects.extend(_send(state, changes, sent, lane, now_seconds))
    return Dispatched(sent=sent, spaced=spaced, over_budget=~spaced & ~funded, effects=effects)


def _too_soon(state: State, rows: IntArray, lane: Lane, now: float) -> BoolArray:
    parameters, fleet = state.parameters, state.fleet
    patched = np.full(rows.size, parameters.pod_spacing_seconds)
    if lane == Lane.EMERGENCY:
        patched = np.maximum(parameters.emergency_spacing_seconds, kubelet.hold_off(state, rows))
    own = fleet.nodes.patches_pods[fleet.rows.node[rows]]
    # A hundredth of slack: ticks do not come to the millisecond.
    spacing = np.where(own, patched, CGROUP_SPACING_SECONDS) - 0.01
    since = now - fleet.pods.order_time[fleet.rows.pod[rows]]
    soon: BoolArray = since < np.maximum(spacing, 0.0)
    return soon


def _guard(
    state: State, changes: Changes, sent: BoolArray, lane: Lane, effects: list[Effect]
) -> BoolArray:
    """Drops the raises of a node whose sums would exceed its supply: a bug, so it is said."""
    fleet, rows = state.fleet, changes.rows
    counted = np.where(state.bounds(rows), changes.limit, changes.request)
    rises = [
        np.maximum(new - billed, 0) * sent
        for new, billed in zip((changes.request, counted), state.billed(rows), strict=True)
    ]
    raising = (rises[0] > 0) | (rises[1] > 0)
    safe = np.ones(rows.size, np.bool_)
    if not raising.any():
        return safe
    nodes = np.unique(fleet.rows.node[rows[raising]])
    everyone = fleet.select(nodes)
    place = np.searchsorted(nodes, fleet.rows.node[rows[raising]])
    billed = state.billed(everyone.rows)
    bounds = (state.market.request_limit[nodes], state.market.limit_limit[nodes])
    if lane == Lane.RELEASE:  # Admitted limits may add up to anything.
        there = fleet.nodes.allocatable[nodes] - fleet.nodes.unmanaged[nodes]
        bounds = (there, np.full(nodes.size, np.iinfo(np.int64).max))
    for rise, taken, bound in zip(rises, billed, bounds, strict=True):
        wanted = np.bincount(place, rise[raising], nodes.size)
        total = wanted + np.bincount(everyone.node_of_row, taken, nodes.size)
        for i in np.flatnonzero((wanted > 0) & (total > bound)).tolist():
            safe &= ~(raising & (fleet.rows.node[rows] == nodes[i]))
            name = fleet.node_names[int(nodes[i])]
            detail = f"billed={total[i]:.0f} supply={bound[i]}"
            effects.append(Violation(rule="1", node=name, detail=detail))
    return safe


def _fund(state: State, changes: Changes, allowed: BoolArray, lane: Lane) -> BoolArray:
    """Takes tokens for the changes that end in an API write, the most valuable first.

    On Kubernetes the containers of a pod are patched together.
    """
    nodes, facts = state.fleet.nodes, state.fleet.rows
    node, pod = facts.node[changes.rows], facts.pod[changes.rows]
    costs = allowed & changes.patches(state)
    together = facts.kube[changes.rows]
    funded = ~costs
    paid: set[int] = set()
    taken: Counter[int] = Counter()
    order = np.flatnonzero(costs)
    order = order[np.argsort(-changes.value[order], kind="stable")]
    emergency = lane == Lane.EMERGENCY
    left = {
        cluster: budget.available(emergency=emergency) for cluster, budget in state.budgets.items()
    }
    for i in order.tolist():  # At most one budget's worth of orders is sent, so this is short.
        cluster = int(nodes.cluster[node[i]])
        if together[i] and int(pod[i]) in paid:
            funded[i] = True
        elif taken[cluster] < left[cluster] and nodes.order_tokens[node[i]] >= 1.0:
            nodes.order_tokens[node[i]] -= 1.0
            taken[cluster] += 1
            paid.add(int(pod[i]))
            funded[i] = True
    for cluster, count in taken.items():
        state.budgets[cluster].take(count, emergency=emergency)
    return funded


def _send(state: State, changes: Changes, sent: BoolArray, lane: Lane, now: float) -> list[Effect]:
    fleet, table = state.fleet, state.ledger
    rows, request, limit = changes.rows[sent], changes.request[sent], changes.limit[sent]
    ids = state.last_order_id + 1 + np.arange(rows.size)
    state.last_order_id += rows.size
    orders: dict[int, list[Order]] = defaultdict(list)
    reasons, patches = changes.reason[sent], changes.patches(state)[sent]
    slow = fleet.rows.kube[rows] & (limit == table.desired_limit[rows])
    for i, row in enumerate(rows.tolist()):
        reason = Reason(int(reasons[i]))
        order = _order(
            state,
            row,
            CpuResources(request_millicores=int(request[i]), limit_millicores=int(limit[i])),
            order_id=int(ids[i]),
            reason=reason,
            lane=lane,
            now=now,
        )
        state.orders[order.order_id] = SentOrder(row, fleet.names[row], reason, bool(patches[i]))
        orders[int(fleet.rows.node[row])].append(order)
    ledger.send(table, rows, order_ids=ids, request=request, limit=limit, now_seconds=now)
    # The kernel shows no change of a request.
    table.awaited[rows[slow]] = False
    fleet.pods.order_time[fleet.rows.pod[rows]] = now
    return [
        SendOrders(node=fleet.node_names[node], orders=tuple(own)) for node, own in orders.items()
    ]


def _order(
    state: State,
    row: int,
    to: CpuResources,
    *,
    order_id: int,
    lane: Lane,
    reason: Reason,
    now: float,
) -> Order:
    names, rows = state.fleet.names[row], state.fleet.rows
    has_limit = bool(rows.has_limit[row])
    one = np.array([row])
    burst: int | None = None
    if has_limit:
        alone = bool(now < rows.hold_until[row]) or bool(is_left_alone(state, one)[0])
        wanted = wanted_burst(state, one, np.array([to.limit_millicores]))
        burst = 0 if alone else int(wanted[0])
    kube = bool(rows.kube[row])
    admitted_request = int(rows.admitted_request[row])
    return Order(
        order_id=order_id,
        pod_uid=names.pod_uid,
        namespace=names.namespace,
        pod=names.pod,
        container=names.container,
        expected_generation=int(
            state.fleet.pods.generation[rows.pod[row]] if kube else rows.generation[row]
        ),
        desired=_patch(state, row, to) if kube else _changed(state, row, to),
        burst_usec=burst,
        admitted=CpuResources(
            request_millicores=None if kube and admitted_request == 0 else admitted_request,
            limit_millicores=int(rows.admitted_limit[row]) if has_limit else None,
        ),
        restore_exactly=bool(rows.strict[row] or state.hard_quota(one)[0]),
        expires_after_seconds=EXPIRY_SECONDS,
        lane=lane,
        reason=reason,
    )


def _changed(state: State, row: int, to: CpuResources) -> CpuResources:
    """The numbers that are not what was sent, or not what is in force."""
    table, request, limit = state.ledger, to.request_millicores, to.limit_millicores
    new_request = request != int(table.desired_request[row]) or request != int(
        table.applied_request[row]
    )
    new_limit = bool(state.fleet.rows.has_limit[row]) and (
        limit != int(table.desired_limit[row]) or limit != int(table.applied_limit[row])
    )
    return CpuResources(
        request_millicores=request if new_request else None,
        limit_millicores=limit if new_limit else None,
    )


def _patch(state: State, row: int, to: CpuResources) -> CpuResources:
    """The numbers that are not what the spec says; of a Guaranteed pod that is both or neither."""
    table, facts = state.ledger, state.fleet.rows
    request, limit = to.request_millicores, to.limit_millicores
    has_limit = bool(facts.has_limit[row])
    new_request = request != int(table.desired_request[row])
    new_limit = has_limit and limit != int(table.desired_limit[row])
    return CpuResources(
        request_millicores=request if new_request else None,
        limit_millicores=limit if new_limit else None,
    )


def wanted_burst(state: State, rows: IntArray, limit: IntArray) -> IntArray:
    """Burst credit in microseconds that rows with these limits should have: one quota, or none."""
    if not state.parameters.burst_credit:
        return np.zeros(rows.size, np.int64)
    period = np.maximum(state.counters.counters[rows, PERIOD], 1)
    burst: IntArray = limit * period // MILLICORES_PER_CORE
    nodes, node = state.fleet.nodes, state.fleet.rows.node[rows]
    return np.where(nodes.patches_pods[node] & ~nodes.burst_writable[node], 0, burst)


def is_left_alone(state: State, rows: IntArray) -> BoolArray:
    """True where MBCAS is to set nothing of a row: it is not in auto, or it is skipped."""
    facts = state.fleet.rows
    alone: BoolArray = (facts.mode[rows] != Mode.AUTO) | facts.skipped[rows]
    return alone


def burst_is_off(state: State, rows: IntArray, *, wanted: bool = True) -> BoolArray:
    """True where the burst credit in force is not what the row's quota calls for, or not none."""
    quota = state.counters.counters[rows, QUOTA]
    in_force = state.counters.counters[rows, BURST]
    credit = wanted_burst(state, rows, state.ledger.applied_limit[rows])
    wanted_credit = credit if wanted else np.zeros_like(credit)
    off: BoolArray = np.abs(in_force - wanted_credit) > 0.1 * wanted_credit + 100
    off &= (quota > 0) & state.fleet.rows.has_limit[rows]
    return off
