"""Reports from bytes: what is refused, what is left out, and that nothing crashes."""

from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import InvalidInputError
from mbcas_core.events import COUNTERS, CpuResources, Mode, Policy, PriorityClass
from mbcas_server.annotations import NOTHING, PriorityBounds, parse_annotations, parse_cpu
from mbcas_server.convert import ParsedReport, parse_report
from tests.mbcas_server.fakes import Given, container, report, samples

KEYS = (
    "mode",
    "policy",
    "priority-class",
    "max-priority",
    "isolation",
    "min-cpu",
    "max-cpu",
    "min-acceptable-cpu",
    "exclude-containers",
    "else",
)
UNKNOWN_OUTCOME = cast("pb.Outcome.ValueType", 99)


def parse(message: pb.NodeReport, *, unix_seconds: float = 0.0) -> ParsedReport:
    return parse_report(message.SerializeToString(), unix_seconds=unix_seconds)


def refused_fields(message: pb.NodeReport) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        parse(message)
    return [error.field for error in caught.value.errors]


def facts_of(**fields: Given) -> pb.NodeFacts:
    given: dict[str, Given] = {
        "allocatable_millicores": 1600,
        "cpu_count": 2,
        "cgroup_version": 2,
        "enforcement": pb.ENFORCEMENT_CGROUP,
    }
    return pb.NodeFacts(**(given | fields))


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        (facts_of(allocatable_millicores=0), "node_facts.allocatable_millicores"),
        (facts_of(allocatable_millicores=10**8), "node_facts.allocatable_millicores"),
        (facts_of(unmanaged_millicores=-1), "node_facts.unmanaged_millicores"),
        (facts_of(cpu_count=0), "node_facts.cpu_count"),
        (facts_of(cgroup_version=3), "node_facts.cgroup_version"),
        (facts_of(enforcement=0), "node_facts.enforcement"),
        (facts_of(enforcement=9), "node_facts.enforcement"),
    ],
)
def test_a_bad_fact_about_the_node_is_refused(facts: pb.NodeFacts, field: str) -> None:
    assert refused_fields(report(node_facts=facts)) == [field]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"handle": 0}, "handle"),
        ({"handle": 1_000_001}, "handle"),
        ({"pod_uid": ""}, "pod_uid"),
        ({"pod_uid": "u" * 129}, "pod_uid"),
        ({"namespace": "n" * 64}, "namespace"),
        ({"namespace": "line\nbreak"}, "namespace"),
        ({"pod": ""}, "pod"),
        ({"container": ""}, "container"),
        ({"container_id": ""}, "container_id"),
        ({"spec": pb.CpuResources(request_millicores=-1)}, "spec.request_millicores"),
        ({"spec": pb.CpuResources(limit_millicores=0)}, "spec.limit_millicores"),
        ({"actual": pb.CpuResources(limit_millicores=10**9)}, "actual.limit_millicores"),
        ({"generation": -1}, "generation"),
        ({"restart_count": -1}, "restart_count"),
        ({"qos_class": 7}, "qos_class"),
        ({"priority_class_name": "p" * 254}, "priority_class_name"),
        ({"annotations": {f"key-{i}": "x" for i in range(33)}}, "annotations"),
    ],
)
def test_a_bad_fact_about_a_container_is_refused(fields: dict[str, Given], field: str) -> None:
    message = report(containers=[container(**fields)])

    assert refused_fields(message) == [f"containers[0].{field}"]


@pytest.mark.parametrize(
    ("result", "field"),
    [
        (pb.OrderResult(order_id=0, outcome=pb.OUTCOME_APPLIED), "order_id"),
        (pb.OrderResult(order_id=1), "outcome"),
        (pb.OrderResult(order_id=1, outcome=UNKNOWN_OUTCOME), "outcome"),
        (pb.OrderResult(order_id=1, outcome=pb.OUTCOME_APPLIED, generation=-4), "generation"),
        (pb.OrderResult(order_id=1, outcome=pb.OUTCOME_APPLIED, cause="c" * 300), "cause"),
        (pb.OrderResult(order_id=1, outcome=pb.OUTCOME_APPLIED, message="a\x1b[2J"), "message"),
        (pb.OrderResult(order_id=1, outcome=pb.OUTCOME_APPLIED, message="m" * 801), "message"),
    ],
)
def test_a_bad_result_is_refused(result: pb.OrderResult, field: str) -> None:
    assert refused_fields(report(order_results=[result])) == [f"order_results[0].{field}"]


def test_too_many_entries_are_refused_before_they_are_looked_at() -> None:
    many = [container(1)] * 10_001

    assert refused_fields(report(containers=many)) == ["containers"]


