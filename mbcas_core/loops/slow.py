"""The slow loop: needs, bids, clearing, and what becomes of the targets, for the nodes due."""

from dataclasses import replace

import numpy as np

from mbcas_core import ledger
from mbcas_core.agents import needs
from mbcas_core.effects import Effect, Lane
from mbcas_core.events import Mode, Policy
from mbcas_core.fleet import Selection
from mbcas_core.loops import audit, consent, decide, kubelet, reasons, record, release, response
from mbcas_core.loops.decide import Standing, Wishes
from mbcas_core.loops.dispatch import Changes, burst_is_off, dispatch
from mbcas_core.loops.response import Cleared
from mbcas_core.market.orders import Grants, OrderRows, clear_orders
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.signals.windows import throttled_ratio
from mbcas_core.state import State
from mbcas_core.units import MIN_CEILING_MILLICORES, BoolArray, IntArray

THROTTLED_SECONDS = 15


def run(state: State, nodes: IntArray, *, now_seconds: float) -> list[Effect]:
    """Clears the markets of these nodes and sends what follows from it."""
    selection = state.fleet.select(nodes)
    auto = _is_auto(state, selection.rows, now_seconds)
    state.judge_limits(selection.rows, auto=auto)
    standing = _stand(state, selection, auto, now_seconds)
    _estimate(state, standing, now_seconds)
    response.weigh_classes(state, selection)
    cleared, *shadow = _clear(state, selection, standing)
    targets = cleared.targets
    record.note_round(state, selection, standing, targets, now_seconds)
    effects: list[Effect] = []
    for each in (cleared, *shadow):
        effects += audit.check_owed(state, selection, each.targets)
        effects += audit.check_targets(state, selection, each)
    effects += consent.note(state, selection, cleared)
    wishes = decide.wish(state, selection, standing, targets, now_seconds)
    asked = _ask(state, selection, standing, targets, wishes)
    grants = _share(state, asked, targets)
    effects += audit.check_orders(
        state,
        selection,
        asked,
        grants,
        limits=(targets.reservation_limit_millicores, targets.ceiling_limit_millicores),
        turn=state.fleet.nodes.round[selection.nodes],
    )
    effects += _send(
        state, selection, standing, targets, wishes=wishes, grants=grants, now=now_seconds
    )
    return effects


def _stand(state: State, selection: Selection, auto: BoolArray, now: float) -> Standing:
    fleet, table, rows = state.fleet, state.ledger, selection.rows
    resting = (now < table.rest_until[rows]) | (now < table.foreign_until[rows])
    resting |= now < fleet.pods.withdrawn_until[fleet.rows.pod[rows]]
    steady = now < fleet.rows.steady_until[rows]
    ours = fleet.rows.request_set[rows] | fleet.rows.limit_set[rows]
    ratio = throttled_ratio(state.windows, rows, seconds=THROTTLED_SECONDS)
    billed_request, billed_limit = state.billed(rows)
    hard, has_limit = state.hard_quota(rows), fleet.rows.has_limit[rows]
    two_numbers = state.two_numbers(rows)
    one = hard & has_limit & ~two_numbers
    applied_limit = table.applied_limit[rows]
    return Standing(
        rows=rows,
        auto=auto,
        fresh=state.fresh(rows, now_seconds=now),
        settled=~_moving(state, rows, now) & ~resting & kubelet.takes_orders(state, rows),
        hard=hard,
        has_limit=has_limit,
        bounds=state.bounds(rows),
        two_numbers=two_numbers,
        applied_request=np.where(one, applied_limit, table.applied_request[rows]),
        applied_limit=applied_limit,
        billed_request=billed_request,
        billed_limit=billed_limit,
        throttled_ratio=ratio,
        throttled=ratio > fleet.rows.tau[rows],
        lifted=state.emergency.active[rows],
        young=_is_young(state, rows, now) | steady,
        may_raise=kubelet.may_raise(state, rows, now_seconds=now) & ~(steady & ours),
    )


def _is_auto(state: State, rows: IntArray, now: float) -> BoolArray:
    """True where something may be set: in auto, not skipped, not fixed, not released."""
    facts = state.fleet.rows
    closed = facts.skipped[rows] | facts.fixed[rows] | release.is_held(state, rows, now_seconds=now)
    auto: BoolArray = (facts.mode[rows] == Mode.AUTO) & ~closed
    return auto


