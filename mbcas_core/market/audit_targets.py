"""The audit of a whole round: both goods, both levels, every policy.

Each good is shared twice, by pods and inside pods; both are audited as `audit` says, with the
findings' rows counting pods or containers. Around that stand the promises about what is shared and
what becomes of it. As in `audit`, nothing is cleared again: the audit starts from what the round
was told (rows, pods, nodes, parameters) and holds the record of its answer against it.

| name | what holds otherwise |
|---|---|
| `bid-wrong` | who bids, its need and floor are as policy, needs and `min-cpu` say; a pod bids \
their sums up to its cap |
| `cap-wrong` | a pod's cap is min(declared max, max(share of the node, admitted limit)), less \
what is fixed |
| `cap-exceeded` | no pod is allocated more than its cap |
| `supply-wrong` | A, the reserve, max(A - reserve, min(A, sum b')), and the ceilings' supply |
| `reserve-sold` | above the floors nothing of the reserve is handed out |
| `reserve-cuts-floors` | floors that fit A are not reduced |
| `limit-wrong` | what billed sums may reach is the supply and what is fixed |
| `ceilings-exceeded` | ceilings add up to no more than their limit |
| `exhausted-wrong` | the node says so iff admitted limits use all the ceilings there are |
| `reclaim-exceeded` | a node frees no more than `reclaim_max_fraction` of its allocatable CPU |
| `reclaim-needless` | needs are raised only where it would, and by no more than that takes |
| `target-wrong` | a target is the allocation and what is fixed |
| `fixed-moved` | what policy or mode fixes stays |
| `ceiling-below-admitted` | no ceiling is below the admitted limit, unless strict or hard quota |
| `ceiling-below-reservation` | no ceiling is below its reservation |
| `request-above-limit` | where only the request moves, it stays under the limit |
| `hard-quota-split` | a hard quota is one number |
| `overcommit-wrong` | a node on which a strict row bids has overcommit 1, others what is set |

Where credits moved CPU between pods, `envy` and `level-inconsistent` are not claimed among the
node's pods; floors, needs, sums and shares are, and credits move as much to pods as from pods
(`credits-unbalanced`), to nobody more than it can pay for, from nobody more than its purse holds
(`credits-overspent`).
"""

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.market.audit import Sharing, add_up, check_prices, check_sharing, check_sums
from mbcas_core.market.audit_bids import check_bids
from mbcas_core.market.audit_round import Round
from mbcas_core.market.findings import Finding, Findings
from mbcas_core.market.targets import (
    GoodTargets,
    MarketNodes,
    MarketPods,
    MarketRows,
    Targets,
)
from mbcas_core.parameters import Parameters
from mbcas_core.units import FloatArray, IntArray

TARGET_PROPERTIES = (
    "bid-wrong",
    "cap-wrong",
    "cap-exceeded",
    "supply-wrong",
    "reserve-sold",
    "reserve-cuts-floors",
    "limit-wrong",
    "ceilings-exceeded",
    "exhausted-wrong",
    "reclaim-exceeded",
    "reclaim-needless",
    "target-wrong",
    "fixed-moved",
    "ceiling-below-admitted",
    "ceiling-below-reservation",
    "request-above-limit",
    "hard-quota-split",
    "overcommit-wrong",
    "credits-unbalanced",
    "credits-overspent",
)


def audit_targets(
    rows: MarketRows,
    pods: MarketPods,
    nodes: MarketNodes,
    targets: Targets,
    *,
    parameters: Parameters,
) -> list[Finding]:
    """Returns every property that a round violates; the arguments are those of `clear_targets`."""
    each = Round(rows=rows, pods=pods, nodes=nodes, targets=targets, parameters=parameters)
    found = _audit_good(each, targets.reservation, "reservation")
    found += _audit_good(each, targets.ceiling_headroom, "ceiling")
    findings = Findings(market_of_row=each.node_of_row, bidders="containers")
    check_bids(each, findings)
    _check_reservation_supply(each, findings)
    _check_ceiling_supply(each, findings)
    _check_numbers(each, findings)
    return found + findings.found


