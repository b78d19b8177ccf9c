"""Bookkeeping by hand: what a node may be billed, and how a decision's numbers hang together.

Plain loops over the published views, the parameters and the world's truth; nothing of the core's
own arithmetic is called.
"""

import math
from dataclasses import dataclass

from mbcas_core import explain
from mbcas_core.effects import Reason
from mbcas_core.events import Mode, Policy
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_core.views import DecisionView, GoodDecisionView
from tests.mbcas_core.cluster import Node
from tests.mbcas_core.world import World


@dataclass(frozen=True)
class Bounds:
    """What a node's requests and ceilings may add up to after a raise."""

    requests: int
    ceilings: int


def decisions_of(rounds: Rounds, node: str) -> list[DecisionView]:
    view = explain.market_view(rounds, node, include_containers=True)
    pods = sorted({(c.namespace, c.pod) for c in view.containers})
    found = [d for namespace, pod in pods for d in explain.explain_pod(rounds, namespace, pod)]
    return [decision for decision in found if decision.node == node]


def bounds_nothing(world: World, node: Node) -> set[tuple[str, str]]:
    """The containers, by pod uid and name, that a market counts as ones without a limit."""
    assert node.told_facts is not None, "a round needs the node's facts"
    allocatable = node.told_facts.allocatable_millicores
    strict = {c.key for c in node.containers if c.facts.strict}
    found = set()
    for container in explain.market_view(
        world.rounds, node.name, include_containers=True
    ).containers:
        key = (container.pod_uid, container.container)
        set_by_market = (
            container.mode == Mode.AUTO
            and not container.skip_reason
            and container.policy != Policy.REQUESTS_ONLY
            and (container.policy == Policy.HARD_QUOTA or key in strict)
        )
        if (container.ceiling.admitted_millicores or 0) >= allocatable and not set_by_market:
            found.add(key)
    return found


def bounds_of(world: World, node: Node) -> Bounds:
    """Recomputes a node's supplies from its last clearing's bids."""
    parameters = world.parameters
    facts = node.told_facts
    assert facts is not None, "a round needs the node's facts"
    strict = {c.facts.pod_uid: bool(c.facts.strict) for c in node.containers}
    free = facts.allocatable_millicores - facts.unmanaged_millicores
    reserve = max(
        parameters.reserve_millicores,
        math.ceil(facts.allocatable_millicores * parameters.reserve_ratio),
    )
    fixed = 0
    floors: dict[str, int] = {}
    targets: dict[tuple[str, str], int] = {}
    decisions = decisions_of(world.rounds, node.name)
    for decision in decisions:
        container, bid = decision.container, decision.reservation
        key = (container.pod_uid, container.container)
        if bid.takes_part and container.mode == Mode.AUTO:
            floors[container.pod_uid] = min(bid.pod_need_millicores, bid.pod_floor_millicores)
            targets[key] = bid.target_millicores
        else:
            fixed += decision.order.billed_reservation_millicores
            targets[key] = decision.order.billed_reservation_millicores
    supply = max(free - fixed - reserve, min(free - fixed, sum(floors.values())))
    requests = max(supply + fixed, 0)

    taken = floor_sum = 0
    overcommit = parameters.ceiling_overcommit
    bare = bounds_nothing(world, node)
    for decision in decisions:
        container, bid = decision.container, decision.ceiling_headroom
        target = targets[container.pod_uid, container.container]
        taken += target
        auto = container.mode == Mode.AUTO
        follows = auto and container.policy == Policy.HARD_QUOTA and decision.reservation.takes_part
        if bid.takes_part and auto:
            floor_sum += bid.floor_millicores
            if strict.get(container.pod_uid, False):
                overcommit = 1.0
        elif (container.pod_uid, container.container) in bare:
            pass
        elif container.ceiling.applied_millicores is not None and not follows:
            taken += max(decision.order.billed_ceiling_millicores - target, 0)
    left = math.floor(overcommit * requests) - taken
    return Bounds(requests, max(floor_sum, left, 0) + taken)


def free_after_grants(decisions: list[DecisionView]) -> dict[str, int]:
    """What the last second clearing of a node left, by good."""
    free = {"reservation": 0, "ceiling": 0}
    for good in free:
        slack = [getattr(d.order, f"slack_{good}_millicores") for d in decisions]
        granted = [getattr(d.order, f"granted_{good}_millicores") for d in decisions]
        free[good] = max(slack, default=0) - sum(granted)
    return free