@pytest.mark.parametrize("column", [*COUNTERS, "handles", "detail_seconds", "slice_millicores"])
def test_a_column_of_the_wrong_length_refuses_the_samples_and_nothing_else(column: str) -> None:
    given = samples((1, 2), seconds=1)
    setattr(given, column, getattr(given, column) + b"x")

    found = parse(report(samples=given))

    assert found.samples is None
    assert found.samples_error is not None
    assert found.samples_error.field == f"samples.{column}"
    assert len(found.containers) == 1


@pytest.mark.parametrize(
    "given",
    [
        samples((1, 1)),
        samples((-1,)),
        samples((0,)),
        samples((1_000_001,)),
        samples((1,), seconds=6),
    ],
)
def test_bad_handles_and_too_much_detail_refuse_the_samples(given: pb.Samples) -> None:
    assert parse(report(samples=given)).samples_error is not None


def test_a_missing_pressure_is_zero_and_columns_keep_their_order() -> None:
    given = samples((7, 3), usage=123)

    found = parse(report(samples=given)).samples

    assert found is not None
    assert found.handles.tolist() == [7, 3]
    assert found.counters[COUNTERS.index("usage_usec")].tolist() == [123, 123]
    assert found.counters[COUNTERS.index("pressure_usec")].tolist() == [0, 0]


def test_absent_is_not_zero() -> None:
    spec = pb.CpuResources(request_millicores=0)

    (found,) = parse(report(containers=[container(spec=spec)])).containers

    assert found.spec == CpuResources(request_millicores=0, limit_millicores=None)
    assert found.actual is None
    assert found.age_seconds is None


def test_the_age_of_a_container_comes_from_its_start_and_is_never_negative() -> None:
    started = container(start_time=Timestamp(seconds=100))

    ages = [
        parse(report(containers=[started]), unix_seconds=now).containers[0].age_seconds
        for now in (160.0, 40.0)
    ]

    assert ages == [60.0, 0.0]


def test_a_container_that_a_change_would_restart_is_skipped() -> None:
    (found,) = parse(report(containers=[container(restarts_on_resize=True)])).containers

    assert found.skip_reason == "a change of CPU restarts it"


def test_a_wait_that_a_shim_asks_for_is_bounded() -> None:
    results = [
        pb.OrderResult(
            order_id=1, outcome=pb.OUTCOME_REFUSED, retry_after=Duration(seconds=seconds)
        )
        for seconds in (-5, 10**9)
    ]

    found = parse(report(order_results=results)).results

    assert [item.retry_after_seconds for item in found] == [0.0, 86_400.0]


def test_annotations_become_facts() -> None:
    given = {
        "mode": "auto",
        "policy": "hard-quota",
        "priority-class": "critical",
        "max-priority": "critical",
        "isolation": "strict",
        "min-cpu": "50m",
        "max-cpu": "1.5",
        "min-acceptable-cpu": "0.1",
        "exclude-containers": "sidecar",
    }

    (found,) = parse(report(containers=[container(annotations=given)])).containers

    assert (found.mode, found.policy) == (Mode.AUTO, Policy.HARD_QUOTA)
    assert (found.priority_class, found.strict) == (PriorityClass.CRITICAL, True)
    assert (found.min_millicores, found.max_millicores) == (50, 1500)
    assert found.min_acceptable_millicores == 100
    assert found.skip_reason == ""


@pytest.mark.parametrize("skip_reason", ["", "it is a static pod"])
def test_an_excluded_container_is_switched_off_and_says_why(skip_reason: str) -> None:
    given = {"mode": "auto", "exclude-containers": "sidecar, app"}

    (found,) = parse(
        report(containers=[container(annotations=given, skip_reason=skip_reason)])
    ).containers

    assert found.mode is Mode.OFF
    assert found.skip_reason == (skip_reason or "excluded by annotation")


def test_a_bad_annotation_is_left_out_and_said_while_the_others_count() -> None:
    given = {"mode": "aggressive", "policy": "limits-only", "max-cpu": "-1", "tpyo": "x"}

    found = parse(report(containers=[container(annotations=given)]))

    assert found.containers[0].mode is None
    assert found.containers[0].policy is Policy.LIMITS_ONLY
    assert len(found.annotation_refusals) == 3
    assert all("default/web" in refusal for refusal in found.annotation_refusals)


def test_contradictory_bounds_count_for_nothing() -> None:
    found = parse_annotations({"min-cpu": "2", "max-cpu": "1"})

    assert (found.min_millicores, found.max_millicores) == (None, None)
    assert len(found.refusals) == 1


