"""The audit of bids: who bids, its need and floor, the caps, and the reclaim bound."""

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.market.audit_round import Round
from mbcas_core.market.findings import Findings
from mbcas_core.market.targets import GoodTargets
from mbcas_core.units import FloatArray, IntArray


def check_bids(each: Round, findings: Findings) -> None:
    """Checks what both goods were cleared from; findings are about containers."""
    _check_reservation_bids(each, findings)
    _check_headroom_bids(each, findings)
    _check_reclaim(each, findings)


def _check_reservation_bids(each: Round, findings: Findings) -> None:
    rows, good, bids = each.rows, each.targets.reservation, each.reserves
    findings.rows("bid-wrong", good.takes_part != bids, takes_part=good.takes_part.astype(np.int64))
    admitted = np.where(bids, rows.admitted_request_millicores, 0)
    # A pod that declares a lower minimum has its floors scaled, and rounded down.
    admitted_of_pod = each.sum_pods(admitted)
    declared = np.minimum(admitted_of_pod, each.pods.declared_min_millicores)
    floor_of_pod = each.sum_pods(good.floor_millicores)
    containers = np.bincount(rows.pod, minlength=declared.size)
    growth = _find_growth(each)
    wrong = (floor_of_pod > declared + growth) | (floor_of_pod < declared - containers)
    findings.rows("bid-wrong", wrong[rows.pod], floor=floor_of_pod[rows.pod])
    beyond = (good.floor_millicores > admitted) & (growth == 0)[rows.pod]
    findings.rows("bid-wrong", beyond, floor=good.floor_millicores, admitted=admitted)

    wish = _find_wishes(each)
    need = good.need_millicores
    wrong = (need < wish) | (need > np.maximum(wish, good.floor_millicores))
    findings.rows("bid-wrong", wrong, need=need, wish=wish, floor=good.floor_millicores)
    _check_cap(each, np.where(bids, 0, rows.fixed_reservation_millicores), good, findings)


def _find_growth(each: Round) -> IntArray:
    """Returns the most that refusals may have added to each pod's floor."""
    acceptance = each.pods.acceptance
    if acceptance is None:
        return np.zeros(each.pods.node.size, np.int64)
    return acceptance.floor_growth_millicores


def _find_wishes(each: Round) -> IntArray:
    """Returns the need of each row that bids for a reservation, before the reclaim bound."""
    rows = each.rows
    wish = rows.reservation_need_millicores.copy()
    hard = rows.policy == Policy.HARD_QUOTA
    wish[hard] = rows.ceiling_need_millicores[hard]
    only = (rows.policy == Policy.REQUESTS_ONLY) & rows.has_limit
    wish[only] = np.minimum(wish, rows.fixed_ceiling_millicores)[only]
    both = (rows.policy == Policy.REQUESTS_AND_LIMITS) & rows.has_limit
    wish[both] = np.minimum(wish, rows.admitted_limit_millicores)[both]
    wish[~each.reserves] = 0
    return wish


def _check_headroom_bids(each: Round, findings: Findings) -> None:
    rows, good, bids = each.rows, each.targets.ceiling_headroom, each.heads
    findings.rows("bid-wrong", good.takes_part != bids, takes_part=good.takes_part.astype(np.int64))
    reservation = each.targets.reservation_millicores
    above = np.maximum(rows.admitted_limit_millicores - reservation, 0)
    floor = np.where(bids & ~rows.strict, above, 0)
    wrong = good.floor_millicores != floor
    findings.rows("bid-wrong", wrong, floor=good.floor_millicores, by_hand=floor)
    wish = np.maximum(floor, rows.ceiling_need_millicores - reservation)
    need = np.where(bids, np.maximum(wish, 0), 0)
    wrong = good.need_millicores != need
    findings.rows("bid-wrong", wrong, need=good.need_millicores, by_hand=need)
    taken = reservation + each.fixed_headroom
    _check_cap(each, taken, good, findings)


def _check_cap(each: Round, taken: IntArray, good: GoodTargets, findings: Findings) -> None:
    """Checks the pods' caps in a good of which their rows hold this much already."""
    rows, pods = each.rows, each.pods
    admitted = each.sum_pods(
        np.where(rows.has_limit, rows.admitted_limit_millicores, rows.admitted_request_millicores)
    )
    ratio = each.parameters.pod_cap_ratio
    share = (each.nodes.allocatable_millicores * ratio).astype(np.int64)[pods.node]
    cap = np.minimum(pods.declared_max_millicores, np.maximum(share, admitted))
    left = np.maximum(cap - each.sum_pods(taken), 0)
    if good is each.targets.ceiling_headroom:  # Admitted limits are never cut.
        left = np.maximum(left, each.sum_pods(good.floor_millicores))
    wrong = (good.pod_cap_millicores != left)[rows.pod]
    said = good.pod_cap_millicores[rows.pod]
    findings.rows("cap-wrong", wrong, cap=said, by_hand=left[rows.pod])


def _check_reclaim(each: Round, findings: Findings) -> None:
    """Sum max(0, b - r) is within its bound, and needs rise only to keep it there."""
    good = each.targets.reservation
    given_up: IntArray = np.maximum(good.floor_millicores - good.need_millicores, 0)
    freed = each.sum_nodes(given_up)
    allocatable = each.nodes.allocatable_millicores.astype(np.float64)
    most: FloatArray = allocatable * each.parameters.reclaim_max_fraction
    findings.markets("reclaim-exceeded", freed > most, freed=freed, most=most)
    raised = good.need_millicores > _find_wishes(each)
    on_node = each.sum_nodes(raised.astype(np.int64))
    giving = each.sum_nodes((good.floor_millicores > _find_wishes(each)).astype(np.int64))
    # Each row that gives up less is rounded by less than a millicore, and the bound as well.
    needless = (on_node > 0) & (freed < most - giving - 1)
    findings.markets("reclaim-needless", needless, freed=freed, most=most)
    unsaid = each.targets.reclaim_bound != raised
    findings.rows("reclaim-needless", unsaid, need=good.need_millicores)
