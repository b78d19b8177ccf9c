"""Shows the state without changing it: markets, and the record that reproduces a decision."""

import math

import numpy as np

from mbcas_core import ledger, sentences
from mbcas_core.effects import Reason
from mbcas_core.errors import UnknownNodeError, UnknownPodError
from mbcas_core.events import Mode, Outcome, Policy, PriorityClass
from mbcas_core.forecast import recent
from mbcas_core.loops import release
from mbcas_core.market.allocate import AllocateAnswer, Bid, LiveMarket, allocate_on_node
from mbcas_core.parameters import WORKLOAD_CLASSES
from mbcas_core.rounds import Rounds
from mbcas_core.signals.windows import throttled_ratio
from mbcas_core.state import CEILING, RESERVATION, State
from mbcas_core.units import IntArray
from mbcas_core.views import (
    ContainerGoodView,
    ContainerView,
    DecisionView,
    GoodDecisionView,
    GoodView,
    HeadroomView,
    MarketView,
    OrderDecisionView,
    PriceView,
    SignalsView,
)


def node_names(rounds: Rounds) -> list[str]:
    """Every node, ascending."""
    return sorted(rounds.state.fleet.node_names.values())


def changed_nodes(rounds: Rounds, since_tick: int) -> list[str]:
    """Nodes whose market changed in a tick after this one, ascending."""
    nodes = rounds.state.fleet.nodes
    changed = np.flatnonzero(nodes.alive & (nodes.changed_tick > since_tick))
    return sorted(rounds.state.fleet.node_names[node] for node in changed.tolist())


def market_view(rounds: Rounds, node: str, *, include_containers: bool) -> MarketView:
    """One node's market after its last tick.

    Raises:
        UnknownNodeError: no shim of this node has reported.
    """
    state = rounds.state
    index = _find(state, node)
    nodes = state.fleet.nodes
    rows = state.fleet.rows_of_node(index)
    requests, limits = state.billed(rows)
    round_time = float(nodes.round_time[index])
    return MarketView(
        node=node,
        report_time_seconds=float(nodes.report_time[index]),
        round=int(nodes.round[index]),
        round_time_seconds=None if math.isnan(round_time) else round_time,
        live=bool(nodes.attached[index]) and _lately(state, index),
        frozen=state.frozen,
        allocatable_millicores=int(nodes.allocatable[index]),
        unmanaged_millicores=int(nodes.unmanaged[index]),
        reservation=_good(state, index, RESERVATION, int(requests.sum())),
        ceiling=_good(state, index, CEILING, int(limits.sum())),
        containers=_containers(state, rows.tolist()) if include_containers else [],
        refusing_pods=_count_refusing(state, rows),
    )


def explain_pod(rounds: Rounds, namespace: str, name: str) -> list[DecisionView]:
    """The last decision about each container of a pod, by container name.

    Raises:
        UnknownPodError: no shim reported a pod of this name.
    """
    state = rounds.state
    found = state.fleet.rows_of_pod_name(namespace, name)
    if not found:
        raise UnknownPodError(namespace, name)
    found.sort(key=lambda row: (state.fleet.names[row].container, row))
    return [_decision(state, row) for row in found]


def release_progress(rounds: Rounds, namespace: str, pod: str) -> tuple[int, int]:
    """How far a release has come: containers that it is about, and those not yet given back.

    Empty names stand for all. What a container was admitted with that nobody remembers cannot be
    given back: it does not count as left.
    """
    rows = release.find_rows(rounds.state, namespace, pod)
    return rows.size, release.count_remaining(rounds.state, rows)


def pod_names(rounds: Rounds) -> list[str]:
    """Every pod as namespace/name, ascending: what `explain_pod` can be asked for."""
    return sorted({f"{n.namespace}/{n.pod}" for n in rounds.state.fleet.names.values()})


def allocate(rounds: Rounds, node: str, bids: list[Bid]) -> AllocateAnswer:
    """Clears a node's market of reservations with these bids beside the live ones.

    Raises:
        UnknownNodeError: no shim of this node has reported.
        InvalidInputError: a bid is unusable.
        FloorsExceedCapacityError: the floors do not fit the node.
    """
    index = _find(rounds.state, node)
    return allocate_on_node(bids, _live_markets(rounds.state, np.array([index]))[node])


