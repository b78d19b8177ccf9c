"""Rows of the checklist that no other test shows, most of them about other releases and nodes."""

import pytest

from mbcas_core.parameters import Parameters
from mbcas_shim.kube.pods import parse_pod
from tests.kube.fake_kube import FakeKube
from tests.kube.kube import Answer, conditions_of, status_of
from tests.kube.shapes import BURSTABLE, GUARANTEED, UNLIMITED, single

LIMIT_300M = {"main": {"limits": {"cpu": "300m"}}}


def refused_for_class(answer: Answer) -> bool:
    return answer.code == 422 and ("FieldValueInvalid", "spec") in answer.causes


def test_the_class_that_binds_is_the_stored_one(kube: FakeKube) -> None:
    pod = kube.create_pod(single("web", BURSTABLE))
    pod["status"]["qosClass"] = "BestEffort"
    kube.cluster.put("pods", pod)

    assert refused_for_class(kube.resize("web", LIMIT_300M))


def test_what_waits_is_tried_again_every_three_minutes(kube: FakeKube) -> None:
    kube.create_pod(single("large", {"requests": {"cpu": "1900m"}}))
    kube.create_pod(single("asks", UNLIMITED))
    kube.resize("asks", {"main": {"requests": {"cpu": "500m"}}})
    kube.let_pass(5.0)
    kube.cluster.kubelet.millicores = 4000  # Nobody tells the kubelet that there is room.
    kube.let_pass(100.0)
    assert conditions_of(kube.get("asks"))["PodResizePending"]["reason"] == "Deferred"

    kube.let_pass(100.0)

    assert kube.settled("asks")


def test_what_is_infeasible_for_memory_is_not_for_cpu_alone(kube: FakeKube) -> None:
    kube.cluster.kubelet.has_swap = True
    kube.create_pod(single("web", BURSTABLE))
    kube.resize("web", LIMIT_300M)
    kube.let_pass(5.0)
    assert kube.settled("web")

    kube.resize("web", {"main": {"requests": {"memory": "40Mi"}}})
    kube.let_pass(5.0)

    assert conditions_of(kube.get("web"))["PodResizePending"]["reason"] == "Infeasible"


def test_a_sandboxed_pod_is_resized_as_any(kube: FakeKube) -> None:
    pod = kube.create_pod(single("web", BURSTABLE, runtimeClassName="gvisor"))

    assert parse_pod(pod).containers[0].skip_reason == ""
    assert kube.resize("web", LIMIT_300M).code == 200
    kube.wait(lambda: kube.settled("web"))
    assert status_of(kube.get("web"))["resources"]["limits"]["cpu"] == "300m"


@pytest.mark.parametrize("name", ["system-node-critical", "system-cluster-critical"])
def test_a_system_critical_pod_is_told_by_its_class(kube: FakeKube, name: str) -> None:
    pod = kube.create_pod(single("dns", BURSTABLE, priorityClassName=name))

    assert parse_pod(pod).priority_class_name == name


def test_a_node_hands_out_units_of_10m() -> None:
    assert Parameters().quantum_millicores == 10


def test_a_guaranteed_pod_under_the_static_cpu_manager_can_be_taken_back(kube: FakeKube) -> None:
    """A client does not see the policy: it sees Infeasible, and that taking it back ends it."""
    pod = kube.create_pod(single("web", GUARANTEED))
    kube.cluster.kubelet.static_cpu_manager = True
    raised = {"requests": {"cpu": "70m"}, "limits": {"cpu": "70m"}}
    kube.resize("web", {"main": raised})
    kube.wait(lambda: "PodResizePending" in conditions_of(kube.get("web")))

    kube.resize("web", {"main": GUARANTEED})

    kube.wait(lambda: kube.settled("web"))
    assert kube.cgroup_of(pod, "main").quota_us == 5_000
