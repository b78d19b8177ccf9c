"""From rows to targets: both goods of every node, cleared in one call each.

**Reservations.** What is available on a node is A = allocatable - requests of unmanaged pods -
reservations of rows that are fixed. The reserve bounds the surplus but never cuts into floors:
supply C = max(A - reserve, min(A, sum b')), at least 0. A row bids its need; its floor is its
admitted request, which `min-cpu` may lower. No reservation is bid above the admitted limit: what is
used beyond it is the ceiling's business.

What idles is reclaimed (a floor counts only up to the need), but the scheduler hands out what is
freed, so a node gives up at most F = `reclaim_max_fraction` of its allocatable CPU: where the rows
would free G = sum max(0, b - r) > F, needs rise to b - floor((b - r) F / G). Example: floors 500
and 300, needs 100 and 100, F = 300. G = 600, so the needs become 300 and 200.

**Ceiling headroom**, the part of a limit above the reservation. With the reservations known, a row
has the floor f = max(0, admitted limit - reservation), 0 where strict, and bids
max(f, ceiling need - reservation, 0). Ceilings may add up to `ceiling_overcommit` times all CPU
there is for managed rows, so the supply is that less all reservations and less the headroom of
fixed rows, but at least sum f: admitted limits are never cut. A node on which a strict row bids has
overcommit 1, so that its ceilings fit the node as far as admitted limits of others allow.

**The goods do not mix**, unless strict: with x_r at most the admitted limit, a row that is rationed
has the ceiling x_r + f + w L = admitted limit + w L, and the surplus that L shares out is what
ceilings may add up to less the sum of admitted limits. The own reservation is in neither (but by
at most the reserve, where floors reach into it), so a false reservation need buys no ceiling.

**What refusals and credits change.** Reservations alone: floors may have grown out of the surplus
(`participation`), and between the two levels credits may move a part from pod to pod (`credits`).

All CPU for managed rows is C + reservations of fixed rows: where the policy fixes every
reservation, the ceilings share the same node.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.market import participation
from mbcas_core.market.clearing import Bids, Share, clear, sum_by, sum_counted_floors
from mbcas_core.market.credits import lend
from mbcas_core.market.pods import (
    PodBids,
    PodClearing,
    clear_pods,
    container_weights,
    share_in_pods,
)
from mbcas_core.market.price import find_prices
from mbcas_core.market.supply import find_supply
from mbcas_core.market.targets import (
    Acceptance,
    GoodTargets,
    MarketNodes,
    MarketPods,
    MarketRows,
    Targets,
)
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, FloatArray, IntArray


def pod_weights(
    pod: IntArray,
    admitted_request_millicores: IntArray,
    priority_factor: FloatArray,
    *,
    parameters: Parameters,
) -> FloatArray:
    """Returns the weight of every pod: its admitted requests times the factor of its priority.

    Args:
        pod: Index of each row's pod, shape (n,).
        admitted_request_millicores: Of each row, shape (n,), 0 where there is none.
        priority_factor: Of each pod, shape (p,).
        parameters: For the least weight before the factor.
    """
    admitted = sum_by(pod, admitted_request_millicores, priority_factor.size)
    weight: FloatArray = (
        np.maximum(parameters.default_request_millicores, admitted) * priority_factor
    )
    return weight


def clear_targets(
    rows: MarketRows,
    pods: MarketPods,
    nodes: MarketNodes,
    *,
    parameters: Parameters,
    share: Share = clear,
) -> Targets:
    """Clears both goods on every node.

    Recommendations come from a second call in which rows in mode `recommend` take part
    (`dataclasses.replace(rows, takes_part=...)`).

    Args:
        rows: All containers of the nodes.
        pods: Their pods.
        nodes: The nodes.
        parameters: Of the market.
        share: How pods share reservations. Another rule than `clear` is for comparisons alone:
            what the README promises is promised of `clear`.
    """
    pod_cap = _cap_pods(rows, pods, nodes, parameters)
    reserved = _clear_reservations(rows, pods, nodes, pod_cap, parameters, share=share)
    headroom = _clear_headroom(rows, pods, reserved, pod_cap, parameters)
    return Targets(
        reservation_millicores=reserved.target,
        ceiling_millicores=headroom.ceiling,
        reclaim_bound=reserved.reclaim_bound,
        reservation=reserved.good,
        ceiling_headroom=headroom.good,
        reclaim_factor=reserved.reclaim_factor,
        available_millicores=reserved.available,
        reserve_millicores=reserved.reserve,
        overcommit=headroom.overcommit,
        ceilings_exhausted=headroom.exhausted,
        reservation_limit_millicores=reserved.limit,
        ceiling_limit_millicores=headroom.limit,
    )


def _cap_pods(
    rows: MarketRows, pods: MarketPods, nodes: MarketNodes, parameters: Parameters
) -> IntArray:
    """Returns what each pod may have in all, fixed rows included.

    A row without a limit counts with its request, so that the default never undercuts a floor.
    """
    admitted = sum_by(
        rows.pod,
        np.where(rows.has_limit, rows.admitted_limit_millicores, rows.admitted_request_millicores),
        pods.node.size,
    )
    share = (nodes.allocatable_millicores * parameters.pod_cap_ratio).astype(np.int64)
    cap: IntArray = np.minimum(pods.declared_max_millicores, np.maximum(share[pods.node], admitted))
    return cap


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reserved:
    """The reservations' half of the targets."""

    good: GoodTargets
    target: IntArray
    reclaim_bound: BoolArray
    reclaim_factor: FloatArray
    available: IntArray
    reserve: IntArray
    limit: IntArray


