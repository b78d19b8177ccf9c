"""A shim speaks for the pods of its own node alone: what another says of them changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from mbcas_core.events import CpuResources, Outcome
from mbcas_server.kube.allocation import to_object
from mbcas_server.kube.surroundings import ELSEWHERE_REASON
from mbcas_server.links import Link
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.fakes import market_view
from tests.mbcas_server.kube.rig import (
    ADMITTED,
    NODE,
    Rig,
    key_of,
    order_for,
    part,
    resized_facts,
    results,
    rigged,
    sent,
)
from tests.mbcas_server.kube.test_status import decision
from tests.mbcas_server.kube.test_surroundings import CONTROLLER, facts_of, main, replica_set

EVIL = CpuResources(request_millicores=20, limit_millicores=64_000)


def attach_evil(rig: Rig) -> Link:
    rig.facts.nodes["evil"] = 2000
    return rig.attach("evil")


def asked(cluster: FakeCluster) -> int:
    """Counts the questions for pods that came after one was made."""
    with cluster.store.changed:
        paths = [each.path for each in cluster.api.requests if each.method == "GET"]
    return sum("/pods/" in path for path in paths)


async def refused(rig: Rig, link: Link) -> None:
    await rig.eventually(lambda: link.inbox._results)
    (result,) = results(link)
    assert (result.outcome, result.cause) == (Outcome.REFUSED, "PodAllocation")
    assert sent(rig, link) == []


async def test_the_first_order_of_a_pod_is_refused_to_a_node_that_it_does_not_run_on(
    cluster: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, evil = key_of(await rig.pod()), attach_evil(rig)

        rig.objects.send(evil, (order_for(pod, admitted=EVIL),))
        await refused(rig, evil)

        assert rig.objects_there() == []
        assert rig.metrics.pods_elsewhere._value.get() == 1
        assert "told_by='evil'" in caplog.text


async def test_what_is_written_of_a_pod_is_not_changed_for_another_node(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link, evil = key_of(await rig.pod()), rig.attach(), attach_evil(rig)
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))
        before = asked(cluster)

        rig.objects.send(evil, (order_for(pod, 2, admitted=EVIL),))
        await refused(rig, evil)
        rig.objects.send(link, (order_for(pod, 3),))

        assert sent(rig, link) == [3]
        known = rig.objects.allocations.part(pod, "main", NODE)
        assert known is not None
        assert known.admitted == ADMITTED
        assert asked(cluster) == before


async def test_nor_by_a_server_that_starts_anew(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = key_of(await rig.pod())
    cluster.put("podallocations", to_object(pod, {"main": part()}))
    async with rigged(cluster, tmp_path) as rig:
        evil = attach_evil(rig)

        rig.objects.send(evil, (order_for(pod, 2, admitted=EVIL),))
        await refused(rig, evil)

        assert rig.objects.allocations.part(pod, "main", NODE) == part()


async def test_of_two_nodes_that_are_held_at_one_time_the_right_one_gets_its_order(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link, evil = key_of(await rig.pod()), rig.attach(), attach_evil(rig)

        rig.objects.send(evil, (order_for(pod, 1, admitted=EVIL),))
        rig.objects.send(link, (order_for(pod, 2),))
        await rig.eventually(lambda: link.outbox._orders)
        await refused(rig, evil)

        assert sent(rig, link) == [2]
        (there,) = rig.objects_there()
        assert there["spec"]["containers"][0]["admitted"]["limit"] == "500m"


async def test_a_pod_is_asked_for_once(cluster: FakeCluster, tmp_path: Path) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        before = asked(cluster)

        for number in range(1, 4):
            admitted = CpuResources(request_millicores=20, limit_millicores=500 + number)
            rig.objects.send(link, (order_for(pod, number, admitted=admitted),))
            await rig.eventually(lambda: sent(rig, link))

        assert asked(cluster) == before + 1


@pytest.mark.parametrize("code", [403, 500])
async def test_while_the_api_does_not_say_where_a_pod_runs_it_gets_no_order(
    cluster: FakeCluster, tmp_path: Path, code: int
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        cluster.fail(Fault(code=code, method="GET", path_part="/pods/"))

        rig.objects.send(link, (order_for(pod),))
        await refused(rig, link)

        assert rig.objects_there() == []


async def test_a_pod_of_that_name_with_another_uid_gets_no_order(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()

        rig.objects.send(link, (order_for(pod._replace(uid="made-up")),))
        await refused(rig, link)

        assert rig.objects_there() == []


async def test_a_report_of_another_node_learns_nothing_of_a_pod(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod, link = key_of(await rig.pod()), rig.attach()
        attach_evil(rig)
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))

        facts = facts_of(rig, resized_facts(pod), "evil")

        assert (facts.admitted, facts.skip_reason) == (None, ELSEWHERE_REASON)


async def test_what_another_node_said_that_a_pod_asked_for_is_not_believed(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    replica_set(cluster, main(limits={"cpu": "64"}), name="evil")
    replica_set(cluster, main(limits={"cpu": "500m"}))
    async with rigged(cluster, tmp_path) as rig:
        pod, link, evil = key_of(await rig.pod()), rig.attach(), attach_evil(rig)
        by_evil = resized_facts(pod, controller="ReplicaSet/evil")
        own = resized_facts(pod, controller=CONTROLLER)
        facts_of(rig, by_evil, "evil")
        facts_of(rig, own)
        await rig.eventually(
            lambda: evil.inbox.inventory_wanted and link.inbox.inventory_wanted, step_seconds=0.5
        )

        claimed = facts_of(rig, by_evil, "evil")
        found = facts_of(rig, own)

        assert claimed.admitted == CpuResources(limit_millicores=64_000)
        assert found.admitted == CpuResources(limit_millicores=500)
        rig.objects.send(link, (order_for(pod),))
        await rig.eventually(lambda: sent(rig, link))
        (there,) = rig.objects_there()
        assert there["spec"]["containers"][0]["admitted"]["limit"] == "500m"


async def test_what_the_core_has_of_another_node_is_not_written(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        pod = key_of(await rig.pod())
    cluster.put("podallocations", to_object(pod, {"main": part()}))
    async with rigged(cluster, tmp_path) as rig:
        rig.core.views["evil"] = market_view("evil")
        rig.core.pods[pod.namespace, pod.name] = [replace(decision(pod), node="evil")]

        await rig.eventually(rig.metrics.pods_elsewhere._value.get, step_seconds=1.0)

        (there,) = rig.objects_there()
        assert there["spec"]["containers"][0]["desired"] == {"limit": "900m"}
        assert "status" not in there