def _audit_good(each: Round, good: GoodTargets, name: str) -> list[Finding]:
    """Both levels of one good, its caps and its prices."""
    pods, pod_of_row = each.pods, each.rows.pod
    among_pods = Findings(market_of_row=pods.node, good=name, bidders="pods")
    _check_credits(each, good, among_pods)
    by_bids = np.ones(each.nodes.allocatable_millicores.size, np.bool_)
    by_bids[pods.node[good.pod_credit_millicores != 0]] = False
    quantum = each.parameters.quantum_millicores
    shared = Sharing(
        market=pods.node,
        need=good.pod_need_millicores,
        floor=good.pod_floor_millicores,
        weight=good.pod_weight,
        got=good.pod_allocation_millicores,
        capacity=good.supply_millicores,
        level=good.level,
        level_is_claimed=by_bids,
        fairness_is_claimed=by_bids,
    )
    check_sharing(shared, among_pods, quantum_millicores=quantum)
    check_sums(
        shared,
        among_pods,
        demand=good.demand_millicores,
        floor_sum=good.floor_sum_millicores,
        floors_reduced=good.floors_reduced,
    )
    sold, said = add_up(shared, shared.got), good.target_sum_millicores
    among_pods.markets("sums-wrong", sold != said, sold=sold, said=said)
    check_prices(shared, among_pods, good.prices)
    _check_pod_bids(each, good, among_pods)

    containers = Findings(
        market_of_row=each.node_of_row, good=name, bidders="containers", node_of_pod=pods.node
    )
    alone = np.bincount(pod_of_row, minlength=pods.node.size) <= 1
    inside = Sharing(
        market=pod_of_row,
        need=good.need_millicores,
        floor=good.floor_millicores,
        weight=good.weight,
        got=good.target_millicores,
        capacity=good.pod_allocation_millicores,
        level=good.pod_level,
        level_is_claimed=~alone,
        fairness_is_claimed=np.ones_like(alone),
    )
    check_sharing(inside, containers, quantum_millicores=quantum)
    return among_pods.found + containers.found


def _check_credits(each: Round, good: GoodTargets, findings: Findings) -> None:
    """What credits move to pods they move from pods, and nobody pays more than it has."""
    moved = good.pod_credit_millicores
    total = _sum_pods_by_node(each, moved)
    findings.markets("credits-unbalanced", total != 0, moved=total)
    acceptance = each.pods.acceptance
    if acceptance is None or good is not each.targets.reservation:
        findings.rows("credits-overspent", moved != 0, moved=moved)
        return
    balance, most = acceptance.credit_balance, acceptance.credit_max
    spent = (moved > balance) | (-moved > np.maximum(most - balance, 0))
    findings.rows("credits-overspent", spent, moved=moved, balance=balance, most=most)


def _sum_pods_by_node(each: Round, of_pods: IntArray) -> IntArray:
    total: IntArray = np.zeros(each.nodes.allocatable_millicores.size, np.int64)
    np.add.at(total, each.pods.node, of_pods)
    return total


def _check_pod_bids(each: Round, good: GoodTargets, findings: Findings) -> None:
    """A pod bids what its containers do, up to its cap."""
    cap = good.pod_cap_millicores
    for bid, of_rows in (
        (good.pod_need_millicores, good.need_millicores),
        (good.pod_floor_millicores, good.floor_millicores),
    ):
        by_hand: IntArray = np.minimum(each.sum_pods(of_rows), cap)
        findings.rows("bid-wrong", bid != by_hand, bid=bid, by_hand=by_hand)
    got = good.pod_allocation_millicores
    findings.rows("cap-exceeded", got > cap, got=got, cap=cap)


def _check_reservation_supply(each: Round, findings: Findings) -> None:
    targets, nodes, good = each.targets, each.nodes, each.targets.reservation
    fixed = each.sum_nodes(np.where(each.reserves, 0, each.rows.fixed_reservation_millicores))
    available = nodes.allocatable_millicores - nodes.unmanaged_millicores - fixed
    said = targets.available_millicores
    findings.markets("supply-wrong", said != available, available=said, by_hand=available)
    least = _find_least_reserve(each)
    reserve = targets.reserve_millicores
    wrong = (reserve < least - 1e-6) | (reserve >= least + 1)
    findings.markets("supply-wrong", wrong, reserve=reserve, least=least)

    floors = good.floor_sum_millicores
    spare = available - reserve
    supply: IntArray = np.maximum(spare, np.minimum(available, floors))
    handed_out = good.supply_millicores
    wrong = handed_out != np.maximum(supply, 0)
    findings.markets("supply-wrong", wrong, supply=handed_out, by_hand=supply)
    sold = each.sum_nodes(good.target_millicores)
    above = (sold > floors) & (sold > spare)
    findings.markets("reserve-sold", above, sold=sold, floors=floors, spare=spare)
    cut = good.floors_reduced & (floors <= available)
    findings.markets("reserve-cuts-floors", cut, floors=floors, available=available)
    limit = targets.reservation_limit_millicores
    wrong = limit != np.maximum(supply + fixed, 0)
    findings.markets("limit-wrong", wrong, limit=limit, supply=supply, fixed=fixed)