def wished_goods(decision: DecisionView, parameters: Parameters) -> list[str]:
    """The goods in which a row should have more than it is billed, by more than the band."""
    container, order = decision.container, decision.order
    hard = container.policy == Policy.HARD_QUOTA
    takes_part = {
        "reservation": decision.reservation.takes_part,
        "ceiling": decision.ceiling_headroom.takes_part
        or (hard and decision.reservation.takes_part),
    }
    targets = {
        "reservation": container.reservation.target_millicores,
        "ceiling": container.ceiling.target_millicores,
    }
    wished = []
    for good, target in targets.items():
        billed = getattr(order, f"billed_{good}_millicores")
        more = (target or 0) - billed
        band = max(parameters.band_millicores, parameters.band_ratio * billed + 1)
        if takes_part[good] and more >= band:
            wished.append(good)
    # A reservation above its ceiling needs room in both; without a limit it counts in both.
    if "reservation" in wished and (targets["reservation"] or 0) > order.billed_ceiling_millicores:
        wished.append("ceiling")
    return wished


def recompute(decision: DecisionView, parameters: Parameters) -> list[str]:
    """Redoes a decision's arithmetic from its record; says where the record disagrees."""
    if decision.container.decision_time_seconds is None:
        return []
    wrong = _response(decision, parameters)
    wrong += _needs(decision)
    wrong += _bid(decision, parameters)
    for good in (decision.reservation, decision.ceiling_headroom):
        wrong += _target(good, parameters.quantum_millicores)
    return wrong + _order(decision)


def _check(name: str, got: float, low: float, high: float) -> list[str]:
    if low <= got <= high:
        return []
    return [f"{name} is {got}, by hand from {low} to {high}"]


def _response(decision: DecisionView, parameters: Parameters) -> list[str]:
    """How the needs answered to the price."""
    h, price = decision.headroom, decision.headroom.response_shortage
    tau, factor = h.tau, 1.0
    elasticity = parameters.elasticity[decision.container.priority_class]
    wrong = _check("response shortage", price, 0.0, 1.0)
    if h.price_response == "frozen":
        cost_of_throttling = (1 - tau) / tau
        tau = max(tau, min(parameters.tau_max, tau * (1 + elasticity * price * cost_of_throttling)))
    elif h.price_response == "two-pass":
        bid = decision.reservation.takes_part or decision.ceiling_headroom.takes_part
        if price > 0.5:
            factor = 1 - min(price * elasticity, 0.5)
        elif price < 0.2 and bid:
            factor = 1 + min((0.2 - price) * elasticity, 0.2)
    else:
        wrong += _check("response shortage", price, 0.0, 0.0)
    wrong += _check("effective tau", h.effective_tau, tau - 1e-9, tau + 1e-9)
    return wrong + _check("demand factor", h.demand_factor, factor - 1e-9, factor + 1e-9)


def _needs(decision: DecisionView) -> list[str]:
    h = decision.headroom
    if h.need_floor_millicores == 0:  # Nothing was ever estimated.
        lifted = math.ceil(h.emergency_millicores)
        return _check("ceiling need", h.ceiling_need_millicores, lifted, lifted)
    need = max(
        h.base_millicores + (h.level - 1.0) * h.usage_millicores,
        h.recent_need_millicores,
        h.burst_millicores,
        h.need_floor_millicores,
    )
    ceiling = max(_scaled(need, h.demand_factor), math.ceil(h.emergency_millicores))
    reserved = max(h.reservation_quantile_millicores, h.base_millicores, h.need_floor_millicores)
    reservation = _scaled(reserved, h.demand_factor)
    return [
        *_check("ceiling need", h.ceiling_need_millicores, ceiling, ceiling),
        *_check("reservation need", h.reservation_need_millicores, reservation, reservation),
    ]


def _scaled(need: float, factor: float) -> int:
    whole = math.ceil(need)
    return max(math.ceil(whole * factor), min(whole, 10))


def _counts_without_limit(decision: DecisionView) -> bool:
    """True where its limit was billed as none, or as much as its reservation."""
    order = decision.order
    return order.billed_ceiling_millicores == order.billed_reservation_millicores


