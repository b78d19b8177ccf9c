"""Which rows should move, and to what: bands, dwell, protection, and the limit of a single cut.

Dwell keeps a row that needs less now from losing what it may need again in a moment. It does not
protect a share that scarcity has overtaken: on a node where the wanted raises exceed what is free,
a rationed row above its target is cut without it (README).
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.fleet import Selection
from mbcas_core.market.orders import Grants
from mbcas_core.market.targets import Targets
from mbcas_core.parameters import Parameters
from mbcas_core.stability import hysteresis
from mbcas_core.state import State
from mbcas_core.units import MIN_CEILING_MILLICORES, BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """Where n rows stand before the decision; every array has shape (n,)."""

    rows: IntArray
    auto: BoolArray
    fresh: BoolArray
    settled: BoolArray
    """Free to be changed: nothing in flight, not resting."""
    hard: BoolArray
    has_limit: BoolArray
    bounds: BoolArray
    """Its limit is one of its node's ceilings."""
    two_numbers: BoolArray
    """A hard quota whose request and limit are not one yet."""
    applied_request: IntArray
    applied_limit: IntArray
    billed_request: IntArray
    billed_limit: IntArray
    throttled_ratio: FloatArray
    """Throttled share of wall time over the last 15 s."""
    throttled: BoolArray
    """Throttled above tau over the last 15 s."""
    lifted: BoolArray
    young: BoolArray
    may_raise: BoolArray
    """Nothing outside forbids it: the namespace, the kubelet, or how short it is known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wishes:
    """Which of n rows should move, and to what; every array has shape (n,)."""

    up_request: BoolArray
    up_limit: BoolArray
    down_request: BoolArray
    down_limit: BoolArray
    limited: BoolArray
    """The cut is the most that one round allows."""
    dwelling: BoolArray
    protected: BoolArray
    contested: BoolArray
    """It has more than its share while others on the node wait for CPU."""
    barred: BoolArray
    """It should be raised, and may not be."""
    request: IntArray
    limit: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Number:
    """Request or limit of n rows: what it should be, and which way that is worth a move."""

    target: IntArray
    cut: IntArray
    """The target, or the most of a cut that one round allows."""
    up: BoolArray
    down: BoolArray
    down_for_debts: BoolArray
    """The same without the relative band."""


def wish(
    state: State, selection: Selection, standing: Standing, targets: Targets, now: float
) -> Wishes:
    """Compares what every row has with what it should have."""
    rows = selection.rows
    hard = standing.hard & targets.reservation.takes_part
    request, limit = _numbers(state, standing, targets)
    up_request, up_limit = request.up | (hard & limit.up), limit.up | (hard & request.up)
    barred = (up_request | up_limit) & ~standing.may_raise
    up_request, up_limit = up_request & ~barred, up_limit & ~barred
    down_request, down_limit = request.down & ~up_request, limit.down & ~up_limit
    contested = state.decisions.rationed[rows] & _contested(
        selection, standing, targets, up_request=up_request, up_limit=up_limit
    )
    paying = contested & _has_debt(state, selection, standing, targets)
    down_request |= request.down_for_debts & paying & ~up_request
    down_limit |= limit.down_for_debts & paying & ~up_limit
    cutting = down_request | down_limit
    # A lift is not cut, unless others wait for what the market says it has too much.
    protected = cutting & (standing.young | (standing.lifted & down_limit & ~contested))
    rested = now - state.ledger.changed_time[rows] >= state.parameters.dwell_down_seconds
    dwelling = cutting & ~protected & ~rested & ~contested
    held = protected | dwelling
    down_request &= ~held
    down_limit &= ~held
    return Wishes(
        up_request=up_request,
        up_limit=up_limit,
        down_request=down_request,
        down_limit=down_limit,
        limited=(down_request & (request.cut > request.target))
        | (down_limit & (limit.cut > limit.target)),
        dwelling=dwelling,
        protected=protected,
        contested=contested & cutting,
        barred=barred,
        request=np.where(down_request, request.cut, request.target),
        limit=np.where(down_limit, limit.cut, limit.target),
    )


def find_limits(state: State, rows: IntArray, ceilings: IntArray, *, bounds: BoolArray) -> IntArray:
    """The limits that rows should have: their ceilings, or as admitted where that bounds nothing.

    Args:
        state: Read only.
        rows: Which rows.
        ceilings: What the market says.
        bounds: Where a limit took part in it as one.
    """
    facts = state.fleet.rows
    return np.where(facts.has_limit[rows] & ~bounds, facts.admitted_limit[rows], ceilings)


def _numbers(state: State, standing: Standing, targets: Targets) -> tuple[_Number, _Number]:
    """Request and limit of every row, each by itself."""
    parameters, facts, rows = state.parameters, state.fleet.rows, standing.rows
    able = standing.auto & standing.fresh & standing.settled
    hard = standing.hard & targets.reservation.takes_part
    has_limit = standing.has_limit
    owed = np.minimum(targets.reservation.floor_millicores, targets.reservation.need_millicores)
    admitted = np.where(standing.hard | facts.strict[rows], 0, facts.admitted_limit[rows])
    # The kernel takes no smaller quota, whatever little the market has to give.
    bounds = standing.bounds
    limit = find_limits(state, rows, targets.ceiling_millicores, bounds=bounds)
    limit = np.maximum(limit, MIN_CEILING_MILLICORES)
    # One that bounds nothing goes back to what was admitted, if it ever was moved.
    free = ~bounds & (facts.policy[rows] != Policy.REQUESTS_ONLY)
    # Until they are one, the reservation comes up to meet a ceiling that sinks step by step.
    if standing.two_numbers.any():
        halfway = hysteresis.limit_cut(
            standing.applied_limit, limit, cut_max_ratio=parameters.cut_max_ratio
        )
        limit = np.where(standing.two_numbers, np.maximum(limit, halfway), limit)
    request = np.where(hard & has_limit, limit, targets.reservation_millicores)
    # Without a request, its pod might become BestEffort.
    least = np.minimum(facts.admitted_request[rows], MIN_CEILING_MILLICORES)
    request = np.where(facts.kube[rows] & ~(hard & has_limit), np.maximum(request, least), request)
    return (
        _compare(
            parameters,
            applied=standing.applied_request,
            target=request,
            moves=able & targets.reservation.takes_part,
            owed=owed,
            admitted=np.zeros_like(owed),
            throttled=standing.throttled & standing.hard,
        ),
        _compare(
            parameters,
            applied=standing.applied_limit,
            target=limit,
            moves=able & has_limit & (targets.ceiling_headroom.takes_part | hard | free),
            owed=np.where(hard, owed, admitted),
            admitted=admitted,
            throttled=standing.throttled,
        ),
    )


def _compare(
    parameters: Parameters,
    *,
    applied: IntArray,
    target: IntArray,
    moves: BoolArray,
    owed: IntArray,
    admitted: IntArray,
    throttled: BoolArray,
) -> _Number:
    up = hysteresis.worth_raising(
        applied,
        target,
        owed=owed,
        admitted=admitted,
        throttled=throttled,
        band_ratio=parameters.band_ratio,
        band_millicores=parameters.band_millicores,
    )
    down = hysteresis.worth_cutting(
        applied,
        target,
        band_ratio=parameters.band_ratio,
        band_millicores=parameters.band_millicores,
    )
    cut = hysteresis.limit_cut(applied, target, cut_max_ratio=parameters.cut_max_ratio)
    # The band keeps noise from becoming orders; it must not keep a row above its share while
    # another lacks what it is owed.
    for_debts = hysteresis.worth_cutting(
        applied, target, band_ratio=0.0, band_millicores=parameters.band_millicores
    )
    return _Number(
        target=target,
        cut=cut,
        up=moves & up,
        down=moves & down,
        down_for_debts=moves & for_debts,
    )


def _contested(
    selection: Selection,
    standing: Standing,
    targets: Targets,
    *,
    up_request: BoolArray,
    up_limit: BoolArray,
) -> BoolArray:
    """True for every row of a node on which the wanted raises exceed what is free."""
    node, m = selection.node_of_row, selection.nodes.size
    contested = np.zeros(m, np.bool_)
    bounds = standing.bounds
    ceilings = np.where(bounds, standing.billed_limit, standing.billed_request)
    for wanted, billed, target, bound in (
        (
            up_request,
            standing.billed_request,
            targets.reservation_millicores,
            targets.reservation_limit_millicores,
        ),
        (up_limit & bounds, ceilings, targets.ceiling_millicores, targets.ceiling_limit_millicores),
    ):
        rise = np.where(wanted, np.maximum(target - billed, 0), 0)
        wanted_sum = np.bincount(node, rise, m)
        contested |= (wanted_sum > 0) & (wanted_sum + np.bincount(node, billed, m) > bound)
    everyone: BoolArray = contested[node]
    return everyone


def _has_debt(
    state: State, selection: Selection, standing: Standing, targets: Targets
) -> BoolArray:
    """True for every row of a node on which a row lacks a band's worth of what it is owed."""
    good = targets.reservation
    owed = np.where(good.takes_part, np.minimum(good.floor_millicores, good.target_millicores), 0)
    lacks = owed - standing.billed_request >= state.parameters.band_millicores
    owing = np.bincount(selection.node_of_row, lacks, selection.nodes.size) > 0
    everyone: BoolArray = owing[selection.node_of_row]
    return everyone


