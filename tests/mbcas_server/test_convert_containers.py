"""What a node of Kubernetes says of its containers, as the core takes it."""

import pytest

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import InvalidInputError
from mbcas_core.events import ContainerFacts, NodeFacts, Pending, QosClass
from mbcas_server.convert import ParsedReport, parse_report
from mbcas_server.surroundings import UNKNOWN_REASON
from tests.mbcas_server.fakes import Given, container, report


def parse(**fields: Given) -> ParsedReport:
    return parse_report(report(**fields).SerializeToString(), unix_seconds=0.0)


def facts_of(**fields: Given) -> ContainerFacts:
    return parse(containers=[container(**fields)]).containers[0]


def node_of(**fields: Given) -> NodeFacts:
    given: dict[str, Given] = {
        "allocatable_millicores": 0,
        "cpu_count": 2,
        "cgroup_version": 2,
        "enforcement": pb.ENFORCEMENT_RESIZE,
    }
    parsed = parse(node_facts=pb.NodeFacts(**(given | fields)))
    assert parsed.node_facts is not None
    return parsed.node_facts


def refused(**fields: Given) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        parse(**fields)
    return [error.field for error in caught.value.errors]


def condition(kind: str, reason: str, generation: int) -> pb.ResizeCondition:
    return pb.ResizeCondition(type=kind, reason=reason, observed_generation=generation)


def test_only_on_kubernetes_may_a_shim_leave_the_capacity_to_the_node_object() -> None:
    facts = pb.NodeFacts(cpu_count=2, cgroup_version=2, enforcement=pb.ENFORCEMENT_CGROUP)

    assert node_of().allocatable_millicores == 0
    assert refused(node_facts=facts) == ["node_facts.allocatable_millicores"]


@pytest.mark.parametrize(
    ("version", "is_fast"),
    [
        ("v1.35.4", False),
        ("v1.36.0", True),
        ("1.40.1+k3s1", True),
        ("v2.0.0", True),
        ("", False),
        ("edge", False),
    ],
)
def test_kubelets_are_fast_from_1_36_on(version: str, is_fast: bool) -> None:  # noqa: FBT001 - a case.
    assert node_of(kubelet_version=version).fast_kubelet is is_fast


@pytest.mark.parametrize(
    ("conditions", "pending"),
    [
        ([], Pending.NOTHING),
        ([condition("PodResizePending", "Deferred", 3)], Pending.DEFERRED),
        ([condition("PodResizePending", "Infeasible", 3)], Pending.INFEASIBLE),
        ([condition("PodResizeInProgress", "Error", 3)], Pending.FAILING),
        ([condition("PodResizeInProgress", "", 3)], Pending.NOTHING),
        ([condition("PodResizePending", "Infeasible", 2)], Pending.NOTHING),
        ([condition("PodResizePending", "Deferred", 0)], Pending.DEFERRED),  # As 1.33 says it.
        (
            [
                condition("PodResizeInProgress", "Error", 2),
                condition("PodResizePending", "Deferred", 3),
            ],
            Pending.DEFERRED,
        ),
    ],
)
def test_conditions_of_an_older_generation_say_nothing(
    conditions: list[pb.ResizeCondition], pending: Pending
) -> None:
    facts = facts_of(generation=3, observed_generation=3, resize_conditions=conditions)

    assert facts.pending is pending


def test_facts_of_kubernetes_reach_the_core() -> None:
    facts = facts_of(
        generation=4,
        observed_generation=3,
        qos_class=pb.QOS_CLASS_GUARANTEED,
        guaranteed_but_for_cpu=True,
        priority_class_name="system-node-critical",
    )

    assert (facts.generation, facts.observed_generation) == (4, 3)
    assert facts.qos is QosClass.GUARANTEED
    assert facts.guaranteed_but_for_cpu
    assert facts.system_critical
    assert not facts.ready


def test_a_shim_that_does_not_know_of_pods_has_containers_that_are_ready() -> None:
    facts = facts_of()

    assert facts.qos is None
    assert facts.ready


def test_without_kubernetes_nobody_knows_what_a_resized_container_was_admitted_with() -> None:
    facts = facts_of(limit_set_by_mbcas=True)

    assert facts.admitted is None
    assert facts.skip_reason == UNKNOWN_REASON


def test_the_shim_s_own_reason_to_skip_comes_first() -> None:
    facts = facts_of(limit_set_by_mbcas=True, skip_reason="a static pod")

    assert facts.skip_reason == "a static pod"


def test_the_answer_of_the_api_server_to_an_order_reaches_the_core() -> None:
    given = pb.OrderResult(
        order_id=1,
        outcome=pb.OUTCOME_REFUSED,
        status=403,
        cause="Forbidden",
        field="spec",
        message="exceeded quota",
    )

    (result,) = parse(order_results=[given]).results

    assert (result.status, result.cause, result.field) == (403, "Forbidden", "spec")
    assert result.message == "exceeded quota"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"controller": "c" * 321}, "controller"),
        (
            {"resize_conditions": [condition("PodResizePending", "Deferred", 1)] * 9},
            "resize_conditions",
        ),
    ],
)
def test_a_bad_fact_of_kubernetes_is_refused(fields: dict[str, Given], field: str) -> None:
    assert refused(containers=[container(**fields)]) == [f"containers[0].{field}"]


def test_a_status_that_is_none_of_http_s_is_refused() -> None:
    result = pb.OrderResult(order_id=1, outcome=pb.OUTCOME_REFUSED, status=600)

    assert refused(order_results=[result]) == ["order_results[0].status"]
