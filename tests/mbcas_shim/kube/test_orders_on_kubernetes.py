"""Whole shims on the fake cluster: orders, silence and the end."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from tests.kube.fake_cluster import FakeCluster
from tests.kube.shapes import BURSTABLE, single
from tests.mbcas_shim.fake_link import FakeLink, served
from tests.mbcas_shim.kube.kubernetes_bench import KubernetesBench


class Bench(KubernetesBench):
    """A shim that may write burst credit."""

    def __init__(self, cluster: FakeCluster, folder: Path, address: str, link: FakeLink) -> None:
        super().__init__(cluster, folder, address, link)
        self.server = link
        self.settings = self.settings.model_copy(update={"burst": True})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(cgroups=tmp_path / "cgroup") as built:
        yield built


@pytest.fixture
async def bench(tmp_path: Path, cluster: FakeCluster) -> AsyncIterator[Bench]:
    link = FakeLink()
    async with served(link, tmp_path) as address:
        yield Bench(cluster, tmp_path, address, link)


async def cut(bench: Bench, *, burst_usec: int = 0) -> None:
    """Lets the server order a lower limit, and waits until the shim has seen it in the spec."""
    facts = bench.containers["web/main"]
    order = pb.Order(
        order_id=1,
        pod_uid=facts.pod_uid,
        container="main",
        expected_generation=facts.generation,
        desired=pb.CpuResources(limit_millicores=100),
        burst_usec=burst_usec,
        admitted=pb.CpuResources(request_millicores=20, limit_millicores=500),
    )
    await bench.server.say(pb.NodeDirective(orders=pb.Orders(orders=[order])))
    await bench.until(lambda: limit_of(bench) == 100)
    bench.kube.wait(lambda: bench.kube.settled("web"))


def limit_of(bench: Bench) -> int:
    return bench.containers["web/main"].spec.limit_millicores


def burst_of(bench: Bench) -> int:
    folder = f"pod{bench.kube.get('web')['metadata']['uid']}"
    (path,) = bench.settings.cgroup_root.rglob(f"{folder}/*/cpu.cfs_burst_us")
    return int(path.read_text())


async def test_an_order_of_the_server_comes_back_as_a_fact(bench: Bench) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))
    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        await cut(bench, burst_usec=10_000)
        await bench.until(lambda: burst_of(bench) == 10_000)

        assert bench.containers["web/main"].limit_set_by_mbcas
        assert bench.node_facts.burst_writable
    assert burst_of(bench) == 0
    assert bench.kube.get("web")["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "100m"


async def test_after_silence_the_admitted_limit_is_back_and_the_burst_gone(
    bench: Bench,
) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))
    async with bench.running() as app:
        await bench.until(lambda: "web/main" in bench.containers)
        await cut(bench, burst_usec=10_000)
        await bench.until(lambda: burst_of(bench) == 10_000)
        bench.cluster.set_down(is_down=True)
        await bench.until(lambda: app.counters.value("restore_failed") > 1)
        bench.cluster.set_down(is_down=False)
        await bench.until(lambda: limit_of(bench) == 500)

        assert burst_of(bench) == 0