def _is_young(state: State, rows: IntArray, now: float) -> BoolArray:
    """True where a container has started a moment ago, or is still starting."""
    facts = state.fleet.rows
    young: BoolArray = now - facts.seen_time[rows] < state.parameters.startup_grace_seconds
    return young | (facts.unready[rows] & (now < facts.starting_until[rows]))


def _moving(state: State, rows: IntArray, now: float) -> BoolArray:
    """True where an order is on its way, or was accepted and has not reached the kernel yet."""
    table = state.ledger
    recent = now - table.order_time[rows] < state.parameters.order_timeout_seconds
    return ledger.in_flight(table, rows) | (table.awaited[rows] & recent)


def _estimate(state: State, standing: Standing, now: float) -> None:
    fresh = standing.rows[standing.fresh]
    needs.estimate(
        state.agent,
        fresh,
        facts=state.fleet.rows,
        windows=state.windows,
        burst_table=state.bursts,
        tau=response.choose_tau(state, fresh),
        parameters=state.parameters,
        now_seconds=now,
    )
    held = state.emergency_need(standing.rows, now_seconds=now)
    ceiling = np.maximum(state.agent.ceiling_need[standing.rows], np.ceil(held).astype(np.int64))
    state.decisions.emergency_need[standing.rows] = held
    state.decisions.ceiling_need[standing.rows] = ceiling
    state.decisions.reservation_need[standing.rows] = state.agent.reservation_need[standing.rows]


def _clear(state: State, selection: Selection, standing: Standing) -> list[Cleared]:
    """Clears both goods; rows in mode recommend get what a market with everyone would give them.

    Returns:
        The market, and then, where there are such rows, its shadow with everyone.
    """
    fleet, rows = state.fleet, selection.rows
    market_rows = MarketRows(
        pod=selection.pod_of_row,
        takes_part=standing.auto & standing.fresh,
        policy=fleet.rows.policy[rows].astype(np.int64),
        strict=fleet.rows.strict[rows],
        has_limit=standing.bounds,
        admitted_request_millicores=fleet.rows.admitted_request[rows],
        admitted_limit_millicores=fleet.rows.admitted_limit[rows],
        reservation_need_millicores=_bound_need(state, standing),
        ceiling_need_millicores=state.decisions.ceiling_need[rows],
        fixed_reservation_millicores=standing.billed_request,
        fixed_ceiling_millicores=standing.billed_limit,
    )
    pods = MarketPods(
        node=selection.node_of_pod,
        weight=state.pod_weight(selection.pods),
        declared_min_millicores=fleet.pods.min_millicores[selection.pods],
        declared_max_millicores=fleet.pods.max_millicores[selection.pods],
        acceptance=consent.ask(state, selection),
    )
    nodes = MarketNodes(
        allocatable_millicores=fleet.nodes.allocatable[selection.nodes],
        unmanaged_millicores=fleet.nodes.unmanaged[selection.nodes],
    )
    cleared = response.clear(state, rows, market_rows, pods, nodes)
    recommend = (fleet.rows.mode[rows] == Mode.RECOMMEND) & standing.fresh
    recommend &= ~fleet.rows.skipped[rows] & ~fleet.rows.fixed[rows]
    shown = np.zeros(selection.pods.size, np.bool_)
    shown[selection.pod_of_row[recommend]] = True
    _note_cleared(state, selection, cleared, rows=~recommend, pods=~shown)
    if not recommend.any():
        return [cleared]
    everyone = replace(
        market_rows,
        takes_part=market_rows.takes_part | recommend,
        has_limit=market_rows.has_limit | (recommend & state.sets_admitted_limit(rows)),
    )
    shadow = response.clear(state, rows, everyone, pods, nodes)
    _note_cleared(state, selection, shadow, rows=recommend, pods=shown)
    return [cleared, shadow]


def _bound_need(state: State, standing: Standing) -> IntArray:
    """The reservation needs, below the limit where the two must not be equal."""
    facts, rows = state.fleet.rows, standing.rows
    need = state.decisions.reservation_need[rows]
    limit = np.where(
        facts.policy[rows] == Policy.REQUESTS_ONLY,
        state.ledger.desired_limit[rows],
        facts.admitted_limit[rows],
    )
    most = np.maximum(limit - MIN_CEILING_MILLICORES, facts.admitted_request[rows])
    apart = facts.keeps_gap[rows] & standing.has_limit
    return np.where(apart, np.minimum(need, most), need)


