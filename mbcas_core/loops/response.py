"""How prices and classes reach the needs and weights of a round.

The formulas are in `market.response`; here is what they are fed with and where their answers go.

- **Frozen.** Before the needs: the throttling target of every row rises with the shortage that its
  pod has seen among others, of the good for which the row's ceiling need is bid (reservations where
  it has one number, else ceilings). After the first clearing of each period every pod sees the new
  one. The fast loop and the bands keep the declared target: what is promised does not fade with the
  price.
- **Two-pass.** After a first clearing both needs of a row are scaled by one factor, for the larger
  shortage of the goods that it bids for, and the markets are cleared again. What the fast loop
  holds is no forecast and is not scaled.
- **Class weights.** A pod's declared weight is multiplied by the mean of its containers' class
  weights, weighted by their admitted requests, so that splitting a container changes nothing.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.fleet import Selection
from mbcas_core.market.clearing import Share
from mbcas_core.market.clearing import clear as clear_by_surplus
from mbcas_core.market.goods import clear_targets
from mbcas_core.market.pods import container_weights
from mbcas_core.market.response import (
    Gauges,
    advance,
    find_effective_tau,
    find_shortages_without,
    find_two_pass_factor,
    scale_needs,
)
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.parameters import WORKLOAD_CLASSES, PriceResponse
from mbcas_core.state import CEILING, RESERVATION, State
from mbcas_core.units import MIN_CEILING_MILLICORES, BoolArray, FloatArray, IntArray


def choose_tau(state: State, rows: IntArray) -> FloatArray:
    """Returns the throttling targets that the needs of these rows stand on, and keeps why."""
    tau = state.fleet.rows.tau[rows]
    if state.parameters.price_response != PriceResponse.FROZEN:
        return tau
    good = np.where(state.hard_quota(rows), RESERVATION, CEILING)
    gauge = state.fleet.pods.shortage_frozen[state.fleet.rows.pod[rows], good]
    state.decisions.response_shortage[rows] = gauge
    return find_effective_tau(
        tau, _elasticity(state, rows), gauge, tau_max=state.parameters.tau_max
    )


def _elasticity(state: State, rows: IntArray) -> FloatArray:
    by_class = np.zeros(max(PriorityClass) + 1)
    for key, elasticity in state.parameters.elasticity.items():
        by_class[key] = elasticity
    own: FloatArray = by_class[state.fleet.rows.priority[rows]]
    return own


def weigh_classes(state: State, selection: Selection) -> None:
    """Sets the factor of every pod's weight from what its containers were found to do."""
    weights = state.parameters.class_weight
    if not weights:
        return
    by_class = np.array([weights.get(name, 1.0) for name in WORKLOAD_CLASSES])
    admitted = container_weights(state.fleet.rows.admitted_request[selection.rows])
    own = admitted * by_class[state.agent.workload_class[selection.rows]]
    pod, count = selection.pod_of_row, selection.pods.size
    mean = np.bincount(pod, own, count) / np.bincount(pod, admitted, count)
    state.fleet.pods.class_weight[selection.pods] = mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cleared:
    """The targets of n rows, and how their needs answered to the price."""

    targets: Targets
    bids: MarketRows
    """With the needs that were cleared in the end."""
    pods: MarketPods
    nodes: MarketNodes
    shortage: FloatArray
    """(n,) what a row answered to between two passes, else 0."""
    factor: FloatArray
    """(n,) on both needs, else 1."""