def live_markets(rounds: Rounds) -> dict[str, LiveMarket]:
    """The markets of reservations that the last tick cleared, by node.

    A node that gains or loses bids between two rounds is cleared in the next tick.
    """
    nodes = rounds.state.fleet.nodes
    cleared = nodes.alive & (nodes.round_time == rounds.state.tick_time)
    return _live_markets(rounds.state, np.flatnonzero(cleared))


def _live_markets(state: State, nodes: IntArray) -> dict[str, LiveMarket]:
    selection = state.fleet.select(nodes)
    table, parameters = state.decisions, state.parameters
    # What a row in mode recommend bid was in the shadow clearing; in this market it is fixed.
    bids = table.takes_part[selection.rows, RESERVATION]
    bids &= state.fleet.rows.mode[selection.rows] != Mode.RECOMMEND
    own = np.flatnonzero(bids)
    pods, first = np.unique(selection.pod_of_row[own], return_index=True)
    rows = selection.rows[own[first]]
    need, floor = table.pod_need[rows, RESERVATION], table.pod_floor[rows, RESERVATION]
    weight = table.pod_weight[rows, RESERVATION]
    ends = np.searchsorted(selection.node_of_pod[pods], np.arange(nodes.size), side="right")
    starts = np.append(0, ends)[:-1]
    return {
        state.fleet.node_names[node]: LiveMarket(
            need_millicores=need[start:end],
            floor_millicores=floor[start:end],
            weight=weight[start:end],
            available_millicores=int(state.market.available[node]),
            reserve_millicores=int(state.market.reserve[node]),
            quantum_millicores=parameters.quantum_millicores,
            default_cap_millicores=int(
                state.fleet.nodes.allocatable[node] * parameters.pod_cap_ratio
            ),
        )
        for node, start, end in zip(nodes.tolist(), starts.tolist(), ends.tolist(), strict=True)
    }


def _find(state: State, node: str) -> int:
    index = state.fleet.find_node(node)
    if index is None:
        raise UnknownNodeError(node)
    return index


def _lately(state: State, node: int) -> bool:
    age = state.tick_time - float(state.fleet.nodes.report_time[node])
    return age <= state.parameters.stale_after_seconds


def _good(state: State, node: int, good: int, billed: int) -> GoodView:
    market = state.market
    return GoodView(
        supply_millicores=int(market.supply[node, good]),
        demand_millicores=int(market.demand[node, good]),
        floor_millicores=int(market.floor[node, good]),
        target_millicores=int(market.target[node, good]),
        billed_millicores=billed,
        price=PriceView(
            shadow_price=float(market.shadow_price[node, good]),
            shadow_price_normalized=float(market.shadow_price_normalized[node, good]),
            shortage=float(market.shortage[node, good]),
        ),
        floors_reduced=bool(market.floors_reduced[node, good]),
        exhausted_by_admitted_limits=good == CEILING and bool(market.ceilings_exhausted[node]),
    )


def _count_refusing(state: State, rows: IntArray) -> int:
    pods = np.unique(state.fleet.rows.pod[rows])
    return int(np.count_nonzero(state.refusals.refuses[pods]))


def _containers(state: State, rows: list[int]) -> list[ContainerView]:
    views = [_container(state, row) for row in rows]
    return sorted(views, key=lambda view: (view.namespace, view.pod, view.container))