def _clear_reservations(
    rows: MarketRows,
    pods: MarketPods,
    nodes: MarketNodes,
    pod_cap: IntArray,
    parameters: Parameters,
    *,
    share: Share,
) -> _Reserved:
    """Clears the reservations of every node."""
    node_count, pod_count = nodes.allocatable_millicores.size, pods.node.size
    node_of_row = pods.node[rows.pod]
    bids = rows.takes_part & (rows.policy != Policy.LIMITS_ONLY)
    fixed: IntArray = np.where(bids, 0, rows.fixed_reservation_millicores)
    fixed_of_pod = sum_by(rows.pod, fixed, pod_count)

    floor = _lower_floors(rows, pods, np.where(bids, rows.admitted_request_millicores, 0))
    wish = np.where(bids, _find_reservation_needs(rows), 0)
    need, factor = _bound_reclaim(wish, floor, node_of_row, nodes, parameters)

    pod_bids = PodBids(
        pod=rows.pod,
        need_millicores=need,
        floor_millicores=floor,
        weight=container_weights(rows.admitted_request_millicores),
        node=pods.node,
        pod_cap_millicores=np.maximum(pod_cap - fixed_of_pod, 0),
        pod_weight=pods.weight,
    )
    fixed_of_node = sum_by(node_of_row, fixed, node_count)
    available: IntArray = nodes.allocatable_millicores - nodes.unmanaged_millicores - fixed_of_node
    reserve: IntArray = np.maximum(
        parameters.reserve_millicores,
        np.ceil(nodes.allocatable_millicores * parameters.reserve_ratio).astype(np.int64),
    )
    of_pods = pod_bids.as_pods()
    floor_sum = sum_counted_floors(of_pods, node_count)
    supply = find_supply(available, reserve, floor_sum)
    good = _clear_accepted(
        bids,
        pod_bids,
        of_pods,
        _leave_fixed(pods.acceptance, fixed_of_pod),
        supply=np.maximum(supply, 0),
        surplus=supply - floor_sum,
        quantum=parameters.quantum_millicores,
        share=share,
    )
    return _Reserved(
        good=good,
        target=good.target_millicores + fixed,
        reclaim_bound=need > wish,
        reclaim_factor=factor,
        available=available,
        reserve=reserve,
        limit=np.maximum(supply + fixed_of_node, 0),
    )


