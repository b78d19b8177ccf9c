"""What of the cluster decides beside the pods, and whom a change concerns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mbcas_server.kube.client import connect
from mbcas_server.kube.watches import ClusterWatches
from mbcas_server.metrics import Metrics
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.fakes import VirtualClock
from tests.mbcas_server.kube.rig import NODE, write_kubeconfig

TURNS, TURN_SECONDS = 2_000, 0.0025


class World:
    """Watches that run beside the fake."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.changes: list[tuple[set[str], set[str]]] = []
        self.watches: ClusterWatches

    def put(self, resource: str, name: str, *, namespace: str = "", **fields: Any) -> None:  # noqa: ANN401 - JSON.
        metadata: dict[str, Any] = {"name": name, "annotations": fields.pop("annotations", {})}
        if namespace:
            metadata["namespace"] = namespace
        self.cluster.put(resource, {"metadata": metadata, **fields})

    def scale(self, name: str, *metrics: dict[str, Any], target: str = "web") -> None:
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": target}, "metrics": list(metrics)}
        self.put("horizontalpodautoscalers", name, namespace="shop", spec=spec)

    async def eventually(self, condition: Callable[[], object]) -> None:
        for _ in range(TURNS):
            if condition():
                return
            await asyncio.sleep(TURN_SECONDS)
        raise AssertionError("it did not come")


@pytest.fixture
async def world(cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[World]:
    client = await connect(write_kubeconfig(cluster, tmp_path))
    world = World(cluster)
    world.put("namespaces", "shop", annotations={"mbcas.io/mode": "auto", "other/mode": "x"})
    clock = VirtualClock()
    world.watches = ClusterWatches(
        client=client,
        clock=clock,
        metrics=Metrics(),
        on_change=lambda namespaces, nodes: world.changes.append((set(namespaces), set(nodes))),
    )
    for mirror in world.watches.mirrors:
        await mirror.start()
    world.changes.clear()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(mirror.run()) for mirror in world.watches.mirrors]
            yield world
            for task in tasks:
                task.cancel()
    finally:
        await client.close()


def by_cpu(kind: str = "Utilization", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON.
    return {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": kind, "averageUtilization": 80}},
        **fields,
    }


async def test_a_namespace_says_what_is_under_our_prefix(world: World) -> None:
    assert world.watches.namespace_annotations("shop") == {"mode": "auto"}
    assert world.watches.namespace_annotations("elsewhere") == {}


async def test_a_change_of_our_annotations_concerns_the_namespace_and_others_nobody(
    world: World,
) -> None:
    world.put("namespaces", "shop", annotations={"mbcas.io/mode": "auto", "other/mode": "y"})
    world.put("namespaces", "shop", annotations={"mbcas.io/mode": "off"})
    await world.eventually(lambda: world.changes)

    assert world.changes == [({"shop"}, set())]
    assert world.watches.namespace_annotations("shop") == {"mode": "off"}


async def test_a_node_has_what_is_allocatable_of_it(world: World) -> None:
    assert world.watches.allocatable_millicores(NODE) == 2000
    assert world.watches.allocatable_millicores("unknown") is None

    world.put("nodes", "node-b", status={"allocatable": {"cpu": "1930m"}, "conditions": []})
    world.put("nodes", "node-b", status={"allocatable": {"cpu": "1930m"}, "conditions": [1]})
    world.put("nodes", "node-b", status={"allocatable": {"cpu": "4"}})
    await world.eventually(lambda: len(world.changes) > 1)

    assert world.watches.allocatable_millicores("node-b") == 4000
    assert world.changes == [(set(), {"node-b"}), (set(), {"node-b"})]


async def test_an_autoscaler_on_cpu_use_of_requests_pins_its_owner(world: World) -> None:
    world.scale("web", by_cpu())
    await world.eventually(lambda: world.changes)

    assert world.watches.is_scaled("shop", "Deployment/web/app")
    assert world.changes == [({"shop"}, set())]
    for namespace, owner in (
        ("shop", "Deployment/api/app"),
        ("shop", "StatefulSet/web/app"),
        ("elsewhere", "Deployment/web/app"),
        ("shop", ""),
    ):
        assert not world.watches.is_scaled(namespace, owner)


async def test_one_on_a_container_pins_that_container(world: World) -> None:
    source = {"name": "cpu", "container": "app", "target": {"type": "Utilization"}}
    world.scale("web", {"type": "ContainerResource", "containerResource": source})
    await world.eventually(lambda: world.changes)

    assert world.watches.is_scaled("shop", "Deployment/web/app")
    assert not world.watches.is_scaled("shop", "Deployment/web/sidecar")


async def test_one_on_anything_else_pins_nothing(world: World) -> None:
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization"}}}
    world.scale("a", by_cpu("AverageValue"), memory, {"type": "Pods"})
    world.scale("b", by_cpu(), target="api")
    await world.eventually(lambda: world.watches.is_scaled("shop", "Deployment/api/app"))

    assert not world.watches.is_scaled("shop", "Deployment/web/app")


async def test_of_two_on_the_same_owner_one_is_enough(world: World) -> None:
    world.scale("a", by_cpu())
    world.scale("b", by_cpu())
    await world.eventually(lambda: len(world.changes) > 1)
    with world.cluster.store.changed:
        world.cluster.store.remove("horizontalpodautoscalers", "shop", "a")
    await world.eventually(lambda: len(world.changes) > 2)

    assert world.watches.is_scaled("shop", "Deployment/web/app")
    with world.cluster.store.changed:
        world.cluster.store.remove("horizontalpodautoscalers", "shop", "b")
    await world.eventually(lambda: not world.watches.is_scaled("shop", "Deployment/web/app"))


async def test_nonsense_says_nothing(world: World) -> None:
    world.put("nodes", "node-b", status={"allocatable": {"cpu": "lots"}})
    world.put("horizontalpodautoscalers", "a", namespace="shop", spec={"metrics": "all"})
    world.put("horizontalpodautoscalers", "b", namespace="shop", spec={"metrics": [5, None]})
    world.put("namespaces", "team", annotations={"mbcas.io/policy": "x" * 5000})
    await world.eventually(lambda: world.watches.namespace_annotations("team"))

    assert len(world.watches.namespace_annotations("team")["policy"]) == 1000
    assert world.watches.allocatable_millicores("node-b") is None
    assert not world.watches.is_scaled("shop", "Deployment/web/app")


async def test_what_changed_while_a_watch_was_cut_is_seen_after_it(world: World) -> None:
    world.cluster.close_watches()
    world.cluster.forget_history()
    world.put("namespaces", "shop", annotations={"mbcas.io/mode": "off"})

    await world.eventually(lambda: world.watches.namespace_annotations("shop") == {"mode": "off"})


async def test_a_server_that_calls_every_version_gone_is_not_asked_without_pause(
    world: World,
) -> None:
    def refused() -> int:
        with world.cluster.store.changed:
            return 1_000 - sum(fault.times for fault in world.cluster.api.faults)

    world.cluster.fail(Fault(code=410, times=1_000, path_part="/nodes"))
    world.cluster.close_watches()
    await world.eventually(lambda: refused() >= 2)
    for _ in range(40):
        await asyncio.sleep(TURN_SECONDS)

    assert refused() == 2
