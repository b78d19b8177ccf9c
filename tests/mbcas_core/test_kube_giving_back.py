"""What goes back to which values, where somebody else or a quota has had a say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mbcas_core import explain
from mbcas_core.effects import Lane, Reason
from mbcas_core.events import CpuResources, Mode, Pending, Policy
from mbcas_core.permits import EXCLUDED
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.kube_world import KUBE_PARAMETERS, KubeWorld
from tests.mbcas_core.test_kube_decisions import empty, seen, started, told, use


def set_elsewhere(pod: KubePod, *, request: int | None = None, limit: int | None = None) -> None:
    """Somebody else sets one number, which the other, set by MBCAS, leaves room for."""
    container = pod.containers[0]
    if request is not None:
        container.request, container.request_set = request, False
    if limit is not None:
        container.limit, container.limit_set = limit, False
    admitted = container.admitted
    container.admitted = CpuResources(
        request_millicores=request or admitted.request_millicores,
        limit_millicores=limit or admitted.limit_millicores,
    )
    pod.generation, pod.changed = pod.generation + 1, True


def test_a_request_set_elsewhere_above_the_admitted_limit_stays_when_the_limit_goes_back() -> None:
    world = empty()
    pod = started(world)
    world.quiet(40)

    set_elsewhere(pod, request=600)
    world.quiet(2)
    world.release(hold_seconds=600.0)
    world.quiet(30)

    assert (pod.containers[0].request, pod.containers[0].limit) == (600, 600)
    assert explain.release_progress(world.rounds, "", "") == (1, 0)
    assert world.crimes == []


def test_a_limit_set_elsewhere_below_the_admitted_request_stays_when_the_request_goes_back() -> (
    None
):
    world = empty()
    pod = started(world, policy=Policy.REQUESTS_AND_LIMITS, request=800, limit=1000, millicores=20)
    world.quiet(60)
    assert (pod.containers[0].request or 0) < 500

    set_elsewhere(pod, limit=500)
    world.quiet(2)
    world.release(hold_seconds=600.0)
    world.quiet(30)

    assert (pod.containers[0].request, pod.containers[0].limit) == (500, 500)
    assert explain.release_progress(world.rounds, "", "") == (1, 0)
    assert world.crimes == []


@pytest.mark.parametrize(
    "change", [{"mode": Mode.RECOMMEND}, {"mode": Mode.OFF}, {"skip_reason": "excluded"}]
)
def test_what_is_deferred_is_taken_back_although_the_pod_is_left_alone_from_now_on(
    change: dict[str, Any],
) -> None:
    world = empty(allocatable=2000)
    pod = started(world, policy=Policy.REQUESTS_AND_LIMITS, request=800, limit=1000, millicores=20)
    world.quiet(60)
    use(pod, 900.0)
    for _ in range(60):
        world.fill()
        world.second()
        if pod.pending == Pending.DEFERRED:
            break
    allocated = pod.containers[0].allocated_request

    pod.facts, pod.changed = replace(pod.facts, **change), True
    asked = pod.containers[0].request
    world.quiet(15)

    assert asked != allocated
    assert allocated is not None
    assert (pod.pending, pod.containers[0].request) == (Pending.NOTHING, allocated)


def test_a_release_that_a_quota_refuses_is_tried_less_and_less_often() -> None:
    world = empty()
    pod = started(world, policy=Policy.REQUESTS_AND_LIMITS, request=800, limit=1000, millicores=20)
    world.quiet(60)
    world.quota_full = True

    world.release(hold_seconds=6000.0)
    world.quiet(200)

    gaps = np.diff([at for at, order in world.sent if order.reason == Reason.RELEASED])
    assert 3 <= len(gaps) <= 8
    assert gaps[-1] >= 3 * gaps[0]
    assert told(world, "ResizeRefused") == 1

    world.quota_full = False
    world.quiet(200)
    assert pod.containers[0].request == 800


# Who is no longer in auto.

WITHOUT_AUTO = [
    {"mode": Mode.OFF},
    {"mode": Mode.RECOMMEND},
    {"mode": Mode.OFF, "skip_reason": EXCLUDED},
    {"skip_reason": EXCLUDED},
]


def raised() -> tuple[KubeWorld, KubePod]:
    world = empty()
    pod = started(world)
    world.quiet(40)
    assert (pod.containers[0].limit or 0) > 800
    return world, pod


@pytest.mark.parametrize("change", WITHOUT_AUTO)
def test_whoever_leaves_auto_gets_back_once_what_was_admitted(change: dict[str, Any]) -> None:
    world, pod = raised()
    before = len(world.sent)

    pod.facts, pod.changed = replace(pod.facts, **change), True
    world.quiet(20)

    assert pod.containers[0].limit == 400
    sent = [order for _, order in world.sent[before:]]
    assert [(order.lane, order.reason) for order in sent] == [(Lane.RELEASE, Reason.RELEASED)]
    assert sent[0].burst_usec == 0
    pod.changed = True
    world.quiet(40)
    assert len(world.sent) == before + 1
    assert seen(world, pod).reason in (Reason.MODE, Reason.SKIPPED)


@pytest.mark.parametrize("change", WITHOUT_AUTO)
def test_a_request_goes_back_to_whoever_leaves_auto(change: dict[str, Any]) -> None:
    world = empty()
    pod = started(world, policy=Policy.REQUESTS_AND_LIMITS, request=800, limit=1000, millicores=20)
    world.quiet(60)
    assert (pod.containers[0].request or 0) < 500

    pod.facts, pod.changed = replace(pod.facts, **change), True
    world.quiet(20)

    assert (pod.containers[0].request, pod.containers[0].limit) == (800, 1000)
    assert world.crimes == []


@pytest.mark.parametrize("change", WITHOUT_AUTO)
def test_frozen_writes_give_nothing_back_to_whoever_leaves_auto(change: dict[str, Any]) -> None:
    world, pod = raised()
    before = len(world.sent)
    world.freeze(frozen=True)
    world.thaw_at = np.inf

    pod.facts, pod.changed = replace(pod.facts, **change), True
    world.quiet(20)

    assert len(world.sent) == before


@pytest.mark.parametrize("parameters", [{"mode": Mode.RECOMMEND}, {"canary_share": 0.0}])
def test_a_new_server_without_auto_gives_back_what_an_earlier_one_set(
    parameters: dict[str, Any],
) -> None:
    world, pod = raised()
    untouched = started(world, millicores=20.0)

    world.parameters = replace(world.parameters, **parameters)
    world.new_server(remembers=True)
    before = len(world.sent)
    world.quiet(30)

    assert pod.containers[0].limit == 400
    assert [order.pod_uid for _, order in world.sent[before:]] == [pod.uid]
    assert untouched.containers[0].limit == 400


@pytest.mark.parametrize("change", WITHOUT_AUTO)
def test_nothing_is_given_back_where_it_is_not_known_what(change: dict[str, Any]) -> None:
    world = empty()
    pod = started(world)
    container = pod.containers[0]
    container.limit, container.limit_set = 600, True
    container.admitted = CpuResources()

    pod.facts = replace(pod.facts, **change)
    world.quiet(30)

    assert world.sent == []


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.RECOMMEND, Mode.AUTO])
def test_nothing_is_tried_where_a_resize_is_impossible(mode: Mode) -> None:
    world, pod = raised()
    before = len(world.sent)

    pod.facts = replace(pod.facts, mode=mode, skip_reason="a resize would restart it")
    pod.changed = True
    world.quiet(30)

    assert len(world.sent) == before


def test_what_is_given_back_is_not_sent_faster_than_the_budget_allows() -> None:
    world = empty(allocatable=8000, parameters=replace(KUBE_PARAMETERS, resize_budget_per_second=1))
    pods = [started(world) for _ in range(6)]
    world.quiet(60)
    before = len(world.sent)

    for pod in pods:
        pod.facts, pod.changed = replace(pod.facts, mode=Mode.RECOMMEND), True
    world.quiet(40)

    assert [pod.containers[0].limit for pod in pods] == [400] * 6
    times = [at for at, _ in world.sent[before:]]
    assert len(times) == 6
    assert times[-1] - times[0] >= 2.0
