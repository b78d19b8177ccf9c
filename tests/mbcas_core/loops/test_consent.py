"""Refusals and credits over rounds: what is told, what is kept, and what a record recomputes."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from mbcas_core import explain
from mbcas_core.effects import Effect, Notice, Violation
from mbcas_core.events import Event, Mode
from mbcas_core.loops.consent import BEGUN, ENDED
from mbcas_core.views import DecisionView
from tests.golden.replay import Replay
from tests.mbcas_core import audit
from tests.mbcas_core.cluster import Mishap
from tests.mbcas_core.world import FAST_PARAMETERS, World

GENEROUS = replace(FAST_PARAMETERS, refusal_floor_step=0.3, credit_endowment_millicore_rounds=2_000)
SECONDS = [*Mishap] + [Mishap.SURGE] * 50 + [Mishap.NODE_SHRINKS] * 4 + [Mishap.CALM] * 15
"""What happens in a second, drawn so that CPU is short more often than not."""
NODE = """
parameters round_period_seconds=5 dwell_down_seconds=5 need_window_seconds=5 {parameters}
attach n allocatable=1100
container quiet request=300 limit=300 policy=hard-quota
container picky request=300 limit=300 policy=hard-quota acceptable={acceptable}
container other request=300 limit=300 policy=hard-quota
use quiet usage=20
use picky usage=900
use other usage=900
tick {seconds}
"""


def replay(*, seconds: int, acceptable: int = 520, **parameters: float) -> Replay:
    """Lives with a nearly idle pod and two busy ones on a node that has 1000m for them."""
    script = NODE.format(
        seconds=seconds,
        acceptable=acceptable,
        parameters=" ".join(f"{name}={value}" for name, value in parameters.items()),
    )
    found = Replay()
    found.run(script)
    return found


def decision_of(found: Replay, pod: str, container: str | None = None) -> DecisionView:
    """The last decision about a container, by default the one that is called as its pod is."""
    (decision,) = [
        decision
        for decision in explain.explain_pod(found.rounds, "shop", pod)
        if decision.container.container == (container or pod)
    ]
    return decision


def test_a_refusal_is_shown_and_changes_nothing_by_default() -> None:
    careless = replay(seconds=30, acceptable=0)
    found = replay(seconds=30)

    view = explain.market_view(found.rounds, "n", include_containers=True)
    picky = decision_of(found, "picky")
    assert picky.container.refused
    assert picky.container.min_acceptable_millicores == 520
    assert picky.container.compliance_level == picky.reservation.pod_allocation_millicores / 520
    assert picky.container.credits is None
    assert view.refusing_pods == 1
    assert found.rounds.counters["refusals"] == 1
    for pod in ("quiet", "picky", "other"):
        assert decision_of(found, pod).reservation == decision_of(careless, pod).reservation


def test_credits_lift_a_pod_for_as_long_as_its_purse_lasts() -> None:
    rich = replay(seconds=8, credit_endowment_millicore_rounds=1_000)
    poor = replay(seconds=120, credit_endowment_millicore_rounds=1_000)

    lifted, giver = decision_of(rich, "picky"), decision_of(rich, "other")
    moved = lifted.reservation.credit_millicores
    assert moved > 0
    assert giver.reservation.credit_millicores == -moved
    before = giver.reservation.pod_allocation_millicores + moved
    assert lifted.reservation.pod_allocation_millicores == before + moved
    for found in (rich, poor):
        purses = [decision_of(found, pod).container.credits for pod in ("quiet", "picky", "other")]
        assert sum(purse or 0 for purse in purses) == 3 * 300
    assert decision_of(poor, "picky").container.credits == 0
    assert decision_of(poor, "picky").reservation.credit_millicores == 0
    assert decision_of(poor, "picky").container.refused


def test_a_container_whose_request_is_fixed_counts_toward_what_credits_are_paid_for() -> None:
    script = """