def _note_cleared(
    state: State, selection: Selection, cleared: Cleared, *, rows: BoolArray, pods: BoolArray
) -> None:
    """Keeps what these rows' targets came from, and shows these pods the shortage."""
    own: IntArray = np.flatnonzero(rows)
    record.note_targets(state, selection, cleared, own)
    response.note(state, selection, cleared, own)
    response.observe(state, selection, cleared.targets, np.flatnonzero(pods))


def _ask(
    state: State, selection: Selection, standing: Standing, targets: Targets, wishes: Wishes
) -> OrderRows:
    """The raises that are worth an order."""
    fleet, rows = state.fleet, selection.rows
    bounds = standing.bounds
    plain = bounds & ~(standing.hard | fleet.rows.strict[rows])
    return OrderRows(
        pod=selection.pod_of_row,
        weight=targets.reservation.weight,
        has_limit=bounds,
        hard_quota=standing.hard,
        reservation_floor_millicores=targets.reservation.floor_millicores,
        ceiling_floor_millicores=np.where(plain, fleet.rows.admitted_limit[rows], 0),
        reservation_target_millicores=np.where(
            wishes.up_request, wishes.request, standing.billed_request
        ),
        ceiling_target_millicores=np.where(wishes.up_limit, wishes.limit, standing.billed_limit),
        reservation_billed_millicores=standing.billed_request,
        ceiling_billed_millicores=standing.billed_limit,
        node=selection.node_of_pod,
        pod_weight=state.pod_weight(selection.pods),
    )


def _share(state: State, asked: OrderRows, targets: Targets) -> Grants:
    """The second clearing: what is really free, among these raises."""
    return clear_orders(
        asked,
        reservation_limit_millicores=targets.reservation_limit_millicores,
        ceiling_limit_millicores=targets.ceiling_limit_millicores,
        quantum_millicores=state.parameters.quantum_millicores,
    )


def _send(
    state: State,
    selection: Selection,
    standing: Standing,
    targets: Targets,
    *,
    wishes: Wishes,
    grants: Grants,
    now: float,
) -> list[Effect]:
    rows = selection.rows
    request, limit = decide.desired(state, standing, wishes, grants)
    raised, cut = _worth_sending(state, standing, wishes, request, limit)
    able = standing.auto & standing.fresh & standing.settled
    burst = able & burst_is_off(state, rows) & ~raised & ~cut
    change = able & (raised | cut | burst)
    if state.frozen:
        change[:] = False
    short = (wishes.up_request & (request < wishes.request)) | (
        wishes.up_limit & (limit < wishes.limit)
    )
    state.fleet.nodes.waiting[selection.nodes[selection.node_of_row[short]]] = True
    reason = reasons.of(
        state, selection, standing, targets, wishes, raised=raised, cut=cut, now_seconds=now
    )
    moved = np.abs(limit - standing.applied_limit) + np.abs(request - standing.applied_request)
    own = np.flatnonzero(change)
    done = dispatch(
        state,
        Changes(
            rows=rows[own],
            request=request[own],
            limit=limit[own],
            reason=reason[own],
            value=standing.throttled_ratio[own] * 1000.0 + moved[own],
        ),
        lane=Lane.NORMAL,
        now_seconds=now,
    )
    record.note_sent(state, selection, reason, own=own, done=done, grants=grants)
    return done.effects


def _worth_sending(
    state: State, standing: Standing, wishes: Wishes, request: IntArray, limit: IntArray
) -> tuple[BoolArray, BoolArray]:
    """Which rows go up and which go down; a raise that was granted only crumbs waits for more."""
    least = state.parameters.band_millicores
    up = np.zeros(standing.rows.size, np.bool_)
    cut = np.zeros(standing.rows.size, np.bool_)
    for new, applied, wished, rises, falls in (
        (request, standing.applied_request, wishes.request, wishes.up_request, wishes.down_request),
        (limit, standing.applied_limit, wishes.limit, wishes.up_limit, wishes.down_limit),
    ):
        up |= rises & (new > applied) & ((new - applied >= least) | (new == wished))
        cut |= falls & (new < applied)
    # What a spec says already is the kubelet's business: it was asked, and once is enough.
    table, rows = state.ledger, standing.rows
    asked = state.fleet.rows.kube[rows] & (request == table.desired_request[rows])
    asked &= ~standing.has_limit | (limit == table.desired_limit[rows])
    return up & ~asked, cut & ~up & ~asked
