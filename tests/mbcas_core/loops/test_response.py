"""What price and class do to the needs and weights of real rounds, and that "off" is off."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mbcas_core import explain
from mbcas_core.agents import headroom
from mbcas_core.effects import Effect, SendOrders, Violation
from mbcas_core.events import Mode, PriorityClass
from mbcas_core.parameters import Parameters, PriceResponse
from mbcas_core.presets import PRESETS, Preset
from mbcas_core.rounds import Rounds
from mbcas_core.views import DecisionView
from tests.golden.replay import Replay
from tests.mbcas_core import audit
from tests.mbcas_core.cluster import Mishap
from tests.mbcas_core.world import FAST_PARAMETERS, World

AUTO = Parameters(mode=Mode.AUTO, round_period_seconds=5.0, need_window_seconds=5.0)
INELASTIC = dict.fromkeys(PriorityClass, 0.0)
CROWDED = """
attach node-a allocatable=1000
container batch request=100 limit=100 policy=hard-quota priority=low
container web request=300 limit=300 policy=hard-quota
container db request=200 limit=200 policy=hard-quota priority=critical
use batch usage=800 variation=0.3
use web usage=900 variation=0.3
use db usage=500 variation=0.3
"""


def replay(script: str, parameters: Parameters, *, seconds: int = 60) -> dict[str, DecisionView]:
    """Lives through a script and returns the last decision about each container."""
    run = Replay()
    run.rounds = Rounds(parameters)
    run.run(f"{script}tick {seconds}\n")
    return {
        decision.container.container: decision
        for pod in explain.pod_names(run.rounds)
        for decision in explain.explain_pod(run.rounds, *pod.split("/"))
    }


def shortage_without(decisions: dict[str, DecisionView], name: str) -> float:
    others = sum(
        decision.reservation.pod_need_millicores
        for other, decision in decisions.items()
        if other != name
    )
    supply = decisions[name].reservation.node_supply_millicores
    return max(0.0, 1 - supply / others)


def lived(seed: int, parameters: Parameters) -> World:
    draw = np.random.default_rng(seed)
    kinds = [Mishap.NOTHING, Mishap.SURGE, Mishap.NODE_SHRINKS, Mishap.CALM]
    return World(seed, parameters=parameters).run(
        [kinds[i] for i in draw.integers(0, len(kinds), 30).tolist()]
    )


def effects_of(world: World) -> list[Effect]:
    return [effect for _, effects in world.log for effect in effects]


def test_each_pod_sees_the_smoothed_shortage_among_the_others() -> None:
    parameters = replace(AUTO, price_response=PriceResponse.FROZEN, elasticity=INELASTIC)

    decisions = replay(CROWDED, parameters)

    for name, decision in decisions.items():
        seen = shortage_without(decisions, name)
        assert seen > 0.1
        assert decision.headroom.response_shortage == pytest.approx(seen, abs=0.006)
        assert decision.headroom.effective_tau == decision.headroom.tau


def test_frozen_lowers_the_level_by_raising_the_target_and_leaves_the_declared_one() -> None:
    before = replay(CROWDED, AUTO)

    after = replay(CROWDED, replace(AUTO, price_response=PriceResponse.FROZEN))

    for name, decision in after.items():
        had, has = before[name].headroom, decision.headroom
        assert has.tau == had.tau < has.effective_tau <= 0.5
        level = headroom.level(
            np.array([decision.signals.variation]), np.array([has.effective_tau])
        )
        assert has.level == pytest.approx(level[0])
        assert has.level < had.level
        assert has.ceiling_need_millicores < had.ceiling_need_millicores
        assert has.reservation_need_millicores == had.reservation_need_millicores


def test_an_answer_stays_the_same_for_an_epoch() -> None:
    run = Replay()
    run.rounds = Rounds(replace(AUTO, price_response=PriceResponse.FROZEN, response_epoch_rounds=8))
    run.run(CROWDED)
    seen = []
    for _ in range(60):
        run.run("tick")
        (decision,) = explain.explain_pod(run.rounds, "shop", "web")
        market = explain.market_view(run.rounds, "node-a", include_containers=False)
        seen.append((market.round, decision.headroom.response_shortage))

    changes = [later[0] for earlier, later in pairwise(seen) if later[1] != earlier[1]]
    # What the eighth round ends with is what the ninth asks with.
    assert changes
    assert all(number % 8 == 1 for number in changes)


def test_rounds_that_something_forces_end_no_epoch_sooner() -> None:
    run = Replay()
    run.rounds = Rounds(replace(AUTO, price_response=PriceResponse.FROZEN))
    run.run(CROWDED)
    seen = []
    for second in range(60):
        run.run(f"node allocatable={1000 - second}\ntick")  # Less than before: cleared at once.
        (decision,) = explain.explain_pod(run.rounds, "shop", "web")
        seen.append((second, decision.headroom.response_shortage))

    changes = [later[0] for earlier, later in pairwise(seen) if later[1] != earlier[1]]
    market = explain.market_view(run.rounds, "node-a", include_containers=False)
    assert market.round >= 60
    assert len(changes) >= 2
    assert all(later - earlier >= 4 * 5 for earlier, later in pairwise(changes))


def test_a_recommendation_answers_to_the_market_with_everyone() -> None:
    parameters = replace(AUTO, mode=Mode.RECOMMEND, price_response=PriceResponse.FROZEN)

    decisions = replay(CROWDED, parameters)

    for name, decision in decisions.items():
        seen = shortage_without(decisions, name)
        assert decision.headroom.response_shortage == pytest.approx(seen, abs=0.006)


def test_beside_a_recommendation_the_others_answer_to_the_market_that_there_is() -> None:
    script = (
        CROWDED.replace("priority=low", "mode=recommend")
        + """
