"""The rules that hold at every instant, over random histories of a world that misbehaves.

Rule numbers are those of the core's README. A failure prints a seed and the mishaps of each second;
`World(seed).run(mishaps)` lives through it again.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mbcas_core import explain
from mbcas_core.effects import Effect, Lane, Order, Reason, SendOrders, Violation
from mbcas_core.events import Event, Mode, NodeAttached, Outcome, Policy, ReportArrived
from mbcas_core.rounds import Rounds
from mbcas_core.views import ContainerGoodView, DecisionView
from tests.mbcas_core import audit
from tests.mbcas_core.cluster import Mishap, Node
from tests.mbcas_core.world import FAST_PARAMETERS, World

# Half of the seconds are quiet, and loads change often.
SECOND = st.sampled_from([*Mishap] + [Mishap.NOTHING] * 12 + [Mishap.SURGE] * 6 + [Mishap.CALM] * 4)
MISHAPS = st.lists(SECOND, min_size=20, max_size=60)
SEED = st.integers(0, 2**32 - 1)
# A history takes a while, and shrinking hundreds of them takes too long to be of use.
histories = settings(
    max_examples=max(10, settings().max_examples // 10), phases=(Phase.reuse, Phase.generate)
)

Check = Callable[["World", Event, Effect], None]


def live(seed: int, mishaps: list[Mishap], *checks: Check) -> World:
    """Lives through a history; the checks see every effect before it is carried out."""
    world = World(seed)
    world.on_effect.extend(checks)
    return world.run(mishaps)


def no_violation(_: World, __: Event, effect: Effect) -> None:
    assert not isinstance(effect, Violation), effect


class SupplyCheck:
    """Rule 1 against the truth: what is set, what may still be set, and what was told."""

    def __init__(self) -> None:
        self.bounds: dict[str, tuple[audit.Bounds, int]] = {}
        self.believed: dict[tuple[str, str], tuple[int, int]] = {}
        self.bare: dict[str, set[tuple[str, str]]] = {}
        """Whose limits bounded nothing in each node's last round."""

    def __call__(self, world: World, _: Event, effect: Effect) -> None:
        if not isinstance(effect, SendOrders):
            return
        node = world.node(effect.node)
        fast = effect.orders[0].lane == Lane.EMERGENCY
        bare = self.bare.get(node.name, set()) if fast else audit.bounds_nothing(world, node)
        raised_request, raised_limit = self._raises(world, node, effect.orders, bare)
        if fast:
            bounds, free = self.bounds[node.name]
            # What shrank since the last clearing is not there to be given.
            less = max(free - self._free(node), 0)
            overcommit = world.parameters.ceiling_overcommit
            bounds = audit.Bounds(
                bounds.requests - less, bounds.ceilings - round(overcommit * less)
            )
        else:
            bounds = audit.bounds_of(world, node)
        requests, limits = self._sums(node, effect.orders, bare)
        assert not raised_request or requests <= bounds.requests, f"{requests} {bounds} {effect}"
        assert not raised_limit or limits <= bounds.ceilings, f"{limits} {bounds} {effect}"

    def before_tick(self, world: World) -> None:
        """Notes what the core must still hold for possible: raises are counted from there."""
        for node in world.nodes:
            view = explain.market_view(world.rounds, node.name, include_containers=True)
            for container in view.containers:
                request, limit = _most(container.reservation), _most(container.ceiling)
                if container.policy == Policy.HARD_QUOTA and limit:
                    request = limit
                self.believed[container.pod_uid, container.container] = (request, limit)

    def after_tick(self, world: World) -> None:
        for node in world.nodes:
            if node.told_facts is not None:
                view = explain.market_view(world.rounds, node.name, include_containers=False)
                if view.round_time_seconds == world.now + 0.5:
                    self.bare[node.name] = audit.bounds_nothing(world, node)
                self.bounds[node.name] = (audit.bounds_of(world, node), self._free(node))

    def _free(self, node: Node) -> int:
        assert node.told_facts is not None, "orders go to nodes that reported"
        return node.told_facts.allocatable_millicores - node.told_facts.unmanaged_millicores

    def _raises(
        self, world: World, node: Node, orders: tuple[Order, ...], bare: set[tuple[str, str]]
    ) -> tuple[list[Order], list[Order]]:
        requests, limits = [], []
        for order in orders:
            container = world.find(node.name, order)
            if container is None:
                continue
            pairs = zip(container.truth(), self.believed[container.key], strict=True)
            request, limit = (max(pair) for pair in pairs)
            if (order.desired.request_millicores or 0) > request:
                requests.append(order)
            if container.key not in bare and (order.desired.limit_millicores or 0) > limit:
                limits.append(order)
        return requests, limits

    def _sums(
        self, node: Node, orders: tuple[Order, ...], bare: set[tuple[str, str]]
    ) -> tuple[int, int]:
        sent = {(order.pod_uid, order.container): order.desired for order in orders}
        requests = limits = 0
        for container in node.containers:
            if not container.told:
                continue
            request, limit = container.truth()
            desired = sent.get(container.key)
            if desired is not None:
                request = max(request, desired.request_millicores or 0)
                limit = max(limit, desired.limit_millicores or 0)
            requests += request
            unbounded = container.limit is None or container.key in bare
            limits += request if unbounded else limit
        return requests, limits