parameters round_period_seconds=1 credit_endowment_millicore_rounds=1000
attach n allocatable=1400
container quiet request=300 limit=300 policy=hard-quota
container fixed request=300 limit=300 pod=mixed policy=limits-only acceptable=860
container picky request=300 limit=300 pod=mixed policy=hard-quota acceptable=860
container other request=300 limit=300 policy=hard-quota
use quiet usage=20
use fixed usage=200
use picky usage=900
use other usage=900
tick 5
"""
    found = Replay()
    found.run(script)

    good = decision_of(found, "mixed", "picky").reservation
    assert good.credit_millicores > 0
    assert 300 + good.pod_allocation_millicores == 860


def test_a_floor_that_grows_with_refusals_stops_at_what_is_acceptable_and_falls_back() -> None:
    found = replay(seconds=15, refusal_floor_step=0.25)
    floors = []
    for _ in range(13):
        found.run("tick 5")
        floors.append(decision_of(found, "picky").reservation)

    grown = {bid.pod_floor_millicores for bid in floors}
    assert min(grown) == 300
    assert 300 < max(grown) <= 520
    assert any(bid.pod_allocation_millicores >= 520 for bid in floors)
    highest = max(range(13), key=lambda index: floors[index].pod_floor_millicores)
    assert any(bid.pod_floor_millicores == 300 for bid in floors[highest:])


def test_a_false_least_pays_where_floors_grow_and_takes_nobody_s_declared_floor() -> None:
    honest, liar = (
        replay(seconds=60, acceptable=900, refusal_floor_step=step) for step in (0.0, 0.25)
    )

    alone = decision_of(honest, "picky").reservation.pod_allocation_millicores
    gains = decision_of(liar, "picky").reservation.pod_allocation_millicores
    loses = decision_of(liar, "other").reservation
    assert gains > alone + 100
    assert loses.pod_allocation_millicores == loses.pod_floor_millicores == 300


class RoundCheck:
    """Recomputes each decision, and who refuses, from the records of rounds just cleared."""

    def __init__(self) -> None:
        self.lent = 0

    def __call__(self, world: World) -> None:
        for node in world.nodes:
            view = explain.market_view(world.rounds, node.name, include_containers=False)
            if view.round_time_seconds != world.now + 0.5:
                continue
            pods: dict[str, list[DecisionView]] = defaultdict(list)
            for decision in audit.decisions_of(world.rounds, node.name):
                assert audit.recompute(decision, world.parameters) == [], decision
                pods[decision.container.pod_uid].append(decision)
            assert view.refusing_pods == sum(self._check_pod(own) for own in pods.values())

    def _check_pod(self, own: list[DecisionView]) -> bool:
        least, got = least_and_got(own)
        for decision in own:
            assert decision.container.refused == (got < least), own
            level = min(1.0, got / least) if least else 1.0
            assert decision.container.compliance_level == level
            self.lent += decision.reservation.credit_millicores > 0
        return got < least


def least_and_got(own: list[DecisionView]) -> tuple[int, int]:
    """What a pod takes at the least and what it is allocated, from its containers' records."""
    auto = [decision for decision in own if decision.container.mode == Mode.AUTO]
    acceptable = own[0].container.min_acceptable_millicores or 0
    for name in ("reservation", "ceiling_headroom"):
        bids = [decision for decision in auto if getattr(decision, name).takes_part]
        if bids:
            good = getattr(bids[0], name)
            got = sum(_held(decision, ceiling=name != "reservation") for decision in own)
            need = got - good.pod_allocation_millicores + good.pod_need_millicores
            return min(acceptable, need), got
    return 0, 0


def _held(decision: DecisionView, *, ceiling: bool) -> int:
    auto = decision.container.mode == Mode.AUTO
    order, reserved, head = decision.order, decision.reservation, decision.ceiling_headroom
    base = order.billed_reservation_millicores
    if auto and reserved.takes_part:
        base = reserved.target_millicores
    if not ceiling:
        return base
    if auto and head.takes_part:
        return base + head.target_millicores
    if decision.container.ceiling.applied_millicores is None:
        return max(base, decision.headroom.ceiling_need_millicores)
    return max(base, order.billed_ceiling_millicores)


class PurseCheck:
    """On a node whose pods stay the same, credits only change hands."""

    def __init__(self) -> None:
        self.before: dict[str, dict[str, int]] = {}

    def __call__(self, world: World) -> None:
        for node in world.nodes:
            view = explain.market_view(world.rounds, node.name, include_containers=True)
            purses = {c.pod_uid: c.credits for c in view.containers if c.credits is not None}
            assert all(purse >= 0 for purse in purses.values())
            before = self.before.get(node.name, {})
            if before.keys() == purses.keys():
                assert sum(before.values()) == sum(purses.values())
            self.before[node.name] = purses


class NoticeCheck:
    """A beginning and an end by turns, and as many beginnings as are counted."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.count = 0

    def __call__(self, _: World, __: Event, effect: Effect) -> None:
        assert not isinstance(effect, Violation), effect
        if not isinstance(effect, Notice) or effect.event not in (BEGUN, ENDED):
            return
        key = f"{effect.node} {effect.detail.split()[0]}"
        if effect.event == BEGUN:
            self.count += 1
            self.begun.add(key)
        else:
            self.begun.remove(key)


def test_refusals_credits_and_grown_floors_recompute_whatever_happens() -> None:
    checks, refusals = RoundCheck(), 0
    for seed in range(8):
        world, notices = World(seed, parameters=GENEROUS), NoticeCheck()
        world.on_effect.append(notices)
        world.on_tick += [checks, PurseCheck()]

        draw = np.random.default_rng(seed)
        world.run([SECONDS[i] for i in draw.integers(len(SECONDS), size=25).tolist()])

        assert world.rounds.counters.get("refusals", 0) == notices.count
        refusals += notices.count
    assert checks.lent > 5
    assert refusals > 5
