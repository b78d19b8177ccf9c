"""Random markets in bulk, ordinary and degenerate ones.

A batch holds some hundred to thousand nodes in one set of arrays, so that a property of each is
checked by a few calls of the clearing. Small markets find most errors and large ones the rest:
pods per node are log-uniform from 1 to 300, of 1 to 6 containers. A node's CPU is drawn by what it
leaves above the floors, from less than the floors to more than the needs. Half of the markets are
ordinary, the others of a kind at the edge of what the rule can meet.

A batch is a function of (seed, batch index) alone: whatever is found in it can be found again.
"""

from dataclasses import dataclass
from enum import IntEnum, auto, unique

import numpy as np

from mbcas_core.market.clearing import Bids, sum_by, sum_counted_floors
from mbcas_core.market.pods import NO_CAP_MILLICORES, PodBids, container_weights
from mbcas_core.units import BoolArray, FloatArray, IntArray

MAX_PODS = 300
CONTAINERS_OF_POD = (0.6, 0.14, 0.1, 0.06, 0.05, 0.05)
"""How often a pod has 1, 2, ... 6 containers."""
MAX_HUGE_MILLICORES = 10**9
"""The largest need `Allocate` takes; 1,800 of them stay far below the 2^53 of a float."""
QUANTA_MILLICORES = (1, 1, 7, 10, 10, 10, 100)
ORDINARY_RATIO = 0.5
NO_CAP_RATIO = 0.7
NO_NEED_RATIO = 0.05
NO_FLOOR_RATIO = 0.2
PRIORITY_FACTORS = (0.7, 1.0, 1.5)
LEAST_WEIGHT = 10


@unique
class Kind(IntEnum):
    """What is special about a market."""

    ORDINARY = 0
    ONE_ROW = auto()
    NO_CAPACITY = auto()
    NO_NEED = auto()
    EQUAL_RATIOS = auto()
    """All pods are filled at the same level."""
    FLOORS_FILL = auto()
    """The counted floors use all of the node."""
    FLOORS_DO_NOT_FIT = auto()
    WIDE_WEIGHTS = auto()
    """From 10^-6 to 10^6."""
    ALL_EQUAL = auto()
    AT_DEMAND = auto()
    """Capacity is the sum of the needs, or 1m more or less."""
    HUGE = auto()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Markets:
    """m nodes with the bids of their pods, and how they came about."""

    bids: PodBids
    pods: Bids
    """(p,) what the pods bid: `bids.as_pods()`."""
    capacity_millicores: IntArray
    """(m,)"""
    quantum_millicores: int
    kind: IntArray
    """(m,) of `Kind`."""

    @property
    def count(self) -> int:
        """How many markets there are: m."""
        return int(self.capacity_millicores.size)

    def floors_fit(self) -> BoolArray:
        """Returns, shape (m,), where sum min(b, r) <= C."""
        fit: BoolArray = sum_counted_floors(self.pods, self.count) <= self.capacity_millicores
        return fit


def markets_of(
    bids: PodBids,
    capacity_millicores: IntArray,
    *,
    quantum_millicores: int,
    kind: IntArray | None = None,
) -> Markets:
    """Returns these nodes as markets to be checked."""
    return Markets(
        bids=bids,
        pods=bids.as_pods(),
        capacity_millicores=capacity_millicores,
        quantum_millicores=quantum_millicores,
        kind=np.zeros(capacity_millicores.size, dtype=np.int64) if kind is None else kind,
    )


def draw_markets(*, seed: int, batch: int, count: int = 1000) -> Markets:
    """Draws the markets of one batch: the same arguments give the same markets."""
    generator = np.random.default_rng([seed, batch])
    kind = _draw_kinds(generator, count)
    node, pod = _draw_shapes(generator, kind)
    need, floor, weight = _draw_containers(generator, kind, node[pod])
    pods = node.size
    admitted = sum_by(pod, floor, pods)
    bids = PodBids(
        pod=pod,
        need_millicores=need,
        floor_millicores=floor,
        weight=weight,
        node=node,
        pod_cap_millicores=_draw_caps(generator, sum_by(pod, need, pods), kind[node]),
        pod_weight=_draw_pod_weights(generator, admitted, kind[node]),
    )
    bids = _with_equal_ratios(bids, kind == Kind.EQUAL_RATIOS)
    return markets_of(
        bids,
        _draw_capacities(generator, bids.as_pods(), kind),
        quantum_millicores=int(generator.choice(QUANTA_MILLICORES)),
        kind=kind,
    )


def _draw_kinds(generator: np.random.Generator, count: int) -> IntArray:
    special: IntArray = generator.integers(1, len(Kind), count)
    ordinary = generator.random(count) < ORDINARY_RATIO
    return np.where(ordinary, int(Kind.ORDINARY), special)