def desired(
    state: State, standing: Standing, wishes: Wishes, grants: Grants
) -> tuple[IntArray, IntArray]:
    """Request and limit of every row after this round, before spacing and budget.

    A raise is what was granted, a cut what was wished, and what does not move stays as it was sent.
    """
    table, rows = state.ledger, standing.rows
    hard = standing.hard
    request = table.desired_request[rows]
    limit = table.desired_limit[rows]
    granted = standing.billed_request + grants.reservation_millicores
    request = np.where(wishes.up_request, np.minimum(wishes.request, granted), request)
    request = np.where(wishes.down_request, wishes.request, request)
    granted = standing.billed_limit + grants.ceiling_millicores
    granted = np.where(standing.bounds, granted, wishes.limit)
    limit = np.where(wishes.up_limit, np.minimum(wishes.limit, granted), limit)
    limit = np.where(wishes.down_limit, wishes.limit, limit)
    moves = wishes.up_request | wishes.up_limit | wishes.down_request | wishes.down_limit
    up = wishes.up_request | wishes.up_limit
    one = np.where(up, request, np.maximum(request, limit))
    # Two numbers become one where the reservation was granted all of it, and else stay two.
    two = standing.two_numbers
    one = np.where(two & ~up, np.minimum(one, standing.billed_request), one)
    stays = two & up & (one < wishes.request)
    request = np.where(hard & moves, one, request)
    has_limit = standing.has_limit
    held = np.maximum(limit, standing.billed_request)
    request = np.where(has_limit & ~hard, np.minimum(request, held), request)
    limit = np.where(hard & moves, one, np.maximum(limit, np.maximum(request, 0)))
    limit = np.where(~hard & wishes.down_limit, np.maximum(limit, standing.billed_request), limit)
    request = np.where(stays, table.desired_request[rows], request)
    limit = np.where(stays, table.desired_limit[rows], limit)
    return request, np.where(has_limit, limit, 0)
