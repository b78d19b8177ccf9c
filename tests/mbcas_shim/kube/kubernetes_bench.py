"""A whole shim on a node of the fake cluster, whose pods have cgroups as files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.app import App
from mbcas_shim.settings import Settings
from tests.kube.fake_cluster import NODE, FakeCluster
from tests.kube.fake_kube import FakeKube
from tests.mbcas_shim.fake_link import HANG_SECONDS, FakeLink
from tests.mbcas_shim.fakes import VirtualClock

RIGHTS = ("list pods", "watch pods", "get podallocations", "patch pods/resize")


class ServerView:
    """What a server knows that has read all reports."""

    def __init__(self, link: FakeLink) -> None:
        self.containers: dict[str, pb.ContainerFacts] = {}
        """By pod and container."""
        self.samples: dict[int, dict[str, int]] = {}
        """The latest of each handle: usage_usec and quota_usec."""
        self.node_facts = pb.NodeFacts()
        self.inventories = 0
        self._link = link

    def read(self) -> None:
        """Reads the reports that have come."""
        while not self._link.reports.empty():
            report = self._link.reports.get_nowait()
            if report.full_inventory:
                self.inventories += 1
                self.containers = {}
            if report.HasField("node_facts"):
                self.node_facts = report.node_facts
            gone = set(report.removed_handles)
            self.containers = {
                key: facts for key, facts in self.containers.items() if facts.handle not in gone
            }
            for facts in report.containers:
                self.containers[f"{facts.pod}/{facts.container}"] = facts
            columns = [
                np.frombuffer(column, kind).tolist()
                for column, kind in (
                    (report.samples.handles, "<i4"),
                    (report.samples.usage_usec, "<i8"),
                    (report.samples.quota_usec, "<i8"),
                )
            ]
            for handle, usage_usec, quota_usec in zip(*columns, strict=True):
                self.samples[handle] = {"usage_usec": usage_usec, "quota_usec": quota_usec}

    def sample(self, container: str) -> dict[str, int]:
        """The latest sample of a container; nothing where there is none yet."""
        facts = self.containers.get(container)
        return {} if facts is None else self.samples.get(facts.handle, {})


class KubernetesBench(ServerView):
    """Time passes in the shim and in the cluster only when a test says so."""

    def __init__(self, cluster: FakeCluster, folder: Path, address: str, link: FakeLink) -> None:
        super().__init__(link)
        self.cluster = cluster
        self.kube = FakeKube(cluster)
        self.clock = VirtualClock()
        self.stop = asyncio.Event()
        token_file = folder / "kube-token"
        token_file.write_text(self.kube.with_rights(*RIGHTS).token)
        self.settings = Settings(
            kubernetes=True,
            kube_api=cluster.server,
            kube_token_file=token_file,
            server_address=address,
            cgroup_root=folder / "cgroup",
            node_name=NODE,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        app = App(self.settings, clock=self.clock, uniform=lambda: 0.5, nonce=7)
        async with asyncio.TaskGroup() as group:
            group.create_task(app.serve(self.stop))
            yield app
            self.stop.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Lets a second after the other pass until what the server knows has something."""
        async with asyncio.timeout(HANG_SECONDS):
            while not done():
                await self.clock.advance(1)
                # The watch's thread and gRPC take their own time.
                await asyncio.sleep(0.002)
                self.read()