def _most(good: ContainerGoodView) -> int:
    return max(
        good.desired_millicores or 0,
        good.allocated_millicores or 0,
        good.applied_millicores or 0,
    )


class FlightCheck:
    """No second order for a container before the first one's end is known or given up."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, str, str], tuple[int, float]] = {}
        self.answered: set[int] = set()
        self.attached: dict[str, float] = {}
        self.read = 0

    def __call__(self, world: World, event: Event, effect: Effect) -> None:
        if not isinstance(effect, SendOrders):
            return
        self._read(world)
        for order in effect.orders:
            container = world.find(effect.node, order)
            assert container is None or not container.pending, f"{order} overtakes one on its way"
            key = (effect.node, order.pod_uid, order.container)
            before = self.sent.get(key)
            if before is not None and before[0] not in self.answered:
                voided = self.attached[effect.node] >= before[1]
                late = world.now - before[1] >= world.parameters.order_timeout_seconds
                assert voided or late, f"{order} before the end of {before}"
            self.sent[key] = (order.order_id, world.now)

    def _read(self, world: World) -> None:
        for event, _ in world.log[self.read :]:
            if isinstance(event, NodeAttached):
                self.attached[event.node] = event.time_seconds
            elif isinstance(event, ReportArrived):
                self.answered |= {result.order_id for result in event.report.results}
        self.read = len(world.log)


def check_order(world: World, _: Event, effect: Effect) -> None:
    """Rules 2, 3 and 4 as far as an order shows them."""
    if not isinstance(effect, SendOrders):
        return
    node = world.node(effect.node)
    assert node.connected, "a detached node gets no orders"
    assert not world.frozen, "frozen writes"
    assert world.now - node.last_arrival <= world.parameters.stale_after_seconds + 1, "silent"
    for order in effect.orders:
        assert (order.pod_uid, order.container) in node.known.values(), "an unknown container"
        container = world.find(effect.node, order)
        desired = order.desired
        if desired.limit_millicores is not None:
            assert desired.limit_millicores >= 10, "no ceiling is below what the kernel takes"
            assert order.admitted.limit_millicores is not None, "nobody gets a limit it had not"
            cut = container is not None and desired.limit_millicores < (container.limit or 0)
            if cut and not order.restore_exactly:
                assert desired.limit_millicores >= order.admitted.limit_millicores
        if container is None or container.untold is not None:
            continue
        assert container.facts.mode == Mode.AUTO
        assert not container.facts.skip_reason
        request = desired.request_millicores or container.request or 0
        limit = desired.limit_millicores or container.limit
        assert limit is None or request <= limit, f"{order} on {container}"
        if container.facts.policy == Policy.HARD_QUOTA and limit is not None:
            assert request == limit, f"{order} leaves two numbers"


@settings(histories, max_examples=3 * histories.max_examples)
@given(SEED, MISHAPS)
def test_no_order_exceeds_the_supply_touches_what_it_may_not_or_overtakes_another(
    seed: int, mishaps: list[Mishap]
) -> None:
    check = SupplyCheck()
    world = World(seed)
    world.on_effect += [check, no_violation, check_order, FlightCheck()]
    world.before_tick.append(check.before_tick)
    world.on_tick.append(check.after_tick)

    world.run(mishaps)


@histories
@given(SEED, MISHAPS)
def test_targets_lie_between_owed_and_needed_raises_do_not_wait_in_vain_and_reasons_add_up(
    seed: int, mishaps: list[Mishap]
) -> None:
    world = World(seed)
    world.on_effect.append(no_violation)
    world.on_tick += [check_targets, WaitingCheck(), check_reasons]

    world.run(mishaps)


def check_targets(world: World) -> None:
    """Rule 2 from what is published."""
    for node in world.nodes:
        view = explain.market_view(world.rounds, node.name, include_containers=False)
        for decision in audit.decisions_of(world.rounds, node.name):
            for good, market in (
                (decision.reservation, view.reservation),
                (decision.ceiling_headroom, view.ceiling),
            ):
                owed = min(good.pod_floor_millicores, good.pod_need_millicores)
                assert good.target_millicores <= good.need_millicores, decision
                assert good.pod_allocation_millicores <= good.pod_cap_millicores, decision
                if decision.container.mode == Mode.AUTO and not market.floors_reduced:
                    assert good.pod_allocation_millicores >= owed, decision


RAISED = {Reason.RAISED, Reason.RATIONED, Reason.EMERGENCY, Reason.ROLLED_BACK}
HELD_BACK = {
    Reason.WAITING_BUDGET,
    Reason.WAITING_SPACING,
    Reason.IN_FLIGHT,
    Reason.BACKING_OFF,
    Reason.CHANGED_ELSEWHERE,
    Reason.OBSERVING,
    Reason.STALE,
    Reason.FROZEN,
}


class WaitingCheck:
    """A raise that could be given is given, or what it waits for is said."""

    def __init__(self) -> None:
        self.reasons: set[Reason] = set()
        """Of the rows that should be raised."""

    def __call__(self, world: World) -> None:
        for node in world.nodes:
            view = explain.market_view(world.rounds, node.name, include_containers=False)
            if view.round_time_seconds == world.now + 0.5:
                self._check(world, audit.decisions_of(world.rounds, node.name))

    def _check(self, world: World, decisions: list[DecisionView]) -> None:
        quantum = world.parameters.quantum_millicores
        free = audit.free_after_grants(decisions)
        for decision in decisions:
            if decision.container.mode != Mode.AUTO:
                continue
            wished = audit.wished_goods(decision, world.parameters)
            if not wished:
                continue
            reason = decision.container.reason
            self.reasons.add(reason)
            could_be_given = all(free[good] >= quantum for good in wished)
            said = reason in RAISED | HELD_BACK
            assert said or not could_be_given, f"{decision} waits although {free} is free"


def test_raises_wait_for_supply_spacing_and_budget_in_the_histories() -> None:
    draw = np.random.default_rng(2)
    kinds = [*Mishap] + [Mishap.NOTHING] * 12 + [Mishap.SURGE] * 12
    check = WaitingCheck()

    few_orders = replace(FAST_PARAMETERS, resize_budget_per_second=0.2)
    far_between = replace(FAST_PARAMETERS, pod_spacing_seconds=10.0)
    expected = {
        Reason.RAISED,
        Reason.RATIONED,
        Reason.WAITING_SUPPLY,
        Reason.WAITING_SPACING,
        Reason.WAITING_BUDGET,
        Reason.IN_FLIGHT,
    }
    for seed, parameters in enumerate([few_orders, far_between] * 4):
        world = World(seed, parameters=parameters)
        world.on_tick.append(check)
        world.run([kinds[i] for i in draw.integers(0, len(kinds), 50).tolist()])
        if check.reasons >= expected:
            break

    assert check.reasons >= expected


@settings(histories, max_examples=histories.max_examples // 2)
@given(SEED, MISHAPS)
def test_the_same_events_have_the_same_effects(seed: int, mishaps: list[Mishap]) -> None:
    world = live(seed, mishaps)

    again = Rounds(world.parameters)

    assert [repr(again.handle(event)) for event, _ in world.log] == [
        repr(effects) for _, effects in world.log
    ]


def test_the_same_events_have_the_same_effects_in_another_process() -> None:
    script = (
        "import numpy as np;"
        "from tests.mbcas_core.cluster import Mishap;"
        "from tests.mbcas_core.world import World;"
        "draw = np.random.default_rng(3);"
        "w = World(3).run([list(Mishap)[i] for i in draw.integers(0, len(Mishap), 60).tolist()]);"
        "print([e for _, e in w.log])"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(outputs) == 1
    assert b"SendOrders" in outputs.pop()


def check_reasons(world: World) -> None:
    for node in world.nodes:
        view = explain.market_view(world.rounds, node.name, include_containers=True)
        keys = [(container.pod_uid, container.container) for container in view.containers]
        assert sorted(keys) == sorted(node.known.values())
        assert {container.reason for container in view.containers} <= set(Reason)
        for decision in audit.decisions_of(world.rounds, node.name):
            assert decision.summary
            assert audit.recompute(decision, world.parameters) == [], decision


def test_the_histories_have_in_them_what_the_rules_are_about() -> None:
    draw = np.random.default_rng(1)
    kinds = [*Mishap] + [Mishap.NOTHING] * 12 + [Mishap.SURGE] * 6 + [Mishap.CALM] * 4

    orders: list[Order] = []
    outcomes = set()
    for seed in range(8):
        world = World(seed).run([kinds[i] for i in draw.integers(0, len(kinds), 60).tolist()])
        for event, effects in world.log:
            orders += [o for e in effects if isinstance(e, SendOrders) for o in e.orders]
            if isinstance(event, ReportArrived):
                outcomes |= {result.outcome for result in event.report.results}

    assert {order.lane for order in orders} == {Lane.EMERGENCY, Lane.NORMAL}
    assert {order.reason for order in orders} >= {
        Reason.RAISED,
        Reason.RATIONED,
        Reason.CUT,
        Reason.CUT_LIMITED,
        Reason.EMERGENCY,
    }
    assert outcomes >= {Outcome.APPLIED, Outcome.REFUSED, Outcome.FAILED}
