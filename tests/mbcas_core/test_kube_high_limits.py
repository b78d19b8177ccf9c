"""Limits as high as their node: they bound nothing, and are no ceilings of its market."""

from dataclasses import replace
from typing import Any

import pytest

from mbcas_core import explain
from mbcas_core.effects import Reason
from mbcas_core.events import Mode, Policy
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.kube_world import NODE, KubeWorld
from tests.mbcas_core.test_kube_decisions import empty, seen, started

CORES_8 = 8000


def ceilings_billed(world: KubeWorld) -> int:
    view = explain.market_view(world.rounds, NODE, include_containers=False)
    assert not view.ceiling.exhausted_by_admitted_limits
    return view.ceiling.billed_millicores


def limit_of(pod: KubePod) -> int:
    return pod.containers[0].limit or 0


@pytest.mark.parametrize(
    ("mode", "policy", "facts"),
    [
        (Mode.AUTO, Policy.LIMITS_ONLY, {}),
        (Mode.RECOMMEND, Policy.LIMITS_ONLY, {}),
        (Mode.RECOMMEND, Policy.LIMITS_ONLY, {"strict": True}),
        (Mode.RECOMMEND, Policy.HARD_QUOTA, {}),
        (Mode.OFF, Policy.LIMITS_ONLY, {"strict": True}),
        (Mode.AUTO, Policy.LIMITS_ONLY, {"strict": True, "skip_reason": "it is excluded"}),
        (Mode.OFF, Policy.HARD_QUOTA, {}),
        (Mode.AUTO, Policy.REQUESTS_ONLY, {"strict": True}),
    ],
)
def test_a_limit_far_above_the_node_takes_no_ceiling_from_its_neighbours(
    mode: Mode, policy: Policy, facts: dict[str, Any]
) -> None:
    world = empty(allocatable=2000)
    high = started(world, limit=CORES_8, millicores=50.0, mode=mode, policy=policy)
    high.facts = replace(high.facts, **facts)
    busy = started(world)

    world.quiet(40)

    assert limit_of(busy) > 800
    assert limit_of(high) == CORES_8
    assert ceilings_billed(world) == (high.containers[0].request or 0) + limit_of(busy)


def test_why_such_a_limit_is_left_alone_is_said() -> None:
    world = empty(allocatable=2000)
    high = started(world, limit=2000, millicores=50.0)

    world.quiet(20)

    view = seen(world, high)
    assert (view.reason, view.ceiling.target_millicores) == (Reason.FIXED_BY_POLICY, 2000)
    decision = explain.explain_pod(world.rounds, "shop", view.pod)[0]
    assert not decision.ceiling_headroom.takes_part
    assert decision.order.billed_ceiling_millicores == 200
    assert "limit of 2000m is no less than all the CPU of its node" in decision.summary


def test_a_limit_just_below_the_node_is_a_ceiling() -> None:
    world = empty(allocatable=2000)
    high = started(world, limit=1999, millicores=50.0)

    world.quiet(20)

    assert ceilings_billed(world) == 1999
    assert seen(world, high).reason == Reason.ADMITTED_FLOOR


def test_the_request_under_such_a_limit_is_reclaimed_all_the_same() -> None:
    world = empty(allocatable=2000)
    high = started(
        world, request=1000, limit=CORES_8, policy=Policy.REQUESTS_AND_LIMITS, millicores=50.0
    )

    world.quiet(60)

    assert (high.containers[0].request or 0) < 1000
    assert limit_of(high) == CORES_8


def test_such_a_limit_is_judged_anew_when_its_node_grows() -> None:
    world = empty(allocatable=2000)
    high = started(world, limit=3000, millicores=50.0)
    world.quiet(20)
    assert ceilings_billed(world) == 200

    world.facts = replace(world.facts, allocatable_millicores=4000)
    world.quiet(10)

    assert ceilings_billed(world) == 3000
    assert seen(world, high).reason == Reason.ADMITTED_FLOOR


def test_what_was_raised_as_high_as_its_node_stays_a_ceiling() -> None:
    world = empty(allocatable=4000)
    busy = started(world, limit=1000, millicores=2600.0)
    world.quiet(40)
    assert limit_of(busy) > 2000

    world.facts = replace(world.facts, allocatable_millicores=2000)
    world.quiet(20)

    assert ceilings_billed(world) == limit_of(busy)
    assert 1000 < limit_of(busy) < 2000


def test_a_strict_limit_far_above_its_node_comes_down_and_goes_back_when_it_is_strict_no_more() -> (
    None
):
    world = empty(allocatable=2000)
    high = started(world, limit=CORES_8, millicores=50.0)
    high.facts = replace(high.facts, strict=True)
    world.quiet(60)
    assert limit_of(high) < 2000

    high.facts, high.changed = replace(high.facts, strict=None), True
    world.quiet(20)

    assert limit_of(high) == CORES_8
    assert ceilings_billed(world) == 200
