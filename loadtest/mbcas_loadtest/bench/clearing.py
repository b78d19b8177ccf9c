"""What the clearing costs: many markets in one call, both levels, with rounding to the quantum.

Shapes differ in what makes work: how many containers a pod has (several need the second level),
how much of the need fits (what is not rationed is neither searched nor rounded), and weights far
apart (more steps to the level). `round` is what a whole round does with the market: both goods,
targets and orders, with gauges and records. Both are measured on many small nodes and, as `dense`,
on 1,000 nodes at the 110 pods that a kubelet takes.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.market.clearing import sum_by, sum_counted_floors
from mbcas_core.market.goods import clear_targets, pod_weights
from mbcas_core.market.orders import OrderRows, clear_orders
from mbcas_core.market.pods import PodBids, clear_pods, container_weights
from mbcas_core.market.price import find_prices
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.parameters import Parameters
from mbcas_core.units import MAX_MILLICORES, IntArray
from mbcas_loadtest.clock import monotonic_seconds

QUANTUM_MILLICORES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of market: `fit` is the share of the wishes above floors that the node can grant."""

    rows_of_pod: tuple[int, ...]
    fit: float
    wide_weights: bool = False


SHAPES = {
    "one_container_rationed": Shape(rows_of_pod=(1,), fit=0.5),
    "mixed_rationed": Shape(rows_of_pod=(1, 1, 2, 1, 3), fit=0.5),
    "several_containers_rationed": Shape(rows_of_pod=(2, 3), fit=0.5),
    "several_containers_scarce": Shape(rows_of_pod=(2, 3), fit=0.05),
    "several_containers_wide_weights": Shape(rows_of_pod=(2, 3), fit=0.5, wide_weights=True),
    "several_containers_not_rationed": Shape(rows_of_pod=(2, 3), fit=1.0),
    "several_containers_floors_reduced": Shape(rows_of_pod=(2, 3), fit=-0.2),
}


DENSE_NODES, DENSE_ROWS = 1000, 110


def bench_clearing(
    *, nodes: int = 5000, rows_per_node: int = 30, repeat: int = 15, seed: int = 7
) -> dict[str, Any]:
    """Measures each shape and a whole round; medians over `repeat` calls after one to warm up."""
    return {
        "schema": "mbcas.bench.clearing/1",
        "quantum_millicores": QUANTUM_MILLICORES,
        "numpy": np.__version__,
        **_bench_size(np.random.default_rng(seed), nodes, rows_per_node, repeat),
        "dense": _bench_size(np.random.default_rng(seed), DENSE_NODES, DENSE_ROWS, repeat),
    }


def _bench_size(
    generator: np.random.Generator, nodes: int, rows_per_node: int, repeat: int
) -> dict[str, Any]:
    rows = nodes * rows_per_node
    shapes = {}
    for name, shape in SHAPES.items():
        bids, capacity = _draw_market(generator, shape, nodes, rows_per_node)
        shapes[name] = _measure(partial(_clear, bids, capacity), repeat, rows)
    return {
        "nodes": nodes,
        "rows": rows,
        "shapes": shapes,
        "round": _bench_round(generator, nodes, rows_per_node, repeat),
    }


def _clear(bids: PodBids, capacity: IntArray) -> None:
    cleared = clear_pods(bids, capacity, quantum_millicores=QUANTUM_MILLICORES)
    find_prices(cleared.nodes, capacity)