def _leave_fixed(acceptance: Acceptance | None, fixed_of_pod: IntArray) -> Acceptance | None:
    """Leaves what is still to be bid for: fixed rows count toward what is acceptable."""
    if acceptance is None:
        return None
    open_part = np.maximum(acceptance.acceptable_millicores - fixed_of_pod, 0)
    return replace(acceptance, acceptable_millicores=open_part)


def _clear_accepted(
    takes_part: BoolArray,
    bids: PodBids,
    pods: Bids,
    acceptance: Acceptance | None,
    *,
    supply: IntArray,
    surplus: IntArray,
    quantum: int,
    share: Share,
) -> GoodTargets:
    """Clears reservations; floors may have grown with refusals, and credits may move a part."""
    if acceptance is None:
        nodes = share(pods, supply, quantum_millicores=quantum)
        cleared = share_in_pods(bids, pods, nodes, quantum_millicores=quantum)
        return _record(takes_part, bids, cleared, supply)
    acceptable = acceptance.acceptable_millicores
    if acceptance.floor_growth_millicores.any():
        floors = participation.grow_floors(
            bids,
            acceptable_millicores=acceptable,
            growth_millicores=acceptance.floor_growth_millicores,
            surplus_millicores=surplus,
        )
        bids = replace(bids, floor_millicores=floors)
        pods = bids.as_pods()
    nodes = share(pods, supply, quantum_millicores=quantum)
    moved = lend(
        pods,
        nodes,
        supply,
        acceptable_millicores=acceptable,
        balance=acceptance.credit_balance,
        balance_max=acceptance.credit_max,
        quantum_millicores=quantum,
    )
    nodes = replace(nodes, allocation_millicores=nodes.allocation_millicores + moved)
    cleared = share_in_pods(bids, pods, nodes, quantum_millicores=quantum)
    return replace(_record(takes_part, bids, cleared, supply), pod_credit_millicores=moved)


def _find_reservation_needs(rows: MarketRows) -> IntArray:
    """Returns the reservation needs as the policies have them."""
    hard_quota = rows.policy == Policy.HARD_QUOTA
    need = np.where(hard_quota, rows.ceiling_need_millicores, rows.reservation_need_millicores)
    # Where only the request moves, it must stay under the limit; where both do, under the admitted.
    limit = np.where(
        rows.policy == Policy.REQUESTS_ONLY,
        rows.fixed_ceiling_millicores,
        rows.admitted_limit_millicores,
    )
    bounded: IntArray = np.where(rows.has_limit & ~hard_quota, np.minimum(need, limit), need)
    return bounded


def _lower_floors(rows: MarketRows, pods: MarketPods, floor: IntArray) -> IntArray:
    """Scales the floors of each pod that declares a lower minimum, rounding down."""
    floor_of_pod = sum_by(rows.pod, floor, pods.node.size)
    lowered = np.minimum(floor_of_pod, pods.declared_min_millicores)
    scaled: IntArray = floor * lowered[rows.pod] // np.maximum(floor_of_pod, 1)[rows.pod]
    return scaled


def _bound_reclaim(
    wish: IntArray,
    floor: IntArray,
    node_of_row: IntArray,
    nodes: MarketNodes,
    parameters: Parameters,
) -> tuple[IntArray, FloatArray]:
    """Raises needs so that a node frees no more than it may; returns them and each node's k."""
    node_count = nodes.allocatable_millicores.size
    given_up: IntArray = np.maximum(floor - wish, 0)
    wished = sum_by(node_of_row, given_up, node_count)
    most = (nodes.allocatable_millicores * parameters.reclaim_max_fraction).astype(np.int64)
    let_through: IntArray = np.minimum(most, wished)
    divisor = np.maximum(wished, 1)
    kept = floor - given_up * let_through[node_of_row] // divisor[node_of_row]
    need: IntArray = np.where(given_up > 0, kept, wish)
    factor: FloatArray = np.where(wished > 0, let_through / divisor, 1.0)
    return need, factor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Headroom:
    """The ceilings' half of the targets."""

    good: GoodTargets
    ceiling: IntArray
    overcommit: FloatArray
    exhausted: BoolArray
    limit: IntArray


