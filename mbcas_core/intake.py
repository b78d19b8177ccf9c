"""Takes in what shims say: who is there, what it declared, what was measured, how orders ended."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mbcas_core import ledger
from mbcas_core.effects import Effect, Notice, Reason, RequestInventory
from mbcas_core.events import (
    ContainerFacts,
    CpuResources,
    Enforcement,
    NodeAttached,
    NodeDetached,
    NodeFacts,
    OrderResult,
    Outcome,
    PriorityClass,
    Report,
    ReportArrived,
)
from mbcas_core.fleet import FleetFullError, Names
from mbcas_core.market.goods import pod_weights
from mbcas_core.signals import counters
from mbcas_core.state import State
from mbcas_core.units import MAX_MILLICORES, IntArray


def attach(state: State, event: NodeAttached) -> list[Effect]:
    """Makes a node ready for the inventory of a new stream."""
    fleet = state.fleet
    node = fleet.find_node(event.node)
    if node is None:
        try:
            node = fleet.add_node(event.node)
        except FleetFullError as error:
            state.counts["nodes_refused"] += 1
            return [Notice(node=event.node, event="node refused", detail=f"reason={error}")]
    rows = fleet.rows_of_node(node)
    forget_orders(state, rows)
    state.counters.known[rows] = False
    state.counters.waiting[rows] = False
    fleet.forget_handles(node)
    fleet.nodes.connected[node] = True
    fleet.nodes.attached[node] = False
    fleet.nodes.detach_time[node] = math.nan
    return []


def detach(state: State, event: NodeDetached) -> list[Effect]:
    """Leaves a node as it is: nothing is decided about it until its shim is back."""
    node = state.fleet.find_node(event.node)
    if node is None:
        return []
    forget_orders(state, state.fleet.rows_of_node(node))
    state.fleet.nodes.connected[node] = False
    state.fleet.nodes.attached[node] = False
    state.fleet.nodes.detach_time[node] = event.time_seconds
    state.fleet.nodes.changed_tick[node] = state.tick_count + 1
    return []


def forget_orders(state: State, rows: IntArray) -> None:
    """Voids the orders of these rows; a late result of one is then unknown."""
    flying = rows[ledger.in_flight(state.ledger, rows)]
    for order_id in state.ledger.order_id[flying].tolist():
        state.orders.pop(order_id, None)
    ledger.void(state.ledger, flying)


def take_report(state: State, event: ReportArrived) -> list[Effect]:
    """Takes in one report; what cannot be used is counted, and the rest goes on."""
    fleet, report = state.fleet, event.report
    node = fleet.find_node(event.node)
    if node is None or not fleet.nodes.connected[node]:
        state.counts["reports_unattached"] += 1
        return []
    inventory_known = bool(fleet.nodes.attached[node])
    complete = report.full_inventory and (report.node_facts is not None or inventory_known)
    if not (inventory_known or complete):
        state.counts["reports_before_inventory"] += 1
        return [RequestInventory(node=event.node, reason="the first report is no full inventory")]
    if report.node_facts is not None:
        _take_node_facts(state, node, report.node_facts)
    effects = _take_containers(state, node, report, event.time_seconds)
    fleet.nodes.attached[node] = True
    fleet.nodes.report_time[node] = event.time_seconds
    fleet.nodes.changed_tick[node] = state.tick_count + 1
    for samples in report.samples:
        rows = fleet.rows_of_handles(node, samples.handles)
        state.counts["handles_unknown"] += int(np.count_nonzero(rows < 0))
        counters.stage(state.counters, rows, samples)
    return effects + _take_results(state, node, report.results, event.time_seconds)


def _take_node_facts(state: State, node: int, facts: NodeFacts) -> None:
    nodes = state.fleet.nodes
    free = facts.allocatable_millicores - facts.unmanaged_millicores
    if free < nodes.allocatable[node] - nodes.unmanaged[node]:
        # What the last clearing found free may be gone: no raise before the next one.
        state.market.request_limit[node] = state.market.limit_limit[node] = 0
        nodes.next_round[node] = -math.inf
    nodes.allocatable[node] = facts.allocatable_millicores
    nodes.unmanaged[node] = facts.unmanaged_millicores
    nodes.cpu_count[node] = facts.cpu_count
    nodes.patches_pods[node] = facts.enforcement == Enforcement.RESIZE


def _take_containers(state: State, node: int, report: Report, now: float) -> list[Effect]:
    fleet = state.fleet
    effects: list[Effect] = []
    for handle in report.removed_handles:
        row = fleet.row_of_handle(node, handle)
        if row is None:
            state.counts["removals_unknown"] += 1
            continue
        remove_row(state, row)
    seen: set[int] = set()
    for facts in report.containers:
        taken = _take_container(state, node, facts, now)
        if isinstance(taken, int):
            seen.add(taken)
        else:
            effects.append(taken)
    if report.full_inventory:
        for row in fleet.rows_of_node(node).tolist():
            if row not in seen:
                remove_row(state, row)
    return effects


def remove_row(state: State, row: int) -> None:
    """Removes a container; its order is forgotten with it."""
    state.orders.pop(int(state.ledger.order_id[row]), None)
    names, node = state.fleet.names[row], int(state.fleet.rows.node[row])
    state.fleet.remove_row(row)
    rest = state.fleet.rows_of_node(node)
    for other in rest.tolist():
        if state.fleet.names[other].pod_uid == names.pod_uid:
            _weigh_pod(state, other)
            break
    state.fleet.nodes.next_round[node] = -math.inf  # Its share is free for the others.


def _take_container(
    state: State,
    node: int,
    facts: ContainerFacts,
    now: float,
) -> int | Effect:
    fleet = state.fleet
    names = Names(
        pod_uid=facts.pod_uid,
        namespace=facts.namespace,
        pod=facts.pod,
        container=facts.container,
        container_id=facts.container_id,
    )
    row = fleet.find_row(node, facts.pod_uid, facts.container)
    if row is None:
        if fleet.rows_of_node(node).size >= state.parameters.max_containers_per_node:
            return _refuse_container(state, node, names, "the node has as many as it may")
        try:
            row = fleet.add_row(node, facts.handle, names)
        except FleetFullError as error:
            return _refuse_container(state, node, names, str(error))
        _admit(state, row, facts)
        _adopt(state, row, facts, None)
        _restart(state, row, facts, now)
        state.decisions.target_request[row] = state.ledger.desired_request[row]
        state.decisions.target_limit[row] = state.ledger.desired_limit[row]
        fleet.nodes.next_round[node] = -math.inf
    else:
        fleet.set_handle(row, facts.handle)
        _update(state, row, facts, names, now)
    _configure(state, row, facts)
    return row


def _refuse_container(state: State, node: int, names: Names, why: str) -> Effect:
    state.counts["containers_refused"] += 1
    return Notice(
        node=state.fleet.node_names[node],
        event="container refused",
        detail=f"pod={names.namespace}/{names.pod} container={names.container} reason={why}",
    )


def _update(state: State, row: int, facts: ContainerFacts, names: Names, now: float) -> None:
    old = state.fleet.names[row]
    # A pod keeps its names; what the uid stands for cannot be given another.
    state.fleet.names[row] = replace(old, container_id=names.container_id)
    restarted = old.container_id != names.container_id or (
        facts.restart_count > state.fleet.rows.restart_count[row]
    )
    if restarted:
        _restart(state, row, facts, now)
        state.counts["restarts"] += 1
    if facts.generation < state.fleet.rows.generation[row]:
        return  # An order's result has said more already.
    if facts.admitted is not None:
        _admit(state, row, facts)
    elif _is_foreign(state, row, facts):
        _admit(state, row, facts)
        state.ledger.foreign_until[row] = now + state.parameters.foreign_rest_seconds
        state.decisions.reason[row] = int(Reason.CHANGED_ELSEWHERE)
        state.counts["foreign_changes"] += 1
    _adopt(state, row, facts, None if restarted else now)


def _is_foreign(state: State, row: int, facts: ContainerFacts) -> bool:
    """True where somebody else changed the spec.

    While its shim was away, that may have been the shim's fail-safe: nobody else is blamed then.
    """
    node = int(state.fleet.rows.node[row])
    return bool(state.fleet.nodes.attached[node]) and ledger.is_foreign(
        state.ledger, row, _whole_spec(facts)
    )


def _whole_spec(facts: ContainerFacts) -> CpuResources:
    """The spec as the API server completes it: a limit alone is both."""
    spec = facts.spec
    if spec.request_millicores is not None:
        return spec
    return CpuResources(
        request_millicores=spec.limit_millicores, limit_millicores=spec.limit_millicores
    )


def _adopt(state: State, row: int, facts: ContainerFacts, now: float | None) -> None:
    ledger.adopt(
        state.ledger,
        row,
        spec=_whole_spec(facts),
        allocated=facts.allocated or CpuResources(),
        actual=facts.actual or CpuResources(),
        now_seconds=now,
    )


def _admit(state: State, row: int, facts: ContainerFacts) -> None:
    admitted = facts.admitted or facts.spec
    limit = admitted.limit_millicores
    request = admitted.request_millicores
    rows = state.fleet.rows
    rows.admitted_request[row] = (limit or 0) if request is None else request
    rows.admitted_limit[row] = limit or 0
    rows.has_limit[row] = limit is not None


def _restart(state: State, row: int, facts: ContainerFacts, now: float) -> None:
    state.counters.known[row] = False
    state.counters.waiting[row] = False
    state.fleet.rows.seen_time[row] = now - min(facts.age_seconds or 0.0, 3600.0)
    state.emergency.reset(row)


def _configure(state: State, row: int, facts: ContainerFacts) -> None:
    rows, pods, parameters = state.fleet.rows, state.fleet.pods, state.parameters
    rows.mode[row] = int(facts.mode or parameters.mode)
    rows.policy[row] = int(facts.policy or parameters.policy)
    priority = facts.priority_class or PriorityClass.NORMAL
    rows.priority[row] = int(priority)
    rows.tau[row] = parameters.tau[priority]
    rows.strict[row] = bool(facts.strict)
    rows.skipped[row] = bool(facts.skip_reason)
    rows.generation[row] = max(facts.generation, int(rows.generation[row]))
    rows.restart_count[row] = facts.restart_count
    pod = int(rows.pod[row])
    pods.min_millicores[pod] = _or(facts.min_millicores, MAX_MILLICORES)
    pods.max_millicores[pod] = _or(facts.max_millicores, MAX_MILLICORES)
    pods.min_acceptable[pod] = _or(facts.min_acceptable_millicores, 0)
    _weigh_pod(state, row)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _weigh_pod(state: State, row: int) -> None:
    """Sets the weight of a row's pod: declared at admission, never bid."""
    rows, parameters = state.fleet.rows, state.parameters
    own = state.fleet.rows_of_pod(row)
    factor = parameters.priority_factor[PriorityClass(int(rows.priority[row]))]
    weight = pod_weights(
        np.zeros(own.size, np.int64),
        rows.admitted_request[own],
        np.array([factor]),
        parameters=parameters,
    )
    state.fleet.pods.weight[rows.pod[row]] = weight[0]


def _take_results(
    state: State, node: int, results: Iterable[OrderResult], now: float
) -> list[Effect]:
    failed = False
    for result in results:
        sent = state.orders.pop(result.order_id, None)
        if sent is None or state.fleet.names.get(sent.row) != sent.names:
            state.counts["results_unknown"] += 1
            continue
        row = sent.row
        ledger.settle(
            state.ledger,
            row,
            result,
            now_seconds=now,
            backoff_seconds=state.parameters.backoff_seconds,
        )
        if result.generation > 0:
            state.fleet.rows.generation[row] = result.generation
        state.resizes[result.outcome, sent.reason] += 1
        failed |= result.outcome == Outcome.FAILED
        if state.fleet.nodes.waiting[node]:
            state.fleet.nodes.next_round[node] = -math.inf
    if not failed:
        return []
    name = state.fleet.node_names[node]
    return [RequestInventory(node=name, reason="an order may or may not have been carried out")]