def clear(
    state: State,
    rows: IntArray,
    bids: MarketRows,
    pods: MarketPods,
    nodes: MarketNodes,
) -> Cleared:
    """Clears both goods, twice where needs answer in two passes."""
    share = choose_share(state, rows, bids.pod)
    targets = clear_targets(bids, pods, nodes, parameters=state.parameters, share=share)
    shortage = np.zeros(rows.size)
    if state.parameters.price_response != PriceResponse.TWO_PASS:
        return Cleared(
            targets=targets,
            bids=bids,
            pods=pods,
            nodes=nodes,
            shortage=shortage,
            factor=np.ones(rows.size),
        )
    node = pods.node[bids.pod]
    takes_part: BoolArray = np.zeros(rows.size, np.bool_)
    for good in (targets.reservation, targets.ceiling_headroom):
        seen = np.where(good.takes_part, good.prices.shortage[node], 0.0)
        shortage = np.maximum(shortage, seen)
        takes_part |= good.takes_part
    factor = find_two_pass_factor(shortage, _elasticity(state, rows))
    factor = np.where(takes_part, factor, 1.0)
    held = np.ceil(state.decisions.emergency_need[rows]).astype(np.int64)
    scaled = replace(
        bids,
        reservation_need_millicores=_scale(bids.reservation_need_millicores, factor),
        ceiling_need_millicores=np.maximum(_scale(state.agent.ceiling_need[rows], factor), held),
    )
    targets = clear_targets(scaled, pods, nodes, parameters=state.parameters, share=share)
    return Cleared(
        targets=targets,
        bids=scaled,
        pods=pods,
        nodes=nodes,
        shortage=shortage,
        factor=factor,
    )


def choose_share(state: State, rows: IntArray, pod_of_row: IntArray) -> Share:
    """Returns how these rows' pods share reservations: by `clear`, where nothing else was said."""
    if state.share is None:
        return clear_by_surplus
    first = np.flatnonzero(np.diff(pod_of_row, prepend=-1))
    return partial(state.share, pods=state.fleet.rows.pod[rows[first]])


def _scale(need: IntArray, factor: FloatArray) -> IntArray:
    return scale_needs(need, factor, least_millicores=MIN_CEILING_MILLICORES)


def note(state: State, selection: Selection, cleared: Cleared, own: IntArray) -> None:
    """Keeps, for the explanation, how these rows answered (indices into `rows`)."""
    table, rows = state.decisions, selection.rows[own]
    table.class_weight[rows] = state.fleet.pods.class_weight[state.fleet.rows.pod[rows]]
    if state.parameters.price_response != PriceResponse.TWO_PASS:
        return
    table.response_shortage[rows] = cleared.shortage[own]
    table.demand_factor[rows] = cleared.factor[own]
    table.reservation_need[rows] = cleared.bids.reservation_need_millicores[own]
    table.ceiling_need[rows] = cleared.bids.ceiling_need_millicores[own]


def observe(state: State, selection: Selection, targets: Targets, own: IntArray) -> None:
    """Shows these pods how short the others were, once a period (indices into `pods`).

    Lifts, arrivals and the like force rounds between the regular ones. Were those counted, whoever
    can force rounds could end an epoch early.
    """
    parameters, table = state.parameters, state.fleet.pods
    if parameters.price_response != PriceResponse.FROZEN:
        return
    period_end = state.fleet.nodes.next_round[selection.nodes][selection.node_of_pod]
    later = period_end[own] - table.shortage_period_end[selection.pods[own]]
    own = own[later > parameters.round_period_seconds / 2]  # Ends differ by rounding errors.
    pods = selection.pods[own]
    table.shortage_period_end[pods] = period_end[own]
    for good, cleared in ((RESERVATION, targets.reservation), (CEILING, targets.ceiling_headroom)):
        shortage = find_shortages_without(
            selection.node_of_pod, cleared.pod_need_millicores, cleared.supply_millicores
        )
        gauges = advance(
            Gauges(
                smoothed=table.shortage_smoothed[pods, good],
                frozen=table.shortage_frozen[pods, good],
                round_count=table.epoch_rounds[pods, good],
            ),
            shortage[own],
            smoothing=parameters.response_smoothing,
            epoch_rounds=parameters.response_epoch_rounds,
        )
        table.shortage_smoothed[pods, good] = gauges.smoothed
        table.shortage_frozen[pods, good] = gauges.frozen
        table.epoch_rounds[pods, good] = gauges.round_count