def _clear_headroom(
    rows: MarketRows,
    pods: MarketPods,
    reserved: _Reserved,
    pod_cap: IntArray,
    parameters: Parameters,
) -> _Headroom:
    """Clears what ceilings have above the reservations."""
    node_count, pod_count = reserved.available.size, pods.node.size
    node_of_row = pods.node[rows.pod]
    target = reserved.target
    bids = rows.takes_part & rows.has_limit & _has_two_numbers(rows.policy)
    follows = rows.takes_part & (rows.policy == Policy.HARD_QUOTA)
    is_fixed = rows.has_limit & ~bids & ~follows
    fixed = np.where(is_fixed, np.maximum(rows.fixed_ceiling_millicores - target, 0), 0)

    floor = np.where(bids & ~rows.strict, np.maximum(rows.admitted_limit_millicores - target, 0), 0)
    need = np.where(bids, np.maximum(floor, rows.ceiling_need_millicores - target), 0)
    floor_of_pod = sum_by(rows.pod, floor, pod_count)
    taken_of_pod = sum_by(rows.pod, target + fixed, pod_count)
    pod_bids = PodBids(
        pod=rows.pod,
        need_millicores=np.maximum(need, 0),
        floor_millicores=floor,
        weight=container_weights(rows.admitted_request_millicores),
        node=pods.node,
        pod_cap_millicores=np.maximum(pod_cap - taken_of_pod, floor_of_pod),
        pod_weight=pods.weight,
    )

    has_strict = np.bincount(node_of_row[bids & rows.strict], minlength=node_count) > 0
    overcommit: FloatArray = np.where(has_strict, 1.0, parameters.ceiling_overcommit)
    taken = sum_by(node_of_row, target + fixed, node_count)
    floor_sum = sum_by(node_of_row, floor, node_count)
    left = np.floor(overcommit * reserved.limit).astype(np.int64) - taken
    supply: IntArray = np.maximum(np.maximum(floor_sum, left), 0)
    cleared = clear_pods(pod_bids, supply, quantum_millicores=parameters.quantum_millicores)
    return _Headroom(
        good=_record(bids, pod_bids, cleared, supply),
        ceiling=target + fixed + cleared.allocation_millicores,
        overcommit=overcommit,
        exhausted=(floor_sum > 0) & (floor_sum >= left),
        limit=supply + taken,
    )


def _has_two_numbers(policy: IntArray) -> BoolArray:
    """True where the market sets a ceiling of its own."""
    two_numbers: BoolArray = (policy == Policy.LIMITS_ONLY) | (policy == Policy.REQUESTS_AND_LIMITS)
    return two_numbers


def _record(
    takes_part: BoolArray, bids: PodBids, cleared: PodClearing, supply: IntArray
) -> GoodTargets:
    """Gathers a good's clearing."""
    nodes = cleared.nodes
    allocation = cleared.allocation_millicores
    return GoodTargets(
        takes_part=takes_part,
        need_millicores=bids.need_millicores,
        floor_millicores=bids.floor_millicores,
        weight=bids.weight,
        target_millicores=allocation,
        pod_need_millicores=cleared.pods.need_millicores,
        pod_floor_millicores=cleared.pods.floor_millicores,
        pod_cap_millicores=bids.pod_cap_millicores,
        pod_weight=bids.pod_weight,
        pod_allocation_millicores=nodes.allocation_millicores,
        pod_credit_millicores=np.zeros_like(nodes.allocation_millicores),
        pod_level=cleared.pod_level,
        supply_millicores=supply,
        demand_millicores=nodes.demand_millicores,
        floor_sum_millicores=nodes.floor_sum_millicores,
        target_sum_millicores=np.minimum(nodes.demand_millicores, supply),
        level=nodes.level,
        floors_reduced=nodes.floors_reduced,
        prices=find_prices(nodes, supply),
    )