def _container(state: State, row: int) -> ContainerView:
    fleet, names = state.fleet, state.fleet.names[row]
    one = np.array([row])
    measured = bool(state.counters.sample_count[row] > 0)
    ratio = float(throttled_ratio(state.windows, one, seconds=15)[0])
    lifted = bool(state.emergency.active[row])
    lag, time = float(state.ledger.lag[row]), float(state.decisions.time[row])
    status_lag = float(state.ledger.status_lag[row])
    pod = int(fleet.rows.pod[row])
    return ContainerView(
        namespace=names.namespace,
        pod=names.pod,
        container=names.container,
        pod_uid=names.pod_uid,
        mode=Mode(int(fleet.rows.mode[row])),
        policy=Policy(int(fleet.rows.policy[row])),
        priority_class=PriorityClass(int(fleet.rows.priority[row])),
        weight=float(state.pod_weight(fleet.rows.pod[one])[0]),
        usage_millicores=float(state.counters.usage[row]) if measured else None,
        throttled_ratio=ratio if measured else None,
        reservation=_reservation(state, row),
        ceiling=_ceiling(state, row),
        lag_seconds=None if math.isnan(lag) else lag,
        emergency=lifted,
        emergency_since_seconds=float(state.emergency.since[row]) if lifted else None,
        reason=_reason(state, row),
        decision_time_seconds=None if math.isnan(time) else time,
        min_acceptable_millicores=int(fleet.pods.min_acceptable[pod]) or None,
        refused=bool(state.refusals.refuses[pod]),
        compliance_level=float(state.refusals.level[pod]),
        credits=int(state.purses.balance[pod]) if state.purses.endowed[pod] else None,
        skip_reason=fleet.skip_reasons.get(row, ""),
        status_lag_seconds=None if math.isnan(status_lag) else status_lag,
        limit_bounds_nothing=bool((fleet.rows.has_limit[one] & ~state.bounds(one))[0]),
    )


def _reason(state: State, row: int) -> Reason:
    """The decision's reason, unless nothing can be decided any more since."""
    node = int(state.fleet.rows.node[row])
    if not state.fleet.nodes.attached[node] or not _lately(state, node):
        return Reason.STALE
    return Reason(int(state.decisions.reason[row]))


def _reservation(state: State, row: int) -> ContainerGoodView:
    table, decided = state.ledger, not math.isnan(float(state.decisions.time[row]))
    hard = state.fleet.rows.policy[row] == Policy.HARD_QUOTA  # One number, and one need.
    need = state.decisions.ceiling_need if hard else state.decisions.reservation_need
    return ContainerGoodView(
        admitted_millicores=int(state.fleet.rows.admitted_request[row]),
        need_millicores=int(need[row]) if decided else None,
        target_millicores=int(state.decisions.target_request[row]) if decided else None,
        desired_millicores=int(table.desired_request[row]),
        allocated_millicores=int(table.allocated_request[row]),
        applied_millicores=int(table.applied_request[row]),
    )


def _ceiling(state: State, row: int) -> ContainerGoodView:
    table, decided = state.ledger, not math.isnan(float(state.decisions.time[row]))
    if not state.fleet.rows.has_limit[row]:
        return ContainerGoodView(
            admitted_millicores=None,
            need_millicores=int(state.decisions.ceiling_need[row]) if decided else None,
            target_millicores=None,
            desired_millicores=None,
            allocated_millicores=None,
            applied_millicores=None,
        )
    return ContainerGoodView(
        admitted_millicores=int(state.fleet.rows.admitted_limit[row]),
        need_millicores=int(state.decisions.ceiling_need[row]) if decided else None,
        target_millicores=int(state.decisions.target_limit[row]) if decided else None,
        desired_millicores=int(table.desired_limit[row]),
        allocated_millicores=int(table.allocated_limit[row]),
        applied_millicores=int(table.applied_limit[row]),
    )


def _decision(state: State, row: int) -> DecisionView:
    container = _container(state, row)
    node = state.fleet.node_names[int(state.fleet.rows.node[row])]
    signals, headroom = _signals(state, row), _headroom(state, row)
    reservation = _good_decision(state, row, RESERVATION)
    ceiling = _good_decision(state, row, CEILING)
    order = _order(state, row)
    return DecisionView(
        container=container,
        node=node,
        signals=signals,
        headroom=headroom,
        reservation=reservation,
        ceiling_headroom=ceiling,
        order=order,
        summary=sentences.summary(container),
    )


def _signals(state: State, row: int) -> SignalsView:
    one = np.array([row])
    quota = float(state.counters.quota[row])
    return SignalsView(
        sample_count=int(state.counters.sample_count[row]),
        usage_millicores=float(state.counters.usage[row]),
        throttled_ratio_2s=float(throttled_ratio(state.windows, one, seconds=2)[0]),
        throttled_ratio_15s=float(throttled_ratio(state.windows, one, seconds=15)[0]),
        demand_millicores=float(state.counters.demand[row]),
        variation=float(state.agent.variation[row]),
        quota_millicores=None if math.isnan(quota) else quota,
        sample_age_seconds=float(state.decisions.sample_age[row]),
    )


