"""What the cluster adds to a shim's facts: namespaces, autoscalers, and what is remembered."""

from pathlib import Path
from typing import Any

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import ContainerFacts, CpuResources, Mode, PriorityClass
from mbcas_server.convert import parse_report
from mbcas_server.kube.allocation import ContainerAllocation, PodKey, to_object
from mbcas_server.kube.surroundings import LOST_REASON, PENDING_REASON
from tests.kube.fake_cluster import FakeCluster
from tests.kube.requests import Fault
from tests.mbcas_server.fakes import report
from tests.mbcas_server.kube.rig import (
    ADMITTED,
    NODE,
    Rig,
    part,
    resized_facts,
    rigged,
)

POD = PodKey("contract", "web", "12345678-9abc-def0-1234-56789abcdef0")
CONTROLLER = "ReplicaSet/web-6d4cf56db6"


def facts_of(rig: Rig, given: pb.ContainerFacts, node: str = NODE) -> ContainerFacts:
    """Takes a report with one container in."""
    message = report(node, containers=[given]).SerializeToString()
    parsed = parse_report(message, unix_seconds=0.0, surroundings=rig.objects.surroundings)
    return parsed.containers[0]


def replica_set(cluster: FakeCluster, *containers: dict[str, Any], name: str = "") -> None:
    metadata = {"name": name or "web-6d4cf56db6", "namespace": "contract", "generation": 1}
    spec = {"template": {"spec": {"containers": list(containers)}}}
    cluster.put("replicasets", {"metadata": metadata, "spec": spec})


def main(**resources: dict[str, str]) -> dict[str, Any]:
    return {"name": "main", "resources": resources}


