"""Takes in what shims say: who is there, what was measured, how orders ended."""

import math

import numpy as np

from mbcas_core import ledger
from mbcas_core.containers import remove_row, take_container
from mbcas_core.effects import Effect, Notice, RequestInventory
from mbcas_core.events import (
    Enforcement,
    NodeAttached,
    NodeDetached,
    NodeFacts,
    Report,
    ReportArrived,
    SamplesArrived,
)
from mbcas_core.fleet import FleetFullError
from mbcas_core.results import take_results
from mbcas_core.signals import counters
from mbcas_core.state import State
from mbcas_core.units import IntArray


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
        state.join_cluster(node)
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
    return effects + take_results(state, node, report.results, event.time_seconds)


def take_samples(state: State, event: SamplesArrived) -> None:
    """Takes in what was measured on several nodes; of those without an inventory, nothing."""
    fleet = state.fleet
    known = [fleet.find_node(name) for name in event.nodes]
    ids: IntArray = np.array([-1 if node is None else node for node in known], np.int64)
    ids = np.where((ids >= 0) & fleet.nodes.attached[ids], ids, -1)
    state.counts["reports_unattached"] += int(np.count_nonzero(ids < 0))
    listed = ids[ids >= 0]
    fleet.nodes.report_time[listed] = event.time_seconds
    fleet.nodes.changed_tick[listed] = state.tick_count + 1
    rows = fleet.rows_of_many(ids[event.node], event.samples.handles)
    state.counts["handles_unknown"] += int(np.count_nonzero(rows < 0))
    counters.stage(state.counters, rows, event.samples)


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
    nodes.fast_kubelet[node] = facts.fast_kubelet
    nodes.burst_writable[node] = facts.burst_writable


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
        row, found = take_container(state, node, facts, now)
        effects += found
        if row is not None:
            seen.add(row)
    if report.full_inventory:
        for row in fleet.rows_of_node(node).tolist():
            if row not in seen:
                remove_row(state, row)
    return effects
