"""Audits what the loops decide: rule 2 always, everything else for a share of the rounds.

A whole audit costs about what a clearing does, so in production a node's rounds take turns: of
every 1 / `audit_share` rounds one is audited, and neighbouring nodes have it in different rounds.
What is found is a `Violation` of the rule "audit-" + the property's name.
"""

import numpy as np

from mbcas_core.effects import Effect, Violation
from mbcas_core.fleet import Selection
from mbcas_core.loops.response import Cleared
from mbcas_core.market.audit_orders import audit_orders
from mbcas_core.market.audit_part import Part
from mbcas_core.market.audit_targets import audit_targets
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.findings import MAX_FINDINGS, Finding
from mbcas_core.market.orders import Grants, OrderRows
from mbcas_core.market.targets import Targets
from mbcas_core.state import State
from mbcas_core.units import BoolArray, IntArray


def choose(state: State, nodes: IntArray, turn: IntArray) -> BoolArray:
    """Returns which nodes' decisions of this turn are audited, shape (m,).

    Args:
        state: For the share.
        nodes: Ids of the nodes.
        turn: The number of each one's decision, counted one by one.
    """
    share = state.parameters.audit_share
    place = nodes + turn
    chosen: BoolArray = np.floor((place + 1) * share) > np.floor(place * share)
    return chosen


def check_owed(state: State, selection: Selection, targets: Targets) -> list[Effect]:
    """Rule 2: every target is at least min(floor, need) while floors fit, and at most the need."""
    effects: list[Effect] = []
    for name, good in (
        ("reservation", targets.reservation),
        ("ceiling", targets.ceiling_headroom),
    ):
        node = selection.node_of_row
        owed = np.minimum(good.floor_millicores, good.need_millicores)
        wished = sum_by(selection.pod_of_row, good.need_millicores, selection.pods.size)
        capped = good.pod_cap_millicores < wished
        fits = ~good.floors_reduced[node] & ~capped[selection.pod_of_row]
        bad = good.takes_part & (
            (good.target_millicores > good.need_millicores)
            | (fits & (good.target_millicores < owed))
        )
        effects += [
            Violation(
                rule="2",
                node=state.fleet.node_names[int(selection.nodes[node[i]])],
                detail=f"good={name} target={good.target_millicores[i]} owed={owed[i]} "
                f"need={good.need_millicores[i]}",
            )
            for i in np.flatnonzero(bad)[:MAX_FINDINGS].tolist()
        ]
    return effects


def check_targets(state: State, selection: Selection, cleared: Cleared) -> list[Effect]:
    """Audits the targets of the nodes whose turn it is."""
    chosen = choose(state, selection.nodes, state.fleet.nodes.round[selection.nodes])
    if not chosen.any():
        return []
    rows, pods = cleared.bids, cleared.pods
    part = Part.of(chosen, node_of_pod=pods.node, pod_of_row=rows.pod)
    state.counts["markets_audited"] += part.nodes.size
    found = audit_targets(
        part.market_rows(rows),
        part.market_pods(pods),
        part.market_nodes(cleared.nodes),
        part.targets(cleared.targets),
        parameters=state.parameters,
    )
    return _violations(state, selection, part, found)


def check_orders(
    state: State,
    selection: Selection,
    rows: OrderRows,
    grants: Grants,
    *,
    limits: tuple[IntArray, IntArray],
    turn: IntArray,
) -> list[Effect]:
    """Audits what the nodes whose turn it is were granted.

    Args:
        state: For the share, and for names.
        selection: The rows concerned.
        rows: What was asked, as for `clear_orders`.
        grants: What was granted.
        limits: Of reservations and of ceilings.
        turn: The number of each node's decision, counted one by one.
    """
    chosen = choose(state, selection.nodes, turn)
    if not chosen.any():
        return []
    part = Part.of(chosen, node_of_pod=rows.node, pod_of_row=rows.pod)
    found = audit_orders(
        part.order_rows(rows),
        part.grants(grants),
        reservation_limit_millicores=limits[0][part.nodes],
        ceiling_limit_millicores=limits[1][part.nodes],
    )
    return _violations(state, selection, part, found)


def _violations(
    state: State, selection: Selection, part: Part, found: list[Finding]
) -> list[Effect]:
    return [
        Violation(
            rule=f"audit-{finding.property}",
            node=state.fleet.node_names[int(selection.nodes[part.nodes[finding.market]])],
            detail=finding.detail,
        )
        for finding in found
    ]
