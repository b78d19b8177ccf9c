"""The server's own objects beside a fake Kubernetes, with a core and a shim that do as told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.effects import Lane, Order
from mbcas_core.events import CpuResources, OrderResult
from mbcas_server.convert import parse_report
from mbcas_server.core_thread import CoreThread
from mbcas_server.inbox import Inbox
from mbcas_server.kube.allocation import ContainerAllocation, PodKey
from mbcas_server.kube.client import KubeClient, connect
from mbcas_server.kube.objects import OwnObjects
from mbcas_server.leadership import Alone
from mbcas_server.links import Link, Links
from mbcas_server.metrics import Metrics
from mbcas_server.outbox import Outbox
from tests.kube.fake_cluster import FakeCluster
from tests.kube.fake_kube import FakeKube
from tests.kube.resources import Pod
from tests.kube.shapes import BURSTABLE, single
from tests.mbcas_server.fakes import FakeCore, Inline, VirtualClock, order, report, settings

NODE = "fake-node"
ADMITTED = CpuResources(request_millicores=20, limit_millicores=500)
TURNS = 4_000
TURN_SECONDS = 0.0025
PODS = "/api/v1/namespaces/contract/pods"
PATH = "/apis/mbcas.io/v1alpha1/namespaces/contract/podallocations"


@dataclass
class Facts:
    """What the cluster knows, as a test says."""

    annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=lambda: {NODE: 2000})
    scaled: set[str] = field(default_factory=set)

    def namespace_annotations(self, namespace: str) -> Mapping[str, str]:
        return self.annotations.get(namespace, {})

    def allocatable_millicores(self, node: str) -> int | None:
        return self.nodes.get(node)

    def is_scaled(self, namespace: str, owner: str) -> bool:
        return f"{namespace}/{owner}" in self.scaled


class Rig:
    """One run of the server's part."""

    def __init__(self, cluster: FakeCluster, client: KubeClient) -> None:
        self.cluster = cluster
        self.kube = FakeKube(cluster)
        self.clock = VirtualClock()
        self.core = FakeCore()
        self.links = Links(nodes_max=10)
        self.leadership = Alone(1)
        self.metrics = Metrics()
        self.facts = Facts()
        self.objects = OwnObjects(
            client=client,
            facts=self.facts,
            leadership=self.leadership,
            links=self.links,
            core=CoreThread(self.core, Inline()),
            settings=settings(),
            clock=self.clock,
            metrics=self.metrics,
        )

    async def eventually(self, condition: Callable[[], object], *, step_seconds: float = 0) -> None:
        """Waits for what crosses a socket; the clock moves only where a step is given."""
        for _ in range(TURNS):
            if condition():
                return
            await self.clock.advance(step_seconds)
            await asyncio.sleep(TURN_SECONDS)
        raise AssertionError("it did not come")

    async def in_thread(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as called.
        """Makes a blocking call of the fake's."""
        return await asyncio.to_thread(call, *arguments, **named)

    async def pod(self, name: str = "web", **spec: Any) -> Pod:  # noqa: ANN401 - JSON.
        made: Pod = await self.in_thread(self.kube.create_pod, single(name, BURSTABLE, **spec))
        return made

    def attach(self, node: str = NODE) -> Link:
        """Lets a shim connect, and the core know."""
        first = parse_report(report(node).SerializeToString(), unix_seconds=0.0)
        link = Link(
            node=node,
            instance=first.instance,
            inbox=Inbox(samples_max=4),
            outbox=Outbox(server_epoch=1, orders_max=100),
        )
        self.links.admit(link)
        link.inbox.put(first)
        link.inbox.drain()
        self.links.take_due()
        self.links.take_change(node)
        return link

    def objects_there(self) -> list[dict[str, Any]]:
        """Returns the PodAllocations that the API has."""
        with self.cluster.store.changed:
            return self.cluster.store.all("podallocations")

    def events_there(self) -> list[dict[str, Any]]:
        with self.cluster.store.changed:
            return self.cluster.store.all("events")

    def is_written(self, pod: PodKey) -> bool:
        entry = self.objects.allocations.find(pod)
        return entry is not None and entry.written is not None


@asynccontextmanager
async def rigged(cluster: FakeCluster, folder: Path, *, start: bool = True) -> AsyncIterator[Rig]:
    """A server's part that runs."""
    client = await connect(write_kubeconfig(cluster, folder))
    rig = Rig(cluster, client)
    try:
        async with asyncio.TaskGroup() as group:
            if start:
                await rig.objects.start()
            task = group.create_task(rig.objects.run())
            yield rig
            task.cancel()
    finally:
        await client.close()


def write_kubeconfig(cluster: FakeCluster, folder: Path) -> Path:
    path = folder / "kubeconfig"
    given = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "admin"}}],
        "clusters": [{"name": "fake", "cluster": {"server": cluster.server}}],
        "users": [{"name": "admin", "user": {"token": "admin"}}],
    }
    path.write_text(yaml.safe_dump(given))
    return path


def key_of(pod: Pod) -> PodKey:
    metadata = pod["metadata"]
    return PodKey(metadata["namespace"], metadata["name"], metadata["uid"])


def order_for(
    pod: PodKey, order_id: int = 1, *, admitted: CpuResources = ADMITTED, lane: Lane = Lane.NORMAL
) -> Order:
    return replace(
        order(order_id, expires_after_seconds=5.0),
        namespace=pod.namespace,
        pod=pod.name,
        pod_uid=pod.uid,
        container="main",
        admitted=admitted,
        lane=lane,
    )


def sent(rig: Rig, link: Link) -> list[int]:
    """Takes the ids of the orders that have reached a stream."""
    taken = link.outbox.take(now_seconds=rig.clock.now)
    if taken is None or taken[0] != "orders":
        return []
    return [each.order_id for each in taken[1].orders.orders]


def results(link: Link) -> list[OrderResult]:
    """Takes what the core will be told of orders."""
    drained = link.inbox.drain()
    return [] if drained is None else list(drained.results)


def resized_facts(pod: PodKey, **fields: Any) -> pb.ContainerFacts:  # noqa: ANN401 - of a message.
    """What a shim says of a container that MBCAS has resized before."""
    given: dict[str, Any] = {
        "handle": 1,
        "pod_uid": pod.uid,
        "namespace": pod.namespace,
        "pod": pod.name,
        "container": "main",
        "container_id": "run-1",
        "qos_class": pb.QOS_CLASS_BURSTABLE,
        "spec": pb.CpuResources(request_millicores=20, limit_millicores=900),
        "limit_set_by_mbcas": True,
    }
    return pb.ContainerFacts(**(given | fields))


def part(admitted: CpuResources = ADMITTED) -> ContainerAllocation:
    """One container's part of a PodAllocation."""
    return ContainerAllocation(admitted=admitted, desired=CpuResources(limit_millicores=900))
