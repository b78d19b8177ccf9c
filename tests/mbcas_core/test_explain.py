"""What is shown is what is so, and showing it changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mbcas_core import explain
from mbcas_core.effects import Reason
from mbcas_core.errors import FloorsExceedCapacityError, UnknownNodeError, UnknownPodError
from mbcas_core.events import (
    Enforcement,
    Mode,
    NodeAttached,
    NodeDetached,
    NodeFacts,
    Policy,
    Report,
    ReportArrived,
    TickDue,
)
from mbcas_core.market.allocate import AllocateAnswer, Bid, allocate_on_node
from mbcas_core.parameters import Parameters
from mbcas_core.rounds import Rounds
from mbcas_core.sentences import SENTENCES
from mbcas_core.views import PriceView
from tests.golden.replay import Replay
from tests.mbcas_core import audit
from tests.mbcas_core.cluster import Mishap
from tests.mbcas_core.world import World

NODE = "cgroup-node"


def lived(seed: int = 5, *, seconds: int = 20) -> World:
    return World(seed).run([Mishap.NOTHING] * seconds)


def test_what_is_not_there_is_said_by_name() -> None:
    world = lived()

    with pytest.raises(UnknownNodeError, match="elsewhere"):
        explain.market_view(world.rounds, "elsewhere", include_containers=False)
    with pytest.raises(UnknownPodError, match="shop/nobody"):
        explain.explain_pod(world.rounds, "shop", "nobody")


def test_a_market_shows_every_container_once_in_order() -> None:
    world = lived()

    view = explain.market_view(world.rounds, NODE, include_containers=True)

    shown = [(view.namespace, view.pod, view.container) for view in view.containers]
    facts = [container.facts for container in world.node(NODE).containers]
    assert shown == sorted((f.namespace, f.pod, f.container) for f in facts)
    assert view.live
    assert view.allocatable_millicores == world.node(NODE).facts.allocatable_millicores
    brief = explain.market_view(world.rounds, NODE, include_containers=False)
    assert brief.containers == []
    assert brief.reservation == view.reservation


def test_what_is_billed_adds_up() -> None:
    world = lived()

    for node in world.nodes:
        view = explain.market_view(world.rounds, node.name, include_containers=True)
        bare = audit.bounds_nothing(world, node)
        requests = limits = 0
        for container in view.containers:
            request = _most(container.reservation)
            hard = container.policy == Policy.HARD_QUOTA
            key = (container.pod_uid, container.container)
            limit = 0 if key in bare and not hard else _most(container.ceiling)
            limit = limit or request
            requests += limit if hard else request
            limits += limit
        assert view.reservation.billed_millicores == requests
        assert view.ceiling.billed_millicores == limits


def _most(good: object) -> int:
    numbers = (getattr(good, f"{name}_millicores") for name in ("desired", "allocated", "applied"))
    return max(number or 0 for number in numbers)


def test_a_node_without_a_shim_is_not_live_and_its_containers_are_stale() -> None:
    world = lived()

    world.tell(NodeDetached(node=NODE, time_seconds=world.now))

    view = explain.market_view(world.rounds, NODE, include_containers=True)
    assert not view.live
    assert {container.reason for container in view.containers} == {Reason.STALE}


def test_a_change_is_found_by_its_tick() -> None:
    world = lived()
    tick = world.rounds.tick_count

    assert explain.changed_nodes(world.rounds, tick) == []
    world.second()

    assert explain.changed_nodes(world.rounds, tick) == ["cgroup-node", "resize-node"]


def test_a_recommendation_is_what_a_market_with_everyone_would_give() -> None:
    world = next(
        world
        for world in (lived(seed, seconds=30) for seed in range(40))
        if any(
            c.facts.mode == Mode.RECOMMEND
            and c.facts.policy == Policy.HARD_QUOTA
            and not c.facts.skip_reason
            and c.kernel.mean_millicores > 50
            for c in world.node(NODE).containers
        )
    )

    decisions = [
        decision
        for pod in explain.pod_names(world.rounds)
        for decision in explain.explain_pod(world.rounds, *pod.split("/"))
        if decision.container.mode == Mode.RECOMMEND and decision.reservation.takes_part
    ]

    assert decisions
    for decision in decisions:
        assert decision.container.reason == Reason.MODE
        assert decision.container.reservation.target_millicores == (
            decision.reservation.target_millicores
        )
        assert decision.order.last_order_id == 0


def test_live_bids_count_in_an_allocation() -> None:
    world = lived(seconds=30)
    node = world.node(NODE)
    node.facts = replace(node.facts, allocatable_millicores=12_000)
    node.facts_changed = True
    world.second()
    before = repr(explain.market_view(world.rounds, NODE, include_containers=True))
    bid = Bid(id="new", need_millicores=50, floor_millicores=0, cap_millicores=0, weight=100.0)

    answer = explain.allocate(world.rounds, NODE, [bid])

    assert answer.price_before is not None
    assert 0 <= answer.allocations[0].allocation_millicores <= 50
    huge = Bid(
        id="huge",
        need_millicores=10**6,
        floor_millicores=10**6,
        cap_millicores=0,
        weight=1.0,
    )
    with pytest.raises(FloorsExceedCapacityError):
        explain.allocate(world.rounds, NODE, [huge])
    assert repr(explain.market_view(world.rounds, NODE, include_containers=True)) == before


def test_a_tick_s_live_markets_are_those_of_the_nodes_it_cleared() -> None:
    world = lived(seconds=30)
    bid = Bid(id="new", need_millicores=300, floor_millicores=10, cap_millicores=0, weight=100.0)
    cleared: dict[str, list[int]] = {}

    for _ in range(16):
        before = {node: explain_round(world, node) for node in explain.node_names(world.rounds)}
        world.second()
        live = explain.live_markets(world.rounds)
        rounds = {node: explain_round(world, node) for node in explain.node_names(world.rounds)}
        for node, market in live.items():
            from_market = outcome(allocate_on_node, [bid], market)
            assert from_market == outcome(explain.allocate, world.rounds, node, [bid])
            cleared.setdefault(node, []).append(rounds[node])

        assert set(live) == {node for node in rounds if rounds[node] != before.get(node)}

    assert set(cleared) == set(explain.node_names(world.rounds))


def outcome(ask: Callable[..., AllocateAnswer], *arguments: object) -> AllocateAnswer | str:
    try:
        return ask(*arguments)
    except FloorsExceedCapacityError as error:
        return str(error)


def explain_round(world: World, node: str) -> int:
    return explain.market_view(world.rounds, node, include_containers=False).round


def test_a_node_without_containers_has_all_its_cpu_to_give() -> None:
    rounds = Rounds(Parameters())
    facts = NodeFacts(
        allocatable_millicores=8000,
        unmanaged_millicores=500,
        cpu_count=8,
        enforcement=Enforcement.CGROUP,
    )
    rounds.handle(NodeAttached(node="new", time_seconds=0.0))
    report = Report(full_inventory=True, node_facts=facts)
    rounds.handle(ReportArrived(node="new", time_seconds=0.0, report=report))
    rounds.handle(TickDue(time_seconds=1.0))
    bid = Bid(id="a", need_millicores=9000, floor_millicores=0, cap_millicores=9000, weight=1.0)

    answer = explain.allocate(rounds, "new", [bid])

    assert answer.allocations[0].allocation_millicores == 8000 - 500 - 160
    assert answer.price_before == PriceView(
        shadow_price=0.0, shadow_price_normalized=0.0, shortage=0.0
    )


def test_looking_changes_nothing() -> None:
    draw = np.random.default_rng(8)
    mishaps = [list(Mishap)[i] for i in draw.integers(0, len(Mishap), 40).tolist()]

    def look(world: World) -> None:
        for pod in explain.pod_names(world.rounds):
            explain.explain_pod(world.rounds, *pod.split("/"))

    watched = World(8)
    watched.on_tick.append(look)
    watched.run(mishaps)

    alone = World(8).run(mishaps)
    assert [repr(effects) for _, effects in watched.log] == [
        repr(effects) for _, effects in alone.log
    ]


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)


def test_a_pod_weighs_what_the_containers_that_are_left_were_admitted_with() -> None:
    replay = Replay()
    replay.run(
        "attach n allocatable=2000\n"
        "container stays request=300 limit=300 pod=p\n"
        "container goes request=500 limit=500 pod=p\n"
        "tick\n"
    )
    (_, both) = explain.explain_pod(replay.rounds, "shop", "p")

    gone = Report(full_inventory=False, removed_handles=(2,))
    replay.rounds.handle(ReportArrived(node="n", time_seconds=2.0, report=gone))

    (alone,) = explain.explain_pod(replay.rounds, "shop", "p")
    assert (both.container.weight, alone.container.weight) == (800.0, 300.0)


RECOMMENDED = """
parameters round_period_seconds=1
attach n allocatable=2000
container shown request=500 limit=500 policy=hard-quota mode=recommend
container bound request=300 limit=300 policy=hard-quota
use shown usage=480
use bound usage=280
tick 40
"""


def test_a_pod_in_mode_recommend_holds_what_it_has_in_a_live_market_and_bids_nothing() -> None:
    replay = Replay()
    replay.run(RECOMMENDED)
    (live,) = explain.live_markets(replay.rounds).values()
    bid = Bid(id="new", need_millicores=400, floor_millicores=400, cap_millicores=0, weight=1.0)

    answer = explain.allocate(replay.rounds, "n", [bid])

    view = explain.market_view(replay.rounds, "n", include_containers=False)
    assert live.available_millicores == 2000 - 500
    assert live.need_millicores.tolist() == [view.reservation.demand_millicores]
    assert live.price == view.reservation.price
    assert answer.price_before == view.reservation.price
    assert answer.allocations[0].allocation_millicores == 400
