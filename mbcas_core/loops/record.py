"""Keeps what a clearing was made of, for the explanation and the next tick."""

import numpy as np

from mbcas_core.effects import Reason
from mbcas_core.fleet import Selection
from mbcas_core.loops.decide import Standing, find_limits
from mbcas_core.loops.dispatch import Dispatched
from mbcas_core.loops.response import Cleared
from mbcas_core.market.orders import Grants
from mbcas_core.market.targets import Targets
from mbcas_core.state import CEILING, RESERVATION, State
from mbcas_core.units import IntArray


def note_targets(state: State, selection: Selection, market: Cleared, own: IntArray) -> None:
    """Keeps, for the explanation, what these rows' targets came from (indices into `rows`)."""
    table, rows, targets = state.decisions, selection.rows[own], market.targets
    pod, node = selection.pod_of_row[own], selection.node_of_row[own]
    table.target_request[rows] = targets.reservation_millicores[own]
    table.target_limit[rows] = find_limits(
        state, rows, targets.ceiling_millicores[own], bounds=market.bids.has_limit[own]
    )
    table.reclaim_factor[rows] = targets.reclaim_factor[node]
    for good, cleared in ((RESERVATION, targets.reservation), (CEILING, targets.ceiling_headroom)):
        table.takes_part[rows, good] = cleared.takes_part[own]
        table.need[rows, good] = cleared.need_millicores[own]
        table.floor[rows, good] = cleared.floor_millicores[own]
        table.weight[rows, good] = cleared.weight[own]
        table.target[rows, good] = cleared.target_millicores[own]
        table.pod_need[rows, good] = cleared.pod_need_millicores[pod]
        table.pod_floor[rows, good] = cleared.pod_floor_millicores[pod]
        table.pod_cap[rows, good] = cleared.pod_cap_millicores[pod]
        table.pod_weight[rows, good] = cleared.pod_weight[pod]
        table.pod_allocation[rows, good] = cleared.pod_allocation_millicores[pod]
        table.pod_credit[rows, good] = cleared.pod_credit_millicores[pod]
        table.pod_level[rows, good] = cleared.pod_level[pod]
        table.supply[rows, good] = cleared.supply_millicores[node]
        table.level[rows, good] = cleared.level[node]
        table.floors_reduced[rows, good] = cleared.floors_reduced[node]


def note_round(
    state: State, selection: Selection, standing: Standing, targets: Targets, now: float
) -> None:
    """Keeps each node's prices and limits, and when and on what each row was decided."""
    market, table, nodes = state.market, state.decisions, selection.nodes
    for good, cleared in ((RESERVATION, targets.reservation), (CEILING, targets.ceiling_headroom)):
        market.supply[nodes, good] = cleared.supply_millicores
        market.demand[nodes, good] = cleared.demand_millicores
        market.floor[nodes, good] = cleared.floor_sum_millicores
        market.target[nodes, good] = cleared.target_sum_millicores
        market.shadow_price[nodes, good] = cleared.prices.shadow_price
        market.shadow_price_normalized[nodes, good] = cleared.prices.shadow_price_normalized
        market.shortage[nodes, good] = cleared.prices.shortage
        market.floors_reduced[nodes, good] = cleared.floors_reduced
    market.available[nodes] = targets.available_millicores
    market.reserve[nodes] = targets.reserve_millicores
    market.request_limit[nodes] = targets.reservation_limit_millicores
    market.ceilings_exhausted[nodes] = targets.ceilings_exhausted
    market.limit_limit[nodes] = targets.ceiling_limit_millicores
    short = np.zeros(selection.rows.size, np.bool_)
    for cleared in (targets.reservation, targets.ceiling_headroom):
        short |= cleared.takes_part & (cleared.target_millicores < cleared.need_millicores)
    table.rationed[selection.rows] = short
    table.time[selection.rows] = now
    table.sample_age[selection.rows] = np.minimum(
        now - state.counters.sample_time[selection.rows], 1e6
    )
    table.billed[selection.rows, RESERVATION] = standing.billed_request
    table.billed[selection.rows, CEILING] = standing.billed_limit
    state.fleet.nodes.round[nodes] += 1
    state.fleet.nodes.round_time[nodes] = now
    state.fleet.nodes.waiting[nodes] = False


def note_sent(
    state: State,
    selection: Selection,
    reason: IntArray,
    *,
    own: IntArray,
    done: Dispatched,
    grants: Grants,
) -> None:
    """Keeps each row's reason and what the second clearing granted.

    Args:
        state: Changed.
        selection: The rows of the round.
        reason: Of each of its rows, before spacing and budget.
        own: Which of its rows had a change, as indices.
        done: What became of those changes.
        grants: What was granted to its rows.
    """
    table, rows, node = state.decisions, selection.rows, selection.node_of_row
    reason = reason.copy()
    reason[own[done.spaced]] = int(Reason.WAITING_SPACING)
    reason[own[done.over_budget]] = int(Reason.WAITING_BUDGET)
    table.reason[rows] = reason
    table.slack[rows, RESERVATION] = grants.reservation_slack_millicores[node]
    table.slack[rows, CEILING] = grants.ceiling_slack_millicores[node]
    table.granted[rows, RESERVATION] = grants.reservation_millicores
    table.granted[rows, CEILING] = grants.ceiling_millicores
    skipped = (reason == int(Reason.WITHIN_BAND)) | (reason == int(Reason.DWELL))
    state.counts["hysteresis_skips"] += int(np.count_nonzero(skipped))
