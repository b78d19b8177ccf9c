"""The table: a row per container, thousands of nodes in one set of arrays.

Rows, pods and nodes are small integers that are used again after a removal. What other modules know
about a row they keep in tables of their own (`Table`), which grow and are reset together with the
fleet. A loop over rows has no place outside this module, and here only over rows that come or go.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mbcas_core.errors import MbcasError
from mbcas_core.table import Slots, Table, column
from mbcas_core.units import MAX_MILLICORES, BoolArray, FloatArray, IntArray


class FleetFullError(MbcasError):
    """A bound on nodes or containers is reached."""


class Nodes(Table):
    """What is known of each node."""

    alive: BoolArray = column(np.bool_, fill=False)
    connected: BoolArray = column(np.bool_, fill=False)
    """A shim has a stream; its inventory may still be missing."""
    attached: BoolArray = column(np.bool_, fill=False)
    """A shim is connected and has sent its inventory."""
    detach_time: FloatArray = column(np.float64, fill=np.nan)
    allocatable: IntArray = column()
    unmanaged: IntArray = column()
    cpu_count: IntArray = column(fill=1)
    cluster: IntArray = column()
    """Its place in `State.budgets`."""
    patches_pods: BoolArray = column(np.bool_, fill=False)
    report_time: FloatArray = column(np.float64, fill=-np.inf)
    next_round: FloatArray = column(np.float64, fill=np.inf)
    round: IntArray = column()
    round_time: FloatArray = column(np.float64, fill=np.nan)
    changed_tick: IntArray = column()
    waiting: BoolArray = column(np.bool_, fill=False)
    """A raise waits for CPU that a cut will free."""
    order_tokens: FloatArray = column(np.float64)
    """Orders that a shim which patches pods may be sent now."""
    fast_kubelet: BoolArray = column(np.bool_, fill=False)
    burst_writable: BoolArray = column(np.bool_, fill=False)
    silent: BoolArray = column(np.bool_, fill=False)
    """Its kubelet has not seen a change of ours for too long."""
    observed_time: FloatArray = column(np.float64, fill=-np.inf)
    """When its kubelet was last told to have seen a newer generation of some pod."""
    lag: FloatArray = column(np.float64, fill=np.nan)
    """Smoothed time from an order to the kernel, where pods are patched."""


class Pods(Table):
    """The bidders."""

    alive: BoolArray = column(np.bool_, fill=False)
    node: IntArray = column()
    weight: FloatArray = column(np.float64, fill=1.0)
    min_millicores: IntArray = column(fill=MAX_MILLICORES)
    """`min-cpu`, which lowers the floor; MAX_MILLICORES where it is not declared."""
    max_millicores: IntArray = column(fill=MAX_MILLICORES)
    min_acceptable: IntArray = column()
    order_time: FloatArray = column(np.float64, fill=-np.inf)
    """When its last order was sent."""
    generation: IntArray = column()
    """On Kubernetes: the newest that is known, and the newest that the kubelet has seen."""
    observed_generation: IntArray = column()
    unseen_since: FloatArray = column(np.float64, fill=np.nan)
    """Since when the kubelet has not seen a change of ours; NaN where it has."""
    pending: NDArray[np.int8] = column(np.int8)
    """A `Pending`, about the newest generation."""
    withdrawals: IntArray = column()
    """Asks taken back in a row."""
    withdrawn_until: FloatArray = column(np.float64, fill=-np.inf)
    resized: BoolArray = column(np.bool_, fill=False)
    """It was patched by MBCAS, now or in an earlier life of the server."""
    refusal_told: BoolArray = column(np.bool_, fill=False)
    class_weight: FloatArray = column(np.float64, fill=1.0)
    """Factor of the weight for what its containers were found to do."""
    shortage_smoothed: FloatArray = column(np.float64, width=(2,))
    """Of each good, among the others on its node (see `loops.response`)."""
    shortage_frozen: FloatArray = column(np.float64, width=(2,))
    """What its needs answer to for an epoch."""
    shortage_period_end: FloatArray = column(np.float64, fill=-np.inf)
    """End of the round period in which it was last shown a shortage."""
    epoch_rounds: IntArray = column(width=(2,))
    """Such periods of the epoch that have passed."""
    row_count: IntArray = column()


class Rows(Table):
    """What each container is: who it belongs to and what was declared at admission."""

    alive: BoolArray = column(np.bool_, fill=False)
    node: IntArray = column()
    pod: IntArray = column()
    handle: IntArray = column()
    admitted_request: IntArray = column()
    admitted_limit: IntArray = column()
    has_limit: BoolArray = column(np.bool_, fill=False)
    mode: NDArray[np.int8] = column(np.int8)
    policy: NDArray[np.int8] = column(np.int8)
    priority: NDArray[np.int8] = column(np.int8)
    strict: BoolArray = column(np.bool_, fill=False)
    skipped: BoolArray = column(np.bool_, fill=False)
    namespace: IntArray = column()
    """Index into `Namespaces`."""
    kube: BoolArray = column(np.bool_, fill=False)
    """It is on Kubernetes: a kubelet carries orders out, and its QoS class must stay."""
    guaranteed: BoolArray = column(np.bool_, fill=False)
    fixed: BoolArray = column(np.bool_, fill=False)
    """Its QoS class leaves its policy nothing to set."""
    keeps_gap: BoolArray = column(np.bool_, fill=False)
    """Its request must stay below its limit."""
    admitted_known: BoolArray = column(np.bool_, fill=True)
    request_set: BoolArray = column(np.bool_, fill=False)
    """The spec's request was last set by MBCAS; the same of the limit."""
    limit_set: BoolArray = column(np.bool_, fill=False)
    returns_request: BoolArray = column(np.bool_, fill=False)
    """MBCAS has set the request and no longer does: it goes back; the same of the limit."""
    returns_limit: BoolArray = column(np.bool_, fill=False)
    hold_until: FloatArray = column(np.float64, fill=-np.inf)
    """It was released, and is left alone until then."""
    steady_until: FloatArray = column(np.float64, fill=-np.inf)
    """It was there before this server: what it has is kept until enough is known of it."""
    unready: BoolArray = column(np.bool_, fill=False)
    starting_until: FloatArray = column(np.float64, fill=-np.inf)
    """Where it is not ready, it counts as starting until then."""
    tau: FloatArray = column(np.float64)
    generation: IntArray = column()
    restart_count: IntArray = column()
    seen_time: FloatArray = column(np.float64, fill=np.nan)
    """When the row was first seen or last restarted, whichever is later."""