def _draw_shapes(generator: np.random.Generator, kind: IntArray) -> tuple[IntArray, IntArray]:
    """Returns the node of each pod and the pod of each container."""
    count = kind.size
    pods_of_node = np.exp(generator.uniform(0, np.log(MAX_PODS + 1), count)).astype(np.int64)
    pods_of_node = np.minimum(pods_of_node, MAX_PODS)
    pods_of_node[kind == Kind.ONE_ROW] = 1
    node = np.repeat(np.arange(count), pods_of_node)
    most = len(CONTAINERS_OF_POD)
    rows_of_pod = generator.choice(most, size=node.size, p=CONTAINERS_OF_POD) + 1
    rows_of_pod[np.isin(kind[node], (Kind.ONE_ROW, Kind.ALL_EQUAL))] = 1
    return node, np.repeat(np.arange(node.size), rows_of_pod)


def _draw_containers(
    generator: np.random.Generator, kind: IntArray, node: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Returns need, floor and weight of each container; `node` is the container's."""
    rows, kind_of_row = node.size, kind[node]
    # Nodes differ in size, from a few millicores to many cores; containers log-normally.
    size = 10.0 ** generator.uniform(0.5, 3.5, kind.size)
    need, floor = (
        (size[node] * generator.lognormal(0.0, 1.0, rows)).astype(np.int64) for _ in range(2)
    )
    need[generator.random(rows) < NO_NEED_RATIO] = 0
    floor[generator.random(rows) < NO_FLOOR_RATIO] = 0

    equal = kind_of_row == Kind.ALL_EQUAL
    first = np.searchsorted(node, np.arange(kind.size))[node]
    need[equal], floor[equal] = need[first[equal]], floor[first[equal]]
    need[kind_of_row == Kind.NO_NEED] = 0
    huge = kind_of_row == Kind.HUGE
    need[huge] = generator.integers(0, MAX_HUGE_MILLICORES, rows, endpoint=True)[huge]
    floor[huge] = generator.integers(0, MAX_HUGE_MILLICORES // 2, rows)[huge]

    weight = container_weights(floor)
    wide = kind_of_row == Kind.WIDE_WEIGHTS
    return need, floor, np.where(wide, 10.0 ** generator.uniform(-6, 6, rows), weight)


def _draw_caps(generator: np.random.Generator, need: IntArray, kind: IntArray) -> IntArray:
    """Returns the cap of each pod; most have none, the others' cuts into some of their needs."""
    cap = (need * generator.uniform(0.0, 1.5, need.size)).astype(np.int64)
    uncapped = generator.random(need.size) < NO_CAP_RATIO
    return np.where(uncapped | (kind == Kind.ALL_EQUAL), NO_CAP_MILLICORES, cap)


def _draw_pod_weights(
    generator: np.random.Generator, admitted: IntArray, kind: IntArray
) -> FloatArray:
    factor = generator.choice(PRIORITY_FACTORS, admitted.size)
    factor = np.where(kind == Kind.ALL_EQUAL, 1.0, factor)
    weight = np.maximum(admitted, LEAST_WEIGHT) * factor
    wide = 10.0 ** generator.uniform(-6, 6, admitted.size)
    return np.where(kind == Kind.WIDE_WEIGHTS, wide, weight)


def _with_equal_ratios(bids: PodBids, equal: BoolArray) -> PodBids:
    """Gives the pods of these nodes weights in proportion to what they ask for above floors."""
    pods = bids.as_pods()
    asked = pods.need_millicores - np.minimum(pods.floor_millicores, pods.need_millicores)
    return PodBids(
        pod=bids.pod,
        need_millicores=bids.need_millicores,
        floor_millicores=bids.floor_millicores,
        weight=bids.weight,
        node=bids.node,
        pod_cap_millicores=bids.pod_cap_millicores,
        pod_weight=np.where(equal[bids.node], np.maximum(asked, 1) * 1.5, bids.pod_weight),
    )


def _draw_capacities(generator: np.random.Generator, pods: Bids, kind: IntArray) -> IntArray:
    """Returns each node's capacity: its floors and a share of what is asked for above them."""
    count = kind.size
    floors = sum_counted_floors(pods, count)
    demand = sum_by(pods.market, pods.need_millicores, count)
    fit = generator.uniform(-0.2, 1.2, count)
    above = np.where(fit < 0, floors, demand - floors) * fit
    capacity = floors + np.rint(above).astype(np.int64)
    too_small = (generator.random(count) * floors).astype(np.int64)
    near = demand + generator.integers(-1, 2, count)
    for special, value in (
        (Kind.NO_CAPACITY, np.zeros(count, dtype=np.int64)),
        (Kind.FLOORS_FILL, floors),
        (Kind.FLOORS_DO_NOT_FIT, too_small),
        (Kind.AT_DEMAND, near),
    ):
        capacity = np.where(kind == special, value, capacity)
    return np.maximum(capacity, 0)
