"""What kubelets let us send: they carry out one change of a pod at a time, and some are silent.

A pod gets no order before its kubelet has seen the last change, nor while an ask is pending. Where
a change of ours has not been seen for 10 s (30 s before Kubernetes 1.36), and nothing else was seen
on that node since, its kubelet is *silent*: the API server would take further patches without a
word, and all of them would come true at once when it is back. So nothing is sent to the node then.
"""

import numpy as np

from mbcas_core.effects import Effect, Notice
from mbcas_core.events import Pending
from mbcas_core.state import State
from mbcas_core.units import BoolArray, FloatArray, IntArray

SILENT_SECONDS = 30.0
FAST_SILENT_SECONDS = 10.0
LAG_GAIN = 0.3
LAG_MAX_SECONDS = 30.0
"""What a kubelet that was away makes of its lag must not slow the node down for long."""
HOLD_OFF_LAGS = 2.0

# Compared with an array, a plain number costs less than an enum's member.
_DEFERRED, _INFEASIBLE, _FAILING = (
    int(pending) for pending in (Pending.DEFERRED, Pending.INFEASIBLE, Pending.FAILING)
)

SILENT = "kubelet is silent"
BACK = "kubelet is back"


def watch(state: State, *, now_seconds: float) -> list[Effect]:
    """Measures each node's lag and notices kubelets that fall silent or are back."""
    _measure_lag(state)
    fleet, pods, nodes = state.fleet, state.fleet.pods, state.fleet.nodes
    waited = now_seconds - pods.unseen_since
    fast = nodes.fast_kubelet[pods.node]
    overdue = pods.alive & (waited > np.where(fast, FAST_SILENT_SECONDS, SILENT_SECONDS))
    overdue &= pods.unseen_since >= nodes.observed_time[pods.node]
    silent = np.zeros(nodes.capacity, np.bool_)
    silent[pods.node[overdue]] = True
    if not (silent.any() or nodes.silent.any()):
        return []
    silent &= nodes.alive & nodes.attached
    # While its shim is away nobody knows; a node stays what it was.
    silent |= nodes.silent & nodes.alive & ~nodes.attached
    changed: IntArray = np.flatnonzero(silent != nodes.silent)
    nodes.silent[:] = silent
    nodes.next_round[changed] = -np.inf
    return [
        Notice(
            node=fleet.node_names[node],
            event=SILENT if silent[node] else BACK,
            detail=f"pods_waiting={np.count_nonzero(overdue & (pods.node == node))}",
        )
        for node in changed.tolist()
        if nodes.alive[node]
    ]


def _measure_lag(state: State) -> None:
    """Smooths, for each node, the lags that were measured since the last tick."""
    table, nodes = state.ledger, state.fleet.nodes
    rows: IntArray = np.flatnonzero(table.arrived)
    if rows.size == 0:
        return
    table.arrived[rows] = False
    node = state.fleet.rows.node[rows]
    count = np.bincount(node, minlength=nodes.capacity)
    lag = np.minimum(table.lag[rows], LAG_MAX_SECONDS)
    mean = np.bincount(node, lag, nodes.capacity) / np.maximum(count, 1)
    before = np.where(np.isnan(nodes.lag), mean, nodes.lag)
    own = count > 0
    nodes.lag[own] = (before + LAG_GAIN * (mean - before))[own]


def hold_off(state: State, rows: IntArray) -> FloatArray:
    """The least time between two emergencies of a pod, for how long its node takes, in seconds."""
    lag = np.nan_to_num(state.fleet.nodes.lag[state.fleet.rows.node[rows]])
    hold: FloatArray = HOLD_OFF_LAGS * lag
    return hold


def is_silent(state: State, rows: IntArray) -> BoolArray:
    """True where nothing is sent because the node's kubelet is silent."""
    silent: BoolArray = state.fleet.nodes.silent[state.fleet.rows.node[rows]]
    return silent


def is_behind(state: State, rows: IntArray) -> BoolArray:
    """True where the kubelet has not seen the pod's newest generation yet."""
    pods, pod = state.fleet.pods, state.fleet.rows.pod[rows]
    seen = pods.observed_generation[pod]
    behind: BoolArray = (seen > 0) & (seen < pods.generation[pod]) & state.fleet.rows.kube[rows]
    return behind


def is_pending(state: State, rows: IntArray) -> BoolArray:
    """True where the kubelet does not admit what the pod asks for."""
    pending = state.fleet.pods.pending[state.fleet.rows.pod[rows]]
    held: BoolArray = (pending == _DEFERRED) | (pending == _INFEASIBLE)
    return held


def is_failing(state: State, rows: IntArray) -> BoolArray:
    """True where the kubelet fails to carry out the pod's spec: only less is asked of it."""
    failing: BoolArray = state.fleet.pods.pending[state.fleet.rows.pod[rows]] == _FAILING
    return failing


def takes_orders(state: State, rows: IntArray) -> BoolArray:
    """True where the kubelet is ready for another change of the row's pod."""
    closed = is_silent(state, rows) | is_behind(state, rows) | is_pending(state, rows)
    return ~closed


def may_raise(state: State, rows: IntArray, *, now_seconds: float) -> BoolArray:
    """True where nothing forbids to raise: no refusal in the namespace, no failing pod."""
    return ~(namespace_rests(state, rows, now_seconds=now_seconds) | is_failing(state, rows))


def namespace_rests(state: State, rows: IntArray, *, now_seconds: float) -> BoolArray:
    """True where the namespace refused a raise a while ago."""
    namespaces, namespace = state.fleet.namespaces, state.fleet.rows.namespace[rows]
    rests: BoolArray = now_seconds < namespaces.rest_until[namespace]
    return rests