container api request=100 limit=100 policy=hard-quota
use api usage=400
"""
    )
    parameters = replace(AUTO, price_response=PriceResponse.FROZEN, elasticity=INELASTIC)

    decisions = replay(script, parameters)

    assert shortage_without(decisions, "batch") > 0.3
    seen = decisions["batch"].headroom.response_shortage
    assert seen == pytest.approx(shortage_without(decisions, "batch"), abs=0.006)
    real = {name: decision for name, decision in decisions.items() if name != "batch"}
    for name, decision in real.items():
        assert shortage_without(real, name) > 0.1
        seen = decision.headroom.response_shortage
        assert seen == pytest.approx(shortage_without(real, name), abs=0.006)


@pytest.mark.parametrize(
    ("allocatable", "low", "high"), [(1000, 0.5, 1.0), (2200, 0.2, 0.5), (3000, 0.0, 0.2)]
)
def test_two_pass_bids_what_the_first_clearing_s_price_makes_of_the_needs(
    allocatable: int, low: float, high: float
) -> None:
    script = CROWDED.replace("allocatable=1000", f"allocatable={allocatable}")
    before = replay(script, AUTO)

    after = replay(script, replace(AUTO, price_response=PriceResponse.TWO_PASS))

    demand = sum(decision.reservation.pod_need_millicores for decision in before.values())
    for name, decision in after.items():
        price = max(0.0, 1 - before[name].reservation.node_supply_millicores / demand)
        assert low <= price <= high
        assert decision.headroom.response_shortage == pytest.approx(price)
        factor = decision.headroom.demand_factor
        for had, has in (
            (
                before[name].headroom.ceiling_need_millicores,
                decision.headroom.ceiling_need_millicores,
            ),
            (
                before[name].headroom.reservation_need_millicores,
                decision.headroom.reservation_need_millicores,
            ),
        ):
            assert has == np.ceil(had * factor)
        assert decision.headroom.level == before[name].headroom.level


def test_two_passes_do_not_scale_what_the_fast_loop_holds() -> None:
    surge = """
attach node-a allocatable=4000
container api request=200 limit=400 policy=hard-quota
use api usage=150
tick 40
use api usage=400 throttled=1.0
tick 3
use api usage=300
"""
    parameters = replace(AUTO, price_response=PriceResponse.TWO_PASS)
    decision = replay(surge, parameters, seconds=5)["api"]

    assert decision.headroom.demand_factor == pytest.approx(1.1)
    assert (
        decision.headroom.ceiling_need_millicores == decision.headroom.emergency_millicores > 1000
    )
    assert audit.recompute(decision, parameters) == []


def test_an_idle_container_weighs_what_its_class_does() -> None:
    script = """
attach node-a allocatable=1400
container idle request=300 limit=300 policy=hard-quota
container half request=300 limit=300 pod=mixed policy=hard-quota
container busy request=100 limit=100 pod=mixed policy=hard-quota
container full request=400 limit=400 policy=hard-quota priority=critical
use idle usage=5
use half usage=5
use busy usage=900
use full usage=900
"""
    before = replay(script, AUTO)
    after = replay(script, replace(AUTO, class_weight={"idle": 0.3}))

    # Half is 0.3, busy is of a class that the table does not name: (300 x 0.3 + 100) / 400.
    expected = {"idle": 0.3, "half": 0.475, "busy": 0.475, "full": 1.0}
    for name, factor in expected.items():
        assert before[name].reservation.class_weight == 1.0
        good = after[name].reservation
        assert good.class_weight == pytest.approx(factor)
        assert good.pod_weight == pytest.approx(before[name].reservation.pod_weight * factor)
        assert after[name].container.weight == good.pod_weight
    assert (
        after["full"].reservation.target_millicores > before["full"].reservation.target_millicores
    )


@pytest.mark.parametrize(
    "parameters",
    [
        replace(FAST_PARAMETERS, price_response=PriceResponse.FROZEN),
        replace(FAST_PARAMETERS, price_response=PriceResponse.TWO_PASS),
        replace(
            FAST_PARAMETERS,
            price_response=PriceResponse.TWO_PASS,
            class_weight=PRESETS[Preset.PLAN].class_weight,
        ),
    ],
    ids=["frozen", "two-pass", "two-pass with class weights"],
)
def test_every_decision_can_be_recomputed_whatever_it_answers_to(parameters: Parameters) -> None:
    answered = False
    for seed in range(2):
        world = lived(seed, parameters)

        assert not [effect for effect in effects_of(world) if isinstance(effect, Violation)]
        for node in world.nodes:
            for decision in audit.decisions_of(world.rounds, node.name):
                assert audit.recompute(decision, world.parameters) == [], decision
                h = decision.headroom
                answered |= h.effective_tau > h.tau or h.demand_factor != 1.0
    assert answered


def test_off_with_classes_of_weight_one_changes_nothing() -> None:
    other = replace(
        FAST_PARAMETERS,
        elasticity=dict.fromkeys(PriorityClass, 1.0),
        class_weight={"idle": 1.0, "steady": 1.0},
        response_epoch_rounds=1,
    )

    plain = effects_of(lived(0, FAST_PARAMETERS))
    assert effects_of(lived(0, other)) == plain
    assert any(isinstance(effect, SendOrders) for effect in plain)
