"""Random nodes with pods and containers of every policy, as the market of both goods sees them."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from mbcas_core.events import Policy
from mbcas_core.market.audit_targets import audit_targets
from mbcas_core.market.goods import clear_targets, pod_weights
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.parameters import Parameters
from mbcas_core.units import MAX_MILLICORES, FloatArray, IntArray

CPU = st.integers(0, 3000)


@dataclass(frozen=True)
class World:
    """What one call of `clear_targets` gets."""

    rows: MarketRows
    pods: MarketPods
    nodes: MarketNodes
    parameters: Parameters

    @property
    def node_of_row(self) -> IntArray:
        return self.pods.node[self.rows.pod]

    def clear(self) -> Targets:
        """Clears it, and audits what comes of it."""
        parameters = self.parameters
        targets = clear_targets(self.rows, self.pods, self.nodes, parameters=parameters)
        found = audit_targets(self.rows, self.pods, self.nodes, targets, parameters=parameters)
        assert found == []
        return targets


def one_node(
    *rows: dict[str, int | bool],
    allocatable: int = 4000,
    unmanaged: int = 0,
    parameters: Parameters | None = None,
) -> World:
    """Builds a node on which each row is a pod of its own.

    A row may say: policy, takes_part, strict, request, limit (none: no limit), need (of both),
    reservation_need, ceiling_need, min, max.
    """

    def column(name: str, default: int) -> IntArray:
        return np.array([row.get(name, default) for row in rows], dtype=np.int64)

    request = column("request", 0)
    limit = column("limit", 0)
    market_rows = MarketRows(
        pod=np.arange(len(rows), dtype=np.int64),
        takes_part=column("takes_part", 1).astype(np.bool_),
        policy=column("policy", Policy.REQUESTS_AND_LIMITS),
        strict=column("strict", 0).astype(np.bool_),
        has_limit=limit > 0,
        admitted_request_millicores=request,
        admitted_limit_millicores=limit,
        reservation_need_millicores=column("reservation_need", 0) + column("need", 0),
        ceiling_need_millicores=column("ceiling_need", 0) + column("need", 0),
        fixed_reservation_millicores=request,
        fixed_ceiling_millicores=limit,
    )
    parameters = parameters or Parameters()
    pods = MarketPods(
        node=np.zeros(len(rows), dtype=np.int64),
        weight=pod_weights(market_rows.pod, request, np.ones(len(rows)), parameters=parameters),
        declared_min_millicores=column("min", MAX_MILLICORES),
        declared_max_millicores=column("max", MAX_MILLICORES),
    )
    nodes = MarketNodes(
        allocatable_millicores=np.array([allocatable]),
        unmanaged_millicores=np.array([unmanaged]),
    )
    return World(market_rows, pods, nodes, parameters)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draws one to three nodes of up to five pods of one to three containers."""
    pods_of_node = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    pods = sum(pods_of_node)
    rows_of_pod = draw(st.lists(st.integers(1, 3), min_size=pods, max_size=pods))
    pod_of_row: IntArray = np.repeat(np.arange(pods, dtype=np.int64), rows_of_pod)

    def column(strategy: st.SearchStrategy[int], count: int) -> IntArray:
        values = draw(st.lists(strategy, min_size=count, max_size=count))
        return np.array(values, dtype=np.int64)

    n = pod_of_row.size
    request = column(CPU, n)
    limit = request + column(CPU, n)
    policy = column(st.sampled_from(list(Policy)), pods)[pod_of_row]
    rows = MarketRows(
        pod=pod_of_row,
        takes_part=column(st.sampled_from([0, 1, 1, 1]), n).astype(np.bool_),
        policy=policy,
        strict=column(st.sampled_from([0, 0, 1]), pods)[pod_of_row].astype(np.bool_),
        has_limit=column(st.sampled_from([0, 1, 1]), n).astype(np.bool_),
        admitted_request_millicores=request,
        admitted_limit_millicores=limit,
        reservation_need_millicores=column(CPU, n),
        ceiling_need_millicores=column(CPU, n),
        fixed_reservation_millicores=request,
        fixed_ceiling_millicores=limit,
    )
    factor: FloatArray = np.array(
        draw(st.lists(st.sampled_from([0.7, 1.0, 1.5]), min_size=pods, max_size=pods))
    )
    parameters = Parameters(
        quantum_millicores=draw(st.sampled_from([1, 10])),
        ceiling_overcommit=draw(st.sampled_from([1.0, 1.7, 3.0])),
        reclaim_max_fraction=draw(st.sampled_from([0.0, 0.3, 1.0])),
    )
    undeclared = st.just(MAX_MILLICORES)
    market_pods = MarketPods(
        node=np.repeat(np.arange(len(pods_of_node), dtype=np.int64), pods_of_node),
        weight=pod_weights(pod_of_row, request, factor, parameters=parameters),
        declared_min_millicores=column(st.one_of(undeclared, CPU), pods),
        declared_max_millicores=column(st.one_of(undeclared, CPU), pods),
    )
    nodes = MarketNodes(
        allocatable_millicores=column(st.integers(0, 30_000), len(pods_of_node)),
        unmanaged_millicores=column(st.integers(0, 2000), len(pods_of_node)),
    )
    return World(rows, market_pods, nodes, parameters)


def with_everyone(world: World) -> World:
    """The world of the shadow clearing."""
    takes_part = np.ones_like(world.rows.takes_part)
    return replace(world, rows=replace(world.rows, takes_part=takes_part))