def _headroom(state: State, row: int) -> HeadroomView:
    agent = state.agent
    return HeadroomView(
        workload_class=WORKLOAD_CLASSES[int(agent.workload_class[row])],
        forecast=recent.NAME,
        base_millicores=float(agent.base[row]),
        tau=float(state.fleet.rows.tau[row]),
        level=float(agent.level[row]),
        usage_millicores=float(agent.usage[row]),
        recent_need_millicores=float(agent.recent[row]),
        burst_millicores=float(agent.burst[row]),
        reservation_quantile_millicores=float(agent.quantile[row]),
        need_floor_millicores=float(agent.need_floor[row]),
        emergency_millicores=float(state.decisions.emergency_need[row]),
        ceiling_need_millicores=int(state.decisions.ceiling_need[row]),
        reservation_need_millicores=int(state.decisions.reservation_need[row]),
        price_response=state.parameters.price_response.value,
        response_shortage=float(state.decisions.response_shortage[row]),
        effective_tau=_effective_tau(state, row),
        demand_factor=float(state.decisions.demand_factor[row]),
    )


def _effective_tau(state: State, row: int) -> float:
    chosen = float(state.agent.tau[row])
    return float(state.fleet.rows.tau[row]) if math.isnan(chosen) else chosen


def _good_decision(state: State, row: int, good: int) -> GoodDecisionView:
    table = state.decisions
    return GoodDecisionView(
        takes_part=bool(table.takes_part[row, good]),
        need_millicores=int(table.need[row, good]),
        floor_millicores=int(table.floor[row, good]),
        reclaim_factor=float(table.reclaim_factor[row]),
        pod_need_millicores=int(table.pod_need[row, good]),
        pod_floor_millicores=int(table.pod_floor[row, good]),
        pod_cap_millicores=int(table.pod_cap[row, good]),
        pod_weight=float(table.pod_weight[row, good]),
        node_supply_millicores=int(table.supply[row, good]),
        node_level=_finite(float(table.level[row, good])),
        pod_allocation_millicores=int(table.pod_allocation[row, good]),
        pod_level=_finite(float(table.pod_level[row, good])),
        container_weight=float(table.weight[row, good]),
        target_millicores=int(table.target[row, good]),
        class_weight=float(table.class_weight[row]),
        floors_reduced=bool(table.floors_reduced[row, good]),
        credit_millicores=int(table.pod_credit[row, good]),
    )


def _finite(level: float) -> float | None:
    return level if math.isfinite(level) else None


def _ended(outcome: Outcome, sentence: str | None) -> str:
    word = outcome.name.lower()
    told = sentence and outcome not in (Outcome.APPLIED, Outcome.UNCHANGED)
    return f"{word}, {sentence}" if told else word


def _order(state: State, row: int) -> OrderDecisionView:
    decisions, table = state.decisions, state.ledger
    time = float(decisions.time[row])
    sent = bool(table.order_id[row] > 0)
    has_limit = bool(state.fleet.rows.has_limit[row])
    outcome = int(table.outcome[row])
    named = {ledger.NEVER: "none", ledger.IN_FLIGHT: "in flight"}
    return OrderDecisionView(
        time_seconds=None if math.isnan(time) else time,
        billed_reservation_millicores=int(decisions.billed[row, RESERVATION]),
        billed_ceiling_millicores=int(decisions.billed[row, CEILING]),
        slack_reservation_millicores=int(decisions.slack[row, RESERVATION]),
        slack_ceiling_millicores=int(decisions.slack[row, CEILING]),
        granted_reservation_millicores=int(decisions.granted[row, RESERVATION]),
        granted_ceiling_millicores=int(decisions.granted[row, CEILING]),
        desired_reservation_millicores=int(table.desired_request[row]) if sent else None,
        desired_ceiling_millicores=int(table.desired_limit[row]) if sent and has_limit else None,
        last_order_id=int(table.order_id[row]),
        last_result=named.get(outcome) or _ended(Outcome(outcome), state.fleet.refusals.get(row)),
    )