def test_a_least_above_the_most_is_left_out() -> None:
    found = parse_annotations({"min-acceptable-cpu": "2", "max-cpu": "1"})

    assert (found.min_acceptable_millicores, found.max_millicores) == (None, 1000)
    assert "min-acceptable-cpu 2000m is above max-cpu 1000m" in found.refusals[0]


CRITICAL, NORMAL, LOW = PriorityClass
BOUNDS = PriorityBounds(of_class={"gold": CRITICAL, "silver": NORMAL, "tin": LOW})


@pytest.mark.parametrize(
    ("claim", "namespace", "class_name", "counts", "refused"),
    [
        ("critical", "", "", NORMAL, True),
        ("critical", "critical", "", CRITICAL, False),
        ("critical", "", "gold", CRITICAL, False),
        ("critical", "low", "gold", CRITICAL, False),
        ("critical", "critical", "tin", CRITICAL, False),
        ("critical", "normal", "tin", NORMAL, True),
        ("normal", "low", "tin", LOW, True),
        ("low", "critical", "gold", LOW, False),
        ("", "critical", "gold", NORMAL, False),
        ("", "low", "", LOW, False),
        ("critical", "", "unheard-of", NORMAL, True),
        ("critical", "highest", "", NORMAL, True),
        ("highest", "critical", "", NORMAL, True),
    ],
)
def test_a_claim_counts_up_to_what_namespace_or_priority_class_allow(
    claim: str, namespace: str, class_name: str, *, counts: PriorityClass, refused: bool
) -> None:
    given = {"priority-class": claim, "max-priority": namespace}
    message = container(
        annotations={key: value for key, value in given.items() if value},
        priority_class_name=class_name,
    )

    found = parse_report(
        report(containers=[message]).SerializeToString(), unix_seconds=0.0, priorities=BOUNDS
    )

    assert found.containers[0].priority_class is counts
    assert bool(found.annotation_refusals) == refused


def test_the_server_s_bound_counts_only_where_nobody_else_says_anything() -> None:
    claim = parse_annotations({"priority-class": "critical"})
    bounded = parse_annotations({"priority-class": "critical", "max-priority": "normal"})

    assert PriorityBounds(max_priority=CRITICAL).find(claim, "") == (CRITICAL, "")
    assert PriorityBounds(max_priority=LOW).find(NOTHING, "") == (LOW, "")
    assert PriorityBounds(max_priority=CRITICAL).find(bounded, "")[0] is NORMAL
    assert PriorityBounds().find(claim, "system-node-critical") == (CRITICAL, "")


def test_a_bounded_claim_is_said_with_what_counts_and_the_remedy() -> None:
    given = {"priority-class": "critical"}

    (said,) = parse(report(containers=[container(annotations=given)])).annotation_refusals

    assert said.startswith("default/web: priority-class is critical, but counts as normal: ")
    assert "max-priority" in said


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), st.text(max_size=20)))
def test_any_text_of_an_annotation_is_a_value_or_a_sentence(given: dict[str, str]) -> None:
    (message,) = parse(report(containers=[container(annotations=given)])).containers
    said = parse_annotations(given)

    assert all(sentence.isprintable() for sentence in said.refusals)
    assert isinstance(message.priority_class, PriorityClass)


@pytest.mark.parametrize(
    ("text", "millicores"),
    [
        ("500m", 500),
        ("0.5", 500),
        ("2", 2000),
        ("0.0001", 1),
        ("0", 0),
        ("", None),
        ("m", None),
        ("1e3", None),
        ("NaN", None),
        ("10001", None),
        ("٣", None),
    ],
)
def test_cpu_is_read_as_kubernetes_writes_it(text: str, millicores: int | None) -> None:
    assert parse_cpu(text) == millicores


valid = report(
    containers=[container(annotations={"mode": "auto"})],
    samples=samples((1, 2), seconds=2),
    order_results=[pb.OrderResult(order_id=1, outcome=pb.OUTCOME_APPLIED)],
).SerializeToString()


@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_are_a_report_or_refused(message: bytes) -> None:
    try:
        parse_report(message, unix_seconds=0.0)
    except InvalidInputError as error:
        assert error.errors  # noqa: PT017 - both outcomes are right; a crash is not.


@given(st.lists(st.tuples(st.integers(0, len(valid) - 1), st.integers(0, 255)), max_size=6))
def test_a_report_with_some_bytes_changed_is_a_report_or_refused(
    changes: list[tuple[int, int]],
) -> None:
    message = bytearray(valid)
    for position, value in changes:
        message[position] = value

    try:
        parse_report(bytes(message), unix_seconds=0.0)
    except InvalidInputError as error:
        assert error.errors  # noqa: PT017 - both outcomes are right; a crash is not.
