"""A shim that watches the real API server and reads the real cgroups of its pods."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.app import App
from mbcas_shim.clock import MonotonicClock
from mbcas_shim.settings import Settings
from tests.e2e.test_real_keeps_the_contract import RealKube, namespace
from tests.kube.shapes import BURSTABLE, GUARANTEED, container, pod, single
from tests.mbcas_shim.fake_link import FakeLink, served
from tests.mbcas_shim.kube.kubernetes_bench import ServerView

__all__ = ["namespace"]  # A fixture, taken over.

WAIT_SECONDS = 60
BURN = "while :; do :; done"


class Node(ServerView):
    """A shim on the node of the cluster, in this process."""

    def __init__(self, kube: RealKube, folder: Path, address: str, link: FakeLink) -> None:
        super().__init__(link)
        self.kube = kube
        self.stop = asyncio.Event()
        token_file = folder / "kube-token"
        token_file.write_text(kube.token)
        self.settings = Settings(
            kubernetes=True,
            kube_api=kube.server,
            kube_ca=kube.cluster.ca,
            kube_token_file=token_file,
            kubelet_cgroup_root=kube.cluster.cgroup_root,
            server_address=address,
            node_name="e2e-node",
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        app = App(self.settings, clock=MonotonicClock(), uniform=lambda: 0.5, nonce=7)
        async with asyncio.TaskGroup() as group:
            group.create_task(app.serve(self.stop))
            yield app
            self.stop.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Waits until what the server knows has something."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not done():
                await asyncio.sleep(0.05)
                self.read()


@pytest.fixture
def kube(namespace: RealKube) -> Iterator[RealKube]:
    yield namespace
    namespace.call("DELETE", namespace.pods, gracePeriodSeconds="0")
    namespace.wait(lambda: not namespace.call("GET", namespace.pods).body["items"])


@pytest.fixture
async def node(kube: RealKube, tmp_path: Path) -> AsyncIterator[Node]:
    link = FakeLink()
    async with served(link, tmp_path) as address:
        yield Node(kube, tmp_path, address, link)


async def test_containers_of_every_class_are_found_and_measured(node: Node) -> None:
    side = container("side", BURSTABLE, restartPolicy="Always")
    burning = container("main", BURSTABLE, command=["/bin/sh", "-c", BURN])
    node.kube.create_pod(pod("burns", burning, initContainers=[side]))
    node.kube.create_pod(single("exact", GUARANTEED))
    node.kube.create_pod(single("free", {}))

    async with node.running():
        await node.until(lambda: node.sample("burns/main").get("usage_usec", 0) > 200_000)

    assert {"burns/main", "burns/side", "exact/main", "free/main"} <= set(node.containers)
    assert node.sample("burns/main")["quota_usec"] == 50_000
    assert node.sample("burns/side")["quota_usec"] == 50_000
    assert node.sample("exact/main")["quota_usec"] == 5_000
    assert node.sample("free/main")["quota_usec"] == 0
    assert node.containers["burns/side"].sidecar
    assert node.containers["exact/main"].qos_class == pb.QOS_CLASS_GUARANTEED


async def test_who_set_a_value_is_seen_as_it_changes_hands(node: Node) -> None:
    node.kube.create_pod(single("handed", BURSTABLE))

    def owned() -> tuple[int, bool]:
        facts = node.containers["handed/main"]
        return facts.actual.limit_millicores, facts.limit_set_by_mbcas

    async with node.running():
        await node.until(lambda: "handed/main" in node.containers)
        node.kube.resize("handed", {"main": {"limits": {"cpu": "250m"}}}, fieldManager="mbcas")
        await node.until(lambda: owned() == (250, True))
        node.kube.resize("handed", {"main": {"limits": {"cpu": "300m"}}}, fieldManager="kubectl")
        await node.until(lambda: owned() == (300, False))
        await node.until(lambda: node.sample("handed/main")["quota_usec"] == 30_000)
