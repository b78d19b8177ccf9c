"""What goes back to which values, where somebody else or a quota has had a say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mbcas_core import explain
from mbcas_core.effects import Reason
from mbcas_core.events import CpuResources, Mode, Pending, Policy
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.test_kube_decisions import empty, started, told, use


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
