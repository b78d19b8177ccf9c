"""The state machine: `handle(event) -> effects`.

One second of it: reports are copied in as they arrive; at the tick they are judged all at once,
rows that are throttled are lifted together, and the markets of the nodes that are due are cleared.
Same events, same effects, byte for byte: time comes with the events, nothing is random, and every
iteration has a fixed order.
"""

import math
import zlib
from collections.abc import Callable
from typing import assert_never

import numpy as np

from mbcas_core import containers, intake, ledger
from mbcas_core.effects import Effect, RequestInventory
from mbcas_core.events import (
    Event,
    NodeAttached,
    NodeDetached,
    ReleaseAsked,
    ReportArrived,
    SamplesArrived,
    TickDue,
    WritesFrozen,
)
from mbcas_core.loops import fast, kubelet, release, slow, withdraw
from mbcas_core.parameters import Parameters
from mbcas_core.signals import counters, windows
from mbcas_core.stability.resize_budget import cluster_rate
from mbcas_core.state import PodShare, State
from mbcas_core.units import IntArray
from mbcas_core.workload import bursts

FORGET_SECONDS = 3600.0
"""A node whose shim has been gone for so long is forgotten."""


class Rounds:
    """Every node, pod and container this server knows, and what is decided about them."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        share: PodShare | None = None,
        cluster_of: Callable[[str], int] | None = None,
    ) -> None:
        """Starts without nodes.

        Args:
            parameters: What can be tuned.
            share: How pods share reservations, for comparisons with other rules (README); None:
                by `market.clearing.clear`.
            cluster_of: The number of the cluster of a node's name, for simulations of several side
                by side, each with its resize budget; None: all nodes are of one.
        """
        self.parameters = parameters
        self.state = State(parameters, share=share, cluster_of=cluster_of)

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the start, by name: refusals, drops, skips."""
        return dict(self.state.counts)

    @property
    def tick_count(self) -> int:
        return self.state.tick_count

    def handle(self, event: Event) -> list[Effect]:
        """Applies one event and returns what the caller must now do, in order."""
        match event:
            case ReportArrived():
                return intake.take_report(self.state, event)
            case SamplesArrived():
                intake.take_samples(self.state, event)
            case TickDue():
                return _tick(self.state, event.time_seconds)
            case NodeAttached():
                return intake.attach(self.state, event)
            case NodeDetached():
                return intake.detach(self.state, event)
            case WritesFrozen():
                self.state.frozen = event.frozen
            case ReleaseAsked():
                release.hold(self.state, event)
            case _:
                assert_never(event)
        return []


def _tick(state: State, now: float) -> list[Effect]:
    fleet = state.fleet
    state.tick_count += 1
    seconds = counters.judge(
        state.counters,
        cpu_count=fleet.nodes.cpu_count[fleet.rows.node],
        now_seconds=now,
        dropped=state.counts,
    )
    windows.push(state.windows, seconds)
    state.counts["bursts_detected"] += bursts.step(state.bursts, seconds)
    ledger.observe_samples(
        state.ledger, seconds.rows, state.counters.quota[seconds.rows], now_seconds=now
    )
    observed = state.windows.seconds[seconds.rows]
    enough = observed >= state.parameters.min_observed_seconds
    enough &= observed - seconds.count < state.parameters.min_observed_seconds
    fleet.nodes.next_round[fleet.rows.node[seconds.rows[enough]]] = -math.inf
    effects = _give_up_orders(state, now)
    _refill(state, now)
    effects += kubelet.watch(state, now_seconds=now)
    if not state.frozen:
        effects += withdraw.run(state, now_seconds=now)
        effects += release.run(state, now_seconds=now)
        effects += fast.run(state, seconds, now_seconds=now)
    due = _due(state, now)
    if due.size:
        effects += slow.run(state, due, now_seconds=now)
        fleet.nodes.changed_tick[due] = state.tick_count
    fleet.nodes.changed_tick[fleet.rows.node[seconds.rows]] = state.tick_count
    _forget_nodes(state, now)
    state.tick_time = now
    return effects


def _give_up_orders(state: State, now: float) -> list[Effect]:
    """Orders without a result after their time: ask the shim what is there."""
    table, fleet = state.ledger, state.fleet
    late = fleet.rows.alive & (table.outcome == ledger.IN_FLIGHT)
    late &= now - table.order_time > state.parameters.order_timeout_seconds
    rows: IntArray = np.flatnonzero(late)
    if rows.size == 0:
        return []
    state.counts["orders_unanswered"] += rows.size
    intake.forget_orders(state, rows)
    return [
        RequestInventory(node=fleet.node_names[node], reason="an order was not answered")
        for node in np.unique(fleet.rows.node[rows]).tolist()
    ]


def _refill(state: State, now: float) -> None:
    parameters, nodes = state.parameters, state.fleet.nodes
    for cluster, budget in state.budgets.items():
        rate = parameters.resize_budget_per_second
        if rate is None:
            rate = cluster_rate(int(np.sum(nodes.alive & (nodes.cluster == cluster))))
        budget.refill(rate_per_second=rate, now_seconds=now)
    elapsed = max(now - state.tick_time, 0.0)
    own = np.where(
        nodes.fast_kubelet,
        parameters.fast_node_orders_per_second,
        parameters.node_orders_per_second,
    )
    nodes.order_tokens[:] = np.minimum(
        nodes.order_tokens + own * elapsed, np.maximum(1.0, 2.0 * own)
    )


def _due(state: State, now: float) -> IntArray:
    """The nodes to clear now, ascending; sets when each is due again.

    A node's phase is crc32 of its name mod the round, so that each second clears its share of them.
    """
    nodes, period = state.fleet.nodes, state.parameters.round_period_seconds
    due: IntArray = np.flatnonzero(
        nodes.attached & ((nodes.next_round <= now) | (nodes.round == 0))
    )
    for node in due.tolist():  # A fifteenth of the nodes.
        phase = zlib.crc32(state.fleet.node_names[node].encode()) % round(period * 1000) / 1000
        nodes.next_round[node] = now - (now - phase) % period + period
    return due


def _forget_nodes(state: State, now: float) -> None:
    nodes = state.fleet.nodes
    gone = nodes.alive & ~nodes.connected & (now - nodes.detach_time > FORGET_SECONDS)
    for node in np.flatnonzero(gone).tolist():
        for row in state.fleet.rows_of_node(node).tolist():
            containers.remove_row(state, row)
        state.fleet.remove_node(node)