async def test_a_pod_that_was_resized_was_admitted_with_what_its_object_says(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.put("podallocations", to_object(POD, {"main": part()}))
    async with rigged(cluster, tmp_path) as rig:
        facts = facts_of(rig, resized_facts(POD))

        assert facts.admitted == CpuResources(limit_millicores=500)
        assert (facts.limit_set, facts.request_set, facts.skip_reason) == (True, False, "")


@pytest.mark.parametrize(
    ("limit", "is_ours"),
    [(900, True), (901, False), (500, False)],
)
async def test_a_value_as_mbcas_wanted_it_stays_its_own_where_managed_fields_were_cleared(
    cluster: FakeCluster, tmp_path: Path, limit: int, *, is_ours: bool
) -> None:
    cluster.put("podallocations", to_object(POD, {"main": part()}))
    async with rigged(cluster, tmp_path) as rig:
        spec = pb.CpuResources(request_millicores=20, limit_millicores=limit)
        facts = facts_of(rig, resized_facts(POD, spec=spec, limit_set_by_mbcas=False))

        assert (facts.limit_set, facts.request_set, facts.skip_reason) == (is_ours, False, "")
        assert facts.admitted == (CpuResources(limit_millicores=500) if is_ours else None)


async def test_a_value_that_mbcas_wanted_as_it_was_admitted_is_not_its_own(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    same = ContainerAllocation(admitted=ADMITTED, desired=ADMITTED)
    cluster.put("podallocations", to_object(POD, {"main": same}))
    async with rigged(cluster, tmp_path) as rig:
        spec = pb.CpuResources(request_millicores=20, limit_millicores=500)
        facts = facts_of(rig, resized_facts(POD, spec=spec, limit_set_by_mbcas=False))

        assert (facts.limit_set, facts.request_set, facts.admitted) == (False, False, None)


async def test_the_object_of_another_pod_of_that_name_does_not_count(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.put("podallocations", to_object(POD, {"main": part()}))
    async with rigged(cluster, tmp_path) as rig:
        facts = facts_of(rig, resized_facts(POD._replace(uid="another")))

        assert (facts.admitted, facts.skip_reason) == (None, LOST_REASON)


async def test_what_nobody_has_set_is_what_was_admitted(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        facts = facts_of(rig, resized_facts(POD, limit_set_by_mbcas=False))

        assert (facts.admitted, facts.skip_reason) == (None, "")


async def test_without_an_object_the_template_says_what_was_admitted(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    replica_set(cluster, main(requests={"cpu": "20m"}, limits={"cpu": "0.5"}))
    async with rigged(cluster, tmp_path) as rig:
        link = rig.attach()
        given = resized_facts(POD, controller=CONTROLLER, request_set_by_mbcas=True)

        before = facts_of(rig, given)
        await rig.eventually(lambda: link.inbox.inventory_wanted, step_seconds=0.5)
        after = facts_of(rig, given)

        assert (before.admitted, before.skip_reason) == (None, PENDING_REASON)
        assert link.inbox.inventory_wanted == "template"
        assert (after.admitted, after.skip_reason) == (ADMITTED, "")


async def test_a_template_that_was_found_before_its_stream_was_there_is_still_asked_for(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    replica_set(cluster, main(limits={"cpu": "500m"}))
    async with rigged(cluster, tmp_path) as rig:
        facts_of(rig, resized_facts(POD, controller=CONTROLLER))
        found = rig.metrics.template_lookups.labels(result="found")
        await rig.eventually(found._value.get, step_seconds=0.5)

        link = rig.attach()
        await rig.eventually(lambda: link.inbox.inventory_wanted, step_seconds=0.5)


@pytest.mark.parametrize(
    ("container", "controller"),
    [
        (main(), CONTROLLER),
        (main(limits={"cpu": "much"}), CONTROLLER),
        ({"name": "another"}, CONTROLLER),
        (main(limits={"cpu": "1"}), "ReplicaSet/gone"),
    ],
)
async def test_what_the_template_leaves_open_is_lost(
    cluster: FakeCluster, tmp_path: Path, container: dict[str, Any], controller: str
) -> None:
    replica_set(cluster, container)
    async with rigged(cluster, tmp_path) as rig:
        link, given = rig.attach(), resized_facts(POD, controller=controller)
        facts_of(rig, given)
        await rig.eventually(lambda: link.inbox.inventory_wanted, step_seconds=0.5)

        facts = facts_of(rig, given)

        assert (facts.admitted, facts.skip_reason) == (None, LOST_REASON)


@pytest.mark.parametrize("controller", ["", "Widget/web", "ReplicaSet/"])
async def test_without_a_controller_that_is_known_it_is_lost_at_once(
    cluster: FakeCluster, tmp_path: Path, controller: str
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        facts = facts_of(rig, resized_facts(POD, controller=controller))

        assert facts.skip_reason == LOST_REASON


async def test_a_template_is_asked_for_again_while_the_api_has_trouble(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    replica_set(cluster, main(limits={"cpu": "500m"}))
    cluster.fail(Fault(code=503, times=2, path_part="replicasets"))
    async with rigged(cluster, tmp_path) as rig:
        link, given = rig.attach(), resized_facts(POD, controller=CONTROLLER)
        facts_of(rig, given)
        await rig.eventually(lambda: link.inbox.inventory_wanted, step_seconds=1.0)

        assert facts_of(rig, given).admitted == CpuResources(limit_millicores=500)
        assert rig.metrics.template_lookups.labels(result="failed")._value.get() == 2


async def test_replicas_ask_for_their_template_once(cluster: FakeCluster, tmp_path: Path) -> None:
    replica_set(cluster, main(limits={"cpu": "500m"}))
    async with rigged(cluster, tmp_path) as rig:
        link = rig.attach()
        for number in range(20):
            pod = POD._replace(name=f"web-{number}", uid=f"uid-{number}")
            facts_of(rig, resized_facts(pod, controller=CONTROLLER))
        await rig.eventually(lambda: link.inbox.inventory_wanted, step_seconds=0.5)

        asked = [each for each in cluster.api.requests if "replicasets" in each.path]
        assert len(asked) == 1


async def test_a_namespace_speaks_where_the_pod_says_nothing(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        rig.facts.annotations["contract"] = {"mode": "auto", "min-cpu": "100m"}
        facts = facts_of(rig, resized_facts(POD, annotations={"min-cpu": "50m"}))

        assert (facts.mode, facts.min_millicores) == (Mode.AUTO, 50)


@pytest.mark.parametrize(
    ("of_namespace", "of_pod", "counts"),
    [
        ({}, {"max-priority": "critical"}, PriorityClass.NORMAL),
        ({"max-priority": "critical"}, {}, PriorityClass.CRITICAL),
        ({"max-priority": "low"}, {"max-priority": "critical"}, PriorityClass.LOW),
    ],
)
async def test_how_much_priority_a_pod_may_claim_is_not_its_own_to_say(
    cluster: FakeCluster,
    tmp_path: Path,
    of_namespace: dict[str, str],
    of_pod: dict[str, str],
    counts: PriorityClass,
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        rig.facts.annotations["contract"] = of_namespace
        annotations = {"priority-class": "critical"} | of_pod

        facts = facts_of(rig, resized_facts(POD, annotations=annotations))

        assert facts.priority_class is counts


async def test_what_an_autoscaler_scales_by_requests_is_told(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        rig.facts.scaled.add("contract/Deployment/web/main")

        scaled = facts_of(rig, resized_facts(POD, owner="Deployment/web/main"))
        other = facts_of(rig, resized_facts(POD, owner="Deployment/other/main"))

        assert (scaled.scaled_by_requests, other.scaled_by_requests) == (True, False)


async def test_a_changed_namespace_has_the_nodes_with_its_pods_asked(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        link = rig.attach()
        assert link.inbox.namespaces == {"default"}

        rig.objects.surroundings_changed({"contract"}, set())
        of_another = link.inbox.inventory_wanted
        rig.objects.surroundings_changed({"default"}, set())

        assert (of_another, link.inbox.inventory_wanted) == ("", "namespace")
        assert rig.links.take_due() == [link.node]


async def test_a_changed_node_is_told_to_the_core_without_asking_its_shim(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    async with rigged(cluster, tmp_path) as rig:
        link = rig.attach()
        rig.facts.nodes[NODE] = 1500

        rig.objects.surroundings_changed(set(), {NODE})
        drained = link.inbox.drain()

        assert drained is not None
        assert drained.node_facts is not None
        assert drained.node_facts.allocatable_millicores == 1500
        assert rig.links.take_due() == [NODE]