def _reservation_wish(decision: DecisionView) -> int:
    """The reservation need, at most the limit: the admitted one where the market sets both."""
    container, wish = decision.container, decision.headroom.reservation_need_millicores
    if not container.ceiling.applied_millicores:
        return wish
    if _counts_without_limit(decision) and wish <= decision.reservation.need_millicores:
        return wish
    if container.policy == Policy.REQUESTS_ONLY:
        return min(wish, decision.order.billed_ceiling_millicores)
    return min(wish, container.ceiling.admitted_millicores or wish)


def _bid(decision: DecisionView, parameters: Parameters) -> list[str]:
    """From needs to what was bid."""
    wrong: list[str] = []
    container, h, bid = decision.container, decision.headroom, decision.reservation
    # A lift between two rounds is need that the last clearing had not heard of.
    lifted = h.emergency_millicores > h.ceiling_need_millicores - 1
    least = 0.0 if lifted else 1.0
    if bid.takes_part:
        hard = container.policy == Policy.HARD_QUOTA
        wish = h.ceiling_need_millicores if hard else _reservation_wish(decision)
        given_up = max(bid.floor_millicores - wish, 0)
        need = max(wish, bid.floor_millicores - bid.reclaim_factor * given_up)
        # What somebody else has set since then is the admitted limit from now on.
        changed = container.reason == Reason.CHANGED_ELSEWHERE
        if not (changed or (lifted and hard)):
            wrong += _check("bid", bid.need_millicores, need - 1e-6, need + 1.0)
    head = decision.ceiling_headroom
    if head.takes_part:
        reserved = decision.order.billed_reservation_millicores
        if bid.takes_part:
            reserved = bid.target_millicores
        need = max(head.floor_millicores, h.ceiling_need_millicores - reserved, 0)
        wrong += _check("headroom bid", head.need_millicores, need * least, need)
    for good in (bid, head):
        if good.takes_part and good.pod_cap_millicores < good.pod_need_millicores:
            wrong.append("a pod bids more than its cap")
    return wrong


def _target(good: GoodDecisionView, quantum: int) -> list[str]:
    """From what was bid to the target, at both levels."""
    if not good.takes_part:
        return _check("target", good.target_millicores, 0, 0)
    pod = _share(
        good.pod_need_millicores, good.pod_floor_millicores, good.pod_weight, good.node_level
    )
    if good.floors_reduced:
        pod = _reduced(good.pod_need_millicores, good.pod_floor_millicores, good.node_level)
    pod += good.credit_millicores
    wrong = []
    if abs(good.pod_allocation_millicores - pod) > quantum:
        wrong.append(f"the pod has {good.pod_allocation_millicores}, by hand {pod}")
    if good.pod_level is not None:
        own = _share(
            good.need_millicores, good.floor_millicores, good.container_weight, good.pod_level
        )
        low = _reduced(good.need_millicores, good.floor_millicores, good.pod_level)
        inside = any(abs(good.target_millicores - x) <= quantum for x in (own, low))
        if not inside:
            wrong.append(f"target is {good.target_millicores}, by hand {own} or {low}")
    most = min(good.need_millicores, good.pod_allocation_millicores)
    return wrong + _check("target", good.target_millicores, 0, most)


def _share(need: int, floor: int, weight: float, level: float | None) -> float:
    counted = min(need, floor)
    if level is None:
        return need
    return counted + min(need - counted, weight * level)


def _reduced(need: int, floor: int, level: float | None) -> float:
    return min(need, floor, floor * (level or 0.0))


def _order(decision: DecisionView) -> list[str]:
    """From target to what was sent, where the last thing that happened is a raise."""
    order, container = decision.order, decision.container
    lifted = container.reason in (Reason.EMERGENCY, Reason.ROLLED_BACK)
    if not (lifted or container.reason in (Reason.RAISED, Reason.RATIONED)):
        return []
    wrong = []
    if order.granted_reservation_millicores > 0:
        got = order.desired_reservation_millicores or 0
        most = order.billed_reservation_millicores + order.granted_reservation_millicores
        wrong += _check("desired request", got, 0, most)
    if order.desired_ceiling_millicores is not None:
        most = order.billed_ceiling_millicores + order.granted_ceiling_millicores
        if container.policy == Policy.HARD_QUOTA:
            most = order.billed_reservation_millicores + order.granted_reservation_millicores
        elif _counts_without_limit(decision):
            most = max(most, container.ceiling.admitted_millicores or 0)
        wrong += _check("desired ceiling", order.desired_ceiling_millicores, 0, most)
    return wrong
