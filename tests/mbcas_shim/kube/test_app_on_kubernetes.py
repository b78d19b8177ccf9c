from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.kube import pod_source
from tests.kube.fake_cluster import FakeCluster
from tests.kube.shapes import BURSTABLE, container, pod, single
from tests.mbcas_shim.fake_link import FakeLink, served
from tests.mbcas_shim.kube.kubernetes_bench import KubernetesBench


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(cgroups=tmp_path / "cgroup") as built:
        yield built


@pytest.fixture
async def bench(tmp_path: Path, cluster: FakeCluster) -> AsyncIterator[KubernetesBench]:
    link = FakeLink()
    async with served(link, tmp_path) as address:
        yield KubernetesBench(cluster, tmp_path, address, link)


async def test_the_first_report_has_every_container_of_the_node(bench: KubernetesBench) -> None:
    side = container("side", BURSTABLE, restartPolicy="Always")
    bench.kube.create_pod(pod("web", container("main", BURSTABLE), initContainers=[side]))
    bench.kube.create_pod(single("idle", {}))

    async with bench.running():
        await bench.until(lambda: bench.inventories > 0)

    facts = bench.containers["web/main"]
    assert set(bench.containers) == {"web/main", "web/side", "idle/main"}
    assert facts.spec == pb.CpuResources(request_millicores=20, limit_millicores=500)
    assert (facts.namespace, facts.qos_class) == ("contract", pb.QOS_CLASS_BURSTABLE)
    assert bench.containers["web/side"].sidecar
    assert bench.node_facts.allocatable_millicores == 0
    assert bench.node_facts.unmanaged_millicores == 0
    assert bench.node_facts.enforcement == pb.ENFORCEMENT_RESIZE


async def test_nothing_is_reported_before_it_is_known_which_pods_there_are(
    bench: KubernetesBench,
) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))
    bench.cluster.set_down(is_down=True)

    async with bench.running() as app:
        await bench.until(lambda: app.counters.value("pods_unreadable") > 0)
        before = bench.inventories
        bench.cluster.set_down(is_down=False)
        await bench.until(lambda: bench.inventories > 0)

    assert before == 0
    assert set(bench.containers) == {"web/main"}


async def test_pods_that_come_and_go_are_told(bench: KubernetesBench) -> None:
    bench.kube.create_pod(single("old", BURSTABLE))

    async with bench.running():
        await bench.until(lambda: "old/main" in bench.containers)
        bench.kube.create_pod(single("new", BURSTABLE))
        bench.kube.delete("old")
        await bench.until(lambda: set(bench.containers) == {"new/main"})


async def test_a_resize_is_seen_in_spec_generation_and_status(bench: KubernetesBench) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        bench.kube.resize("web", {"main": {"limits": {"cpu": "250m"}}}, fieldManager="mbcas")
        bench.kube.wait(lambda: bench.kube.settled("web"))
        await bench.until(lambda: bench.containers["web/main"].actual.limit_millicores == 250)

    facts = bench.containers["web/main"]
    assert (facts.spec.limit_millicores, facts.generation, facts.observed_generation) == (250, 2, 2)
    assert (facts.request_set_by_mbcas, facts.limit_set_by_mbcas) == (False, True)
    assert bench.inventories == 1


async def test_a_container_that_is_restarted_stays_a_row_with_a_new_run(
    bench: KubernetesBench,
) -> None:
    made = bench.kube.create_pod(single("web", BURSTABLE, restartPolicy="Always"))

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        before = bench.containers["web/main"]
        bench.cluster.kubelet.end_container(made["metadata"]["uid"], "main", exit_code=1)
        bench.cluster.advance(60)
        await bench.until(lambda: bench.containers["web/main"].restart_count == 1)
        await bench.until(lambda: bench.containers["web/main"].container_id != before.container_id)

    after = bench.containers["web/main"]
    assert after.handle == before.handle
    assert bench.node_facts.unmanaged_millicores == 0


async def test_while_the_api_server_is_down_rows_stay_and_are_sampled(
    bench: KubernetesBench,
) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))

    async with bench.running() as app:
        await bench.until(lambda: "web/main" in bench.containers)
        bench.cluster.set_down(is_down=True)
        await bench.until(lambda: app.counters.value("pods_unreadable") > 0)
        samples = len(app._sampler.tracks)
        bench.cluster.set_down(is_down=False)
        bench.kube.create_pod(single("late", BURSTABLE))
        await bench.until(lambda: "late/main" in bench.containers)

    assert samples == 1
    assert bench.inventories == 1


async def test_an_orderly_stop_leaves_limits_as_they_are(bench: KubernetesBench) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)

    assert not [each for each in bench.cluster.api.requests if each.method == "PATCH"]


async def test_what_pods_reserve_beside_their_rows_is_unmanaged(bench: KubernetesBench) -> None:
    setup = container("setup", {"requests": {"cpu": "300m"}})
    bench.kube.create_pod(pod("web", container("main", BURSTABLE), initContainers=[setup]))

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        await bench.until(lambda: bench.node_facts.unmanaged_millicores == 280)


async def test_a_pod_that_is_told_to_end_leaves_at_once_but_holds_its_cpu_until_it_has(
    bench: KubernetesBench,
) -> None:
    bench.kube.create_pod(single("web", BURSTABLE, terminationGracePeriodSeconds=30))

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        bench.kube.call("DELETE", f"{bench.kube.pods}/web")
        await bench.until(lambda: not bench.containers)
        await bench.until(lambda: bench.node_facts.unmanaged_millicores == 20)
        bench.cluster.advance(60)
        await bench.until(lambda: bench.node_facts.unmanaged_millicores == 0)


async def test_more_containers_than_a_server_takes_are_left_out_and_count_as_held(
    bench: KubernetesBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_source, "MAX_CONTAINERS", 2)
    bench.kube.create_pod(pod("web", *(container(name, BURSTABLE) for name in ("a", "b", "c"))))

    async with bench.running() as app:
        await bench.until(lambda: len(bench.containers) == 2)
        await bench.until(lambda: bench.node_facts.unmanaged_millicores == 20)

    assert app.counters.value("too_many_containers") == 1


async def test_where_no_pod_can_be_resized_every_row_says_so(bench: KubernetesBench) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))
    bench.settings.kube_token_file.write_text(  # type: ignore[union-attr]  # It is set.
        bench.kube.with_rights("list pods", "watch pods").token
    )

    async with bench.running():
        await bench.until(lambda: "web/main" in bench.containers)
        await bench.until(lambda: "may not patch" in bench.containers["web/main"].skip_reason)


async def test_where_the_pods_groups_cannot_be_found_it_is_said_what_was_looked_for(
    bench: KubernetesBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.kube.create_pod(single("web", BURSTABLE))
    bench.settings = bench.settings.model_copy(update={"kubelet_cgroup_root": "/elsewhere"})

    async with bench.running() as app:
        await bench.until(lambda: app.counters.value("kubepods_not_found") > 0)

    assert "elsewhere/kubepods/burstable" in caplog.text
    assert bench.containers == {}