def _find_least_reserve(each: Round) -> FloatArray:
    share = each.nodes.allocatable_millicores.astype(np.float64) * each.parameters.reserve_ratio
    least: FloatArray = np.maximum(share, each.parameters.reserve_millicores)
    return least


def _check_ceiling_supply(each: Round, findings: Findings) -> None:
    targets, good = each.targets, each.targets.ceiling_headroom
    strict = each.sum_nodes((each.heads & each.rows.strict).astype(np.int64)) > 0
    overcommit = np.where(strict, 1.0, each.parameters.ceiling_overcommit)
    wrong = targets.overcommit != overcommit
    findings.markets("overcommit-wrong", wrong, overcommit=targets.overcommit, by_hand=overcommit)

    taken = each.sum_nodes(targets.reservation_millicores + each.fixed_headroom)
    floors = each.sum_nodes(good.floor_millicores)
    everything = overcommit * targets.reservation_limit_millicores
    left = np.floor(everything).astype(np.int64) - taken
    supply: IntArray = np.maximum(np.maximum(floors, left), 0)
    said = good.supply_millicores
    findings.markets("supply-wrong", said != supply, supply=said, by_hand=supply)
    limit = targets.ceiling_limit_millicores
    findings.markets("limit-wrong", limit != supply + taken, limit=limit, taken=taken)
    ceilings = each.sum_nodes(targets.ceiling_millicores)
    above = ceilings > limit
    findings.markets("ceilings-exceeded", above, ceilings=ceilings, limit=limit)
    exhausted = (floors > 0) & (floors >= left)
    wrong = targets.ceilings_exhausted != exhausted
    findings.markets("exhausted-wrong", wrong, floors=floors, left=left)


def _check_numbers(each: Round, findings: Findings) -> None:
    """What each row ends up with, by policy."""
    rows, targets = each.rows, each.targets
    reservation, ceiling = targets.reservation_millicores, targets.ceiling_millicores
    fixed = np.where(each.reserves, 0, rows.fixed_reservation_millicores)
    by_hand = targets.reservation.target_millicores + fixed
    wrong = reservation != by_hand
    findings.rows("target-wrong", wrong & each.reserves, target=reservation, by_hand=by_hand)
    findings.rows("fixed-moved", wrong & ~each.reserves, target=reservation, fixed=fixed)
    headroom = targets.ceiling_headroom.target_millicores
    by_hand = reservation + each.fixed_headroom + headroom
    wrong = rows.has_limit & (ceiling != by_hand)
    moved = ~each.heads & ~(rows.takes_part & (rows.policy == Policy.HARD_QUOTA))
    findings.rows("target-wrong", wrong & ~moved, target=ceiling, by_hand=by_hand)
    findings.rows("fixed-moved", wrong & moved, target=ceiling, fixed=by_hand)

    admitted = rows.admitted_limit_millicores
    below = each.heads & ~rows.strict & (ceiling < admitted)
    findings.rows("ceiling-below-admitted", below, ceiling=ceiling, admitted=admitted)
    below = rows.has_limit & (ceiling < reservation)
    findings.rows("ceiling-below-reservation", below, ceiling=ceiling, reservation=reservation)
    hard = rows.takes_part & (rows.policy == Policy.HARD_QUOTA)
    split = hard & (ceiling != reservation)
    findings.rows("hard-quota-split", split, ceiling=ceiling, reservation=reservation)
    only = each.reserves & (rows.policy == Policy.REQUESTS_ONLY) & rows.has_limit
    # What was promised may exceed a limit that somebody else has set.
    most = np.maximum(rows.fixed_ceiling_millicores, targets.reservation.floor_millicores)
    above = only & (reservation > most)
    findings.rows("request-above-limit", above, reservation=reservation, most=most)
