"""Rows of the checklist that the core answers for, each in a small history."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mbcas_core.effects import Reason, SendOrders
from mbcas_core.events import Mode, Pending, Policy
from tests.mbcas_core.kube_cluster import KubePod
from tests.mbcas_core.kube_world import KUBE_PARAMETERS, KubeWorld

SETTLE_SECONDS = 40
ROUND_SECONDS = int(KUBE_PARAMETERS.round_period_seconds)
REQUEST, LIMIT, NODE = 400, 800, 2000

Spoil = Callable[[KubeWorld], None]


def fill(world: KubeWorld) -> None:
    """Lets the scheduler put a pod there that nobody has told us of."""
    world.neighbour = NODE - REQUEST


def shrink(world: KubeWorld) -> None:
    """Lets the node have less than we know."""
    world.facts = replace(world.facts, allocatable_millicores=REQUEST)


def world_with_one(*, mean_millicores: float = 300.0) -> tuple[KubeWorld, KubePod]:
    """A node with room and one pod on it, settled."""
    world = KubeWorld(7, pods=0, allocatable=NODE)
    pod = world.add([(REQUEST, LIMIT)], policy=Policy.REQUESTS_AND_LIMITS, mode=Mode.AUTO)
    pod.containers[0].kernel.mean_millicores = mean_millicores
    world.quiet(SETTLE_SECONDS)
    return world, pod


def surge_into(world: KubeWorld, pod: KubePod, spoil: Spoil) -> None:
    """Lets the pod need more, and spoils what it asks for while the ask is on its way."""

    def watch(world: KubeWorld, effect: SendOrders) -> None:
        if any((order.desired.request_millicores or 0) > REQUEST for order in effect.orders):
            world.on_send.clear()
            spoil(world)

    world.on_send.append(watch)
    pod.containers[0].kernel.mean_millicores = 1500.0
    for _ in range(SETTLE_SECONDS):
        world.second()
        if pod.pending != Pending.NOTHING:
            return
    pytest.fail("nothing was pending")


@pytest.mark.parametrize("spoil", [fill, shrink], ids=["deferred", "infeasible"])
def test_what_the_kubelet_does_not_admit_is_taken_back_within_a_round(spoil: Spoil) -> None:
    """Rows 34, 35 and 63: whatever the reason, another ask is not made in its place."""
    world, pod = world_with_one()
    surge_into(world, pod, spoil)
    sent = len(world.sent)

    world.quiet(ROUND_SECONDS)

    assert pod.pending == Pending.NOTHING
    assert [order.reason for _, order in world.sent[sent:]][:1] == [Reason.WITHDRAWN]
    assert "ResizeWithdrawn" in {notice.event for notice in world.notices}