def _measure(call: Callable[[], object], repeat: int, rows: int) -> dict[str, float]:
    """Times calls by the wall's clock and by the CPU they used, which other load changes less."""
    call()
    wall_seconds, cpu_seconds = [], []
    for _ in range(repeat):
        wall, cpu = monotonic_seconds(), time.process_time()
        call()
        wall_seconds.append(monotonic_seconds() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    median = statistics.median(wall_seconds)
    return {
        "median_ms": round(median * 1000, 2),
        "max_ms": round(max(wall_seconds) * 1000, 2),
        "cpu_median_ms": round(statistics.median(cpu_seconds) * 1000, 2),
        "rows_per_second": round(rows / median),
    }


def _pods_of_rows(rows_of_pod: tuple[int, ...], rows_per_node: int, nodes: int) -> IntArray:
    """Returns each row's pod; pods follow the pattern and end with their node."""
    sizes: list[int] = []
    while (left := rows_per_node - sum(sizes)) > 0:
        sizes.append(min(rows_of_pod[len(sizes) % len(rows_of_pod)], left))
    pod_of_row: IntArray = np.repeat(np.arange(nodes * len(sizes)), np.tile(sizes, nodes))
    return pod_of_row


def _draw_market(
    generator: np.random.Generator, shape: Shape, nodes: int, rows_per_node: int
) -> tuple[PodBids, IntArray]:
    """Returns bids whose nodes can grant the shape's share of what lies above the floors."""
    pod = _pods_of_rows(shape.rows_of_pod, rows_per_node, nodes)
    rows, pods = pod.size, int(pod[-1]) + 1
    floor = generator.integers(10, 500, rows)
    need = generator.integers(10, 1000, rows)
    factor = generator.choice([0.7, 1.0, 1.5], pods)
    if shape.wide_weights:
        factor = 10.0 ** generator.uniform(-6, 6, pods)
    bids = PodBids(
        pod=pod,
        need_millicores=need,
        floor_millicores=floor,
        weight=container_weights(floor),
        node=np.repeat(np.arange(nodes), pods // nodes),
        pod_cap_millicores=np.full(pods, MAX_MILLICORES),
        pod_weight=sum_by(pod, floor, pods) * factor,
    )
    as_pods = bids.as_pods()
    promised = sum_counted_floors(as_pods, nodes)
    wished = sum_by(bids.node, as_pods.need_millicores, nodes) - promised
    capacity: IntArray = np.maximum(promised + (wished * shape.fit).astype(np.int64), 0)
    return bids, capacity


def _bench_round(
    generator: np.random.Generator, nodes: int, rows_per_node: int, repeat: int
) -> dict[str, Any]:
    """Measures targets and orders of both goods on nodes of mixed pods that are short of CPU."""
    rows, pods, market_nodes = _draw_world(generator, nodes, rows_per_node)
    parameters = Parameters()
    targets = clear_targets(rows, pods, market_nodes, parameters=parameters)
    order_rows = _draw_orders(generator, rows, pods, targets)

    def clear_both() -> None:
        clear_targets(rows, pods, market_nodes, parameters=parameters)
        _clear_orders(order_rows, targets, parameters)

    count = rows.pod.size
    return {
        "targets": _measure(
            lambda: clear_targets(rows, pods, market_nodes, parameters=parameters), repeat, count
        ),
        "orders": _measure(lambda: _clear_orders(order_rows, targets, parameters), repeat, count),
        "whole": _measure(clear_both, repeat, count),
    }


def _clear_orders(rows: OrderRows, targets: Targets, parameters: Parameters) -> None:
    clear_orders(
        rows,
        reservation_limit_millicores=targets.reservation_limit_millicores,
        ceiling_limit_millicores=targets.ceiling_limit_millicores,
        quantum_millicores=parameters.quantum_millicores,
    )


def _draw_world(
    generator: np.random.Generator, nodes: int, rows_per_node: int
) -> tuple[MarketRows, MarketPods, MarketNodes]:
    """Draws nodes whose requests are three quarters of the CPU and whose needs exceed it."""
    pod = _pods_of_rows(SHAPES["mixed_rationed"].rows_of_pod, rows_per_node, nodes)
    pod_count = int(pod[-1]) + 1
    request = generator.integers(10, 500, pod.size)
    limit = request + generator.integers(0, 500, pod.size)
    rows = MarketRows(
        pod=pod,
        takes_part=np.ones(pod.size, dtype=np.bool_),
        policy=np.full(pod.size, int(Policy.REQUESTS_AND_LIMITS), dtype=np.int64),
        strict=np.zeros(pod.size, dtype=np.bool_),
        has_limit=np.ones(pod.size, dtype=np.bool_),
        admitted_request_millicores=request,
        admitted_limit_millicores=limit,
        reservation_need_millicores=generator.integers(10, 900, pod.size),
        ceiling_need_millicores=generator.integers(10, 4000, pod.size),
        fixed_reservation_millicores=request,
        fixed_ceiling_millicores=limit,
    )
    factor = generator.choice([0.7, 1.0, 1.5], pod_count)
    undeclared: IntArray = np.full(pod_count, MAX_MILLICORES)
    pods = MarketPods(
        node=np.repeat(np.arange(nodes), pod_count // nodes),
        weight=pod_weights(pod, request, factor, parameters=Parameters()),
        declared_min_millicores=undeclared,
        declared_max_millicores=undeclared,
    )
    allocatable = sum_by(pods.node[pod], request, nodes) * 4 // 3
    market_nodes = MarketNodes(
        allocatable_millicores=allocatable, unmanaged_millicores=np.zeros(nodes, dtype=np.int64)
    )
    return rows, pods, market_nodes


def _draw_orders(
    generator: np.random.Generator, rows: MarketRows, pods: MarketPods, targets: Targets
) -> OrderRows:
    """Returns books in which rows hold between half of their target and all of it."""
    held = generator.uniform(0.5, 1.0, rows.pod.size)
    reservation_billed = (targets.reservation_millicores * held).astype(np.int64)
    ceiling_billed = (targets.ceiling_millicores * held).astype(np.int64)
    return OrderRows(
        pod=rows.pod,
        weight=targets.reservation.weight,
        has_limit=rows.has_limit,
        hard_quota=np.zeros(rows.pod.size, dtype=np.bool_),
        reservation_floor_millicores=targets.reservation.floor_millicores,
        ceiling_floor_millicores=rows.admitted_limit_millicores,
        reservation_target_millicores=targets.reservation_millicores,
        ceiling_target_millicores=targets.ceiling_millicores,
        reservation_billed_millicores=reservation_billed,
        ceiling_billed_millicores=ceiling_billed,
        node=pods.node,
        pod_weight=pods.weight,
    )
