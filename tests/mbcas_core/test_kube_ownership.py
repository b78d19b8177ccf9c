"""Whose number it is, where what the API server says of its owners gets lost while we run."""

from dataclasses import replace

import pytest

from mbcas_core.events import CpuResources, Policy
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.kube_world import KubeWorld
from tests.mbcas_core.test_kube_decisions import LONG, empty, seen, started, told, use


def set_limit(pod: KubePod, limit: int) -> None:
    container = pod.containers[0]
    container.limit, container.limit_set = limit, False
    container.admitted = replace(container.admitted, limit_millicores=limit)
    pod.generation, pod.changed = pod.generation + 1, True


def raised(*, policy: Policy = Policy.LIMITS_ONLY) -> tuple[KubeWorld, KubePod]:
    world = empty(parameters=LONG)
    pod = started(world, policy=policy)
    world.quiet(40)
    assert (pod.containers[0].limit or 0) > 800
    return world, pod


def admitted(world: KubeWorld, pod: KubePod) -> tuple[int | None, int | None]:
    view = seen(world, pod)
    return view.reservation.admitted_millicores, view.ceiling.admitted_millicores


@pytest.mark.parametrize("policy", [Policy.LIMITS_ONLY, Policy.REQUESTS_AND_LIMITS])
def test_a_number_of_ours_that_nobody_owns_any_more_is_still_ours(policy: Policy) -> None:
    world, pod = raised(policy=policy)

    pod.disown()
    world.quiet(3)

    assert admitted(world, pod) == (200, 400)
    assert told(world, "ChangedElsewhere") == 0
    assert world.rounds.counters.get("foreign_changes", 0) == 0
    world.release(hold_seconds=60.0)
    world.quiet(20)
    assert (pod.containers[0].request, pod.containers[0].limit) == (200, 400)


def test_a_number_that_we_sent_and_that_was_never_seen_to_be_ours_is_ours() -> None:
    world = empty(parameters=LONG)
    pod = started(world)
    while not world.orders:
        world.second()
    world.patch_pods(world.orders)
    world.orders = []
    assert pod.containers[0].limit != 400
    pod.disown()
    world.quiet(3)

    assert admitted(world, pod) == (200, 400)
    assert told(world, "ChangedElsewhere") == 0


@pytest.mark.parametrize("carried_out", [True, False])
def test_what_an_order_of_unknown_end_did_or_not_is_ours_although_nobody_owns_it(
    *, carried_out: bool
) -> None:
    world, pod = raised()
    before = pod.containers[0].limit
    use(pod, 20.0)
    while not world.orders:
        world.second()
    asked = world.orders[0].desired.limit_millicores
    if carried_out:
        world.patch_pods(world.orders)
        world.results.clear()
    world.orders = []  # The shim was lost, and nobody has answered.
    pod.disown()
    world.attach()
    world.quiet(2)

    assert pod.containers[0].limit == (asked if carried_out else before)
    assert asked != before
    assert admitted(world, pod) == (200, 400)
    assert told(world, "ChangedElsewhere") == 0


def test_another_number_is_somebody_else_s_although_ours_was_disowned_before() -> None:
    world, pod = raised()
    pod.disown()
    world.quiet(2)

    set_limit(pod, 700)
    world.quiet(2)

    assert admitted(world, pod) == (200, 700)
    assert told(world, "ChangedElsewhere") == 1


def test_going_back_to_an_earlier_number_of_ours_is_somebody_else_s_change() -> None:
    world, pod = raised()
    before = int(world.rounds.state.ledger.before_limit[0])
    assert before not in (400, pod.containers[0].limit)

    set_limit(pod, before)
    world.quiet(2)

    assert admitted(world, pod) == (200, before)
    assert told(world, "ChangedElsewhere") == 1


def test_what_was_admitted_stays_unknown_where_the_owner_is_lost() -> None:
    world = empty()
    pod = started(world)
    container = pod.containers[0]
    container.limit, container.limit_set = 600, True
    container.admitted = CpuResources()
    world.quiet(3)

    pod.disown()
    world.quiet(30)

    assert world.sent == []
    assert "admitted" in seen(world, pod).skip_reason


def test_a_number_that_was_set_elsewhere_and_set_back_was_never_ours() -> None:
    world = empty(parameters=replace(LONG, foreign_rest_seconds=0.0))
    pod = started(world, millicores=20.0)
    world.quiet(3)

    for limit in (700, 500, 700):
        set_limit(pod, limit)
        world.quiet(2)
        assert admitted(world, pod) == (200, limit)