class Namespaces(Table):
    """What is known of namespaces that have rows."""

    row_count: IntArray = column()
    failures: IntArray = column()
    """Raises refused in a row."""
    rest_until: FloatArray = column(np.float64, fill=-np.inf)


@dataclass(frozen=True, slots=True)
class Names:
    """Who a row is, in words."""

    pod_uid: str
    namespace: str
    pod: str
    container: str
    container_id: str


class Fleet:
    """Finds, adds and removes nodes, pods and rows."""

    def __init__(
        self,
        *,
        row_tables: Iterable[Table] = (),
        pod_tables: Iterable[Table] = (),
        node_tables: Iterable[Table] = (),
        max_nodes: int,
        max_rows: int,
    ) -> None:
        self.nodes = Nodes()
        self.pods = Pods()
        self.rows = Rows()
        self.namespaces = Namespaces()
        self._row_tables = [self.rows, *row_tables]
        self._node_slots = Slots([self.nodes, *node_tables])
        self._pod_tables = [self.pods, *pod_tables]
        self._pod_slots = Slots(self._pod_tables)
        self._row_slots = Slots(self._row_tables)
        self._namespace_slots = Slots([self.namespaces])
        self._namespace_by_name: dict[str, int] = {}
        self._max_nodes = max_nodes
        self._max_rows = max_rows
        self.node_names: dict[int, str] = {}
        self.names: dict[int, Names] = {}
        self.skip_reasons: dict[int, str] = {}
        """Of the rows that have one."""
        self.refusals: dict[int, str] = {}
        """Of the rows whose last order was refused with a sentence: that."""
        self._node_by_name: dict[str, int] = {}
        self._pod_by_uid: dict[tuple[int, str], int] = {}
        self._row_by_key: dict[tuple[int, str, str], int] = {}
        self._rows_by_pod_name: dict[tuple[str, str], set[int]] = {}
        self._rows_by_node: dict[int, set[int]] = {}
        self._sorted_rows: dict[int, IntArray] = {}
        self._row_by_handle: dict[int, dict[int, int]] = {}
        self._last_handles: dict[int, tuple[bytes, IntArray]] = {}
        self._last_many: tuple[bytes, bytes, IntArray] | None = None

    @property
    def row_count(self) -> int:
        return self._row_slots.used

    @property
    def node_count(self) -> int:
        return self._node_slots.used

    def nbytes(self) -> int:
        """Memory of all arrays of rows and pods."""
        return sum(table.nbytes() for table in (*self._row_tables, *self._pod_tables))

    def find_node(self, name: str) -> int | None:
        return self._node_by_name.get(name)

    def add_node(self, name: str) -> int:
        """Adds a node.

        Raises:
            FleetFullError: there are as many nodes as there may be.
        """
        if self.node_count >= self._max_nodes:
            raise FleetFullError(f"there are {self.node_count} nodes, as many as may be")
        node = self._node_slots.take()
        self.nodes.alive[node] = True
        self.node_names[node] = name
        self._node_by_name[name] = node
        self._rows_by_node[node] = set()
        self._row_by_handle[node] = {}
        return node

    def remove_node(self, node: int) -> None:
        """Removes a node and its rows."""
        for row in sorted(self._rows_by_node[node]):
            self.remove_row(row)
        del self._node_by_name[self.node_names.pop(node)]
        del self._rows_by_node[node], self._row_by_handle[node]
        self._sorted_rows.pop(node, None)
        self._forget_last(node)
        self._node_slots.give_back(node)

    def node_ids(self) -> IntArray:
        """Every node, ascending."""
        ids: IntArray = np.flatnonzero(self.nodes.alive)
        return ids

    def row_ids(self) -> IntArray:
        """Every row, ascending."""
        ids: IntArray = np.flatnonzero(self.rows.alive)
        return ids

    def find_row(self, node: int, pod_uid: str, container: str) -> int | None:
        return self._row_by_key.get((node, pod_uid, container))

    def add_row(self, node: int, handle: int, names: Names) -> int:
        """Adds a container to a node, and its pod where it is the first of it.

        Raises:
            FleetFullError: there are as many containers as there may be.
        """
        if self.row_count >= self._max_rows:
            raise FleetFullError(f"there are {self.row_count} containers, as many as may be")
        pod = self._pod_by_uid.get((node, names.pod_uid))
        if pod is None:
            pod = self._pod_slots.take()
            self.pods.alive[pod] = True
            self.pods.node[pod] = node
            self._pod_by_uid[node, names.pod_uid] = pod
        row = self._row_slots.take()
        self.pods.row_count[pod] += 1
        self.rows.alive[row] = True
        self.rows.node[row] = node
        self.rows.pod[row] = pod
        self.names[row] = names
        self.rows.namespace[row] = self._join_namespace(names.namespace)
        self._row_by_key[node, names.pod_uid, names.container] = row
        self._rows_by_node[node].add(row)
        self._rows_by_pod_name.setdefault((names.namespace, names.pod), set()).add(row)
        self.set_handle(row, handle)
        self._sorted_rows.pop(node, None)
        return row

    def set_handle(self, row: int, handle: int) -> None:
        """Lets a handle name this row; a row that had it loses it."""
        node = int(self.rows.node[row])
        handles = self._row_by_handle[node]
        old = int(self.rows.handle[row])
        if old == handle and handles.get(handle) == row:
            return
        if handles.get(old) == row:
            del handles[old]
        handles[handle] = row
        self.rows.handle[row] = handle
        self._forget_last(node)

    def forget_handles(self, node: int) -> None:
        """Makes every handle of a node unknown: a new stream gives them out anew."""
        self._row_by_handle[node] = {}
        self._forget_last(node)

    def row_of_handle(self, node: int, handle: int) -> int | None:
        return self._row_by_handle[node].get(handle)

    def rows_of_handles(self, node: int, handles: NDArray[np.int32]) -> IntArray:
        """Rows of these handles, shape (n,); -1 where a handle is not known.

        Most reports of a node name the same containers, so the last answer is kept.
        """
        key = handles.tobytes()
        last = self._last_handles.get(node)
        if last is not None and last[0] == key:
            return last[1]
        find = self._row_by_handle[node].get
        rows: IntArray = np.array([find(h, -1) for h in handles.tolist()], np.int64)
        self._last_handles[node] = (key, rows)
        return rows

    def rows_of_many(self, node: IntArray, handles: NDArray[np.int32]) -> IntArray:
        """The same for handles of many nodes: `node` (n,) is whose each is, -1: nobody's."""
        keys = node.tobytes(), handles.tobytes()
        if self._last_many is not None and self._last_many[:2] == keys:
            return self._last_many[2]
        nobodys: dict[int, int] = {}
        pairs = zip(node.tolist(), handles.tolist(), strict=True)
        found = [self._row_by_handle.get(own, nobodys).get(handle, -1) for own, handle in pairs]
        rows: IntArray = np.array(found, np.int64)
        self._last_many = (*keys, rows)
        return rows

    def _forget_last(self, node: int) -> None:
        """Handles of this node may name others than before."""
        self._last_handles.pop(node, None)
        self._last_many = None

    def remove_row(self, row: int) -> None:
        """Removes a container, and its pod with the last of them."""
        node, pod = int(self.rows.node[row]), int(self.rows.pod[row])
        names = self.names.pop(row)
        self.skip_reasons.pop(row, None)
        self.refusals.pop(row, None)
        self._leave_namespace(names.namespace)
        handle = int(self.rows.handle[row])
        if self._row_by_handle[node].get(handle) == row:
            del self._row_by_handle[node][handle]
        del self._row_by_key[node, names.pod_uid, names.container]
        self._rows_by_node[node].discard(row)
        same_name = self._rows_by_pod_name[names.namespace, names.pod]
        same_name.discard(row)
        if not same_name:
            del self._rows_by_pod_name[names.namespace, names.pod]
        self._sorted_rows.pop(node, None)
        self._forget_last(node)
        self.pods.row_count[pod] -= 1
        if self.pods.row_count[pod] == 0:
            del self._pod_by_uid[node, names.pod_uid]
            self._pod_slots.give_back(pod)
        self._row_slots.give_back(row)

    def _join_namespace(self, name: str) -> int:
        namespace = self._namespace_by_name.get(name)
        if namespace is None:
            namespace = self._namespace_by_name[name] = self._namespace_slots.take()
        self.namespaces.row_count[namespace] += 1
        return namespace

    def _leave_namespace(self, name: str) -> None:
        namespace = self._namespace_by_name[name]
        self.namespaces.row_count[namespace] -= 1
        if self.namespaces.row_count[namespace] == 0:
            del self._namespace_by_name[name]
            self._namespace_slots.give_back(namespace)

    def count_rows(self, node: int) -> int:
        """How many rows a node has."""
        return len(self._rows_by_node[node])

    def rows_of_node(self, node: int) -> IntArray:
        """A node's rows by pod, then row."""
        rows = self._sorted_rows.get(node)
        if rows is None:
            rows = np.array(sorted(self._rows_by_node[node]), np.int64)
            rows = rows[np.argsort(self.rows.pod[rows], kind="stable")]
            self._sorted_rows[node] = rows
        return rows

    def rows_of_pod(self, row: int) -> IntArray:
        """The rows of a row's pod."""
        if self.pods.row_count[self.rows.pod[row]] == 1:
            return np.array([row], np.int64)
        rows = self.rows_of_node(int(self.rows.node[row]))
        own: IntArray = rows[self.rows.pod[rows] == self.rows.pod[row]]
        return own

    def rows_of_pod_name(self, namespace: str, pod: str) -> list[int]:
        """Rows of every pod of this name, ascending: a pod that moves may be on two nodes."""
        return sorted(self._rows_by_pod_name.get((namespace, pod), ()))

    def select(self, nodes: IntArray) -> "Selection":
        """The rows of some nodes, grouped by node and pod."""
        parts = [self.rows_of_node(node) for node in nodes.tolist()]
        rows: IntArray = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return Selection.of(nodes=nodes, rows=rows, rows_table=self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """n rows of p pods of m nodes, sorted by node and pod.

    The index arrays count within the selection: they are what the market's groups are.
    """

    nodes: IntArray
    """Node ids, shape (m,)."""
    pods: IntArray
    """Pod ids, shape (p,)."""
    rows: IntArray
    """Row ids, shape (n,)."""
    node_of_pod: IntArray
    """Index into `nodes`, shape (p,), ascending."""
    pod_of_row: IntArray
    """Index into `pods`, shape (n,), ascending."""
    node_of_row: IntArray
    """Index into `nodes`, shape (n,), ascending."""

    @classmethod
    def of(cls, *, nodes: IntArray, rows: IntArray, rows_table: Rows) -> Self:
        """Groups rows that are already sorted by node (in the order of `nodes`) and pod."""
        pod = rows_table.pod[rows]
        first = np.ones(rows.size, np.bool_)
        first[1:] = pod[1:] != pod[:-1]
        starts = first.nonzero()[0]
        position = np.zeros(int(nodes.max(initial=-1)) + 1, np.int64)
        position[nodes] = np.arange(nodes.size)
        pod_of_row = np.cumsum(first) - 1
        node_of_pod = position[rows_table.node[rows[starts]]]
        return cls(
            nodes=nodes,
            pods=pod[starts],
            rows=rows,
            node_of_pod=node_of_pod,
            pod_of_row=pod_of_row,
            node_of_row=node_of_pod[pod_of_row],
        )
