"""The containers of a shim's report, with what the cluster knows of them beyond the shim."""

from dataclasses import dataclass, field

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import ContainerFacts, CpuResources, Mode, Pending, QosClass
from mbcas_core.permits import EXCLUDED
from mbcas_server.annotations import SYSTEM_CLASSES, PriorityBounds, parse_annotations
from mbcas_server.checks import COUNT_MAX, HANDLE_MAX, Check, parse_resources
from mbcas_server.surroundings import Remembered, SetValues, Surroundings

ANNOTATIONS_MAX = 32
CONDITIONS_MAX = 8  # There are two types of resize condition.
REFUSALS_MAX = 1_000  # Annotations left out of one report that are told and counted.
RESTARTS_REASON = "a change of CPU restarts it"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What the containers of a report are read with."""

    node: str
    unix_seconds: float
    priorities: PriorityBounds
    surroundings: Surroundings
    refusals: list[str] = field(default_factory=list)
    """One sentence for each annotation that was left out, up to REFUSALS_MAX."""


def parse_containers(
    report: pb.NodeReport, check: Check, reading: Reading
) -> tuple[ContainerFacts, ...]:
    """Reads the containers of a report.

    Raises:
        InvalidInputError: There are too many.
    """
    check.entries("containers", len(report.containers))
    check.done()
    handles: set[int] = set()
    keys: set[tuple[str, str]] = set()
    facts = []
    for index, given in enumerate(report.containers):
        field = f"containers[{index}]"
        key = (given.pod_uid, given.container)
        if given.handle in handles:
            check.refuse(f"{field}.handle", f"{given.handle} is used twice in this report")
        if key in keys:
            check.refuse(f"{field}.pod_uid", "and container name a row that is there already")
        handles.add(given.handle)
        keys.add(key)
        facts.append(_container(given, field, check, reading))
    return tuple(facts)


def _container(
    given: pb.ContainerFacts, field: str, check: Check, reading: Reading
) -> ContainerFacts:
    _check_container(given, field, check)
    said = parse_annotations(reading.surroundings.annotations(given))
    priority, bounded = reading.priorities.find(said, given.priority_class_name)
    for refusal in (*said.refusals, bounded):
        if refusal and len(reading.refusals) < REFUSALS_MAX:
            reading.refusals.append(f"{given.namespace}/{given.pod}: {refusal}")
    skip_reason = given.skip_reason
    if not skip_reason and given.restarts_on_resize:
        skip_reason = RESTARTS_REASON
    excluded = given.container in said.excluded
    if not skip_reason and excluded:
        skip_reason = EXCLUDED
    spec = parse_resources(given.spec, f"{field}.spec", check)
    ours = reading.surroundings.set_by_mbcas(reading.node, given, spec)
    admitted, lost = _admitted(given, field, check, reading, ours)
    return ContainerFacts(
        handle=given.handle,
        pod_uid=given.pod_uid,
        namespace=given.namespace,
        pod=given.pod,
        container=given.container,
        container_id=given.container_id,
        spec=spec,
        owner=given.owner,
        image_id=given.image_id,
        allocated=parse_resources(given.allocated, f"{field}.allocated", check)
        if given.HasField("allocated")
        else None,
        actual=parse_resources(given.actual, f"{field}.actual", check)
        if given.HasField("actual")
        else None,
        admitted=admitted,
        request_set=ours.request,
        limit_set=ours.limit,
        generation=given.generation,
        observed_generation=given.observed_generation,
        pending=_pending(given),
        qos=QosClass(given.qos_class) if given.qos_class in (*QosClass,) else None,
        guaranteed_but_for_cpu=given.guaranteed_but_for_cpu,
        scaled_by_requests=reading.surroundings.is_scaled(given),
        system_critical=given.priority_class_name in SYSTEM_CLASSES,
        # Only Kubernetes knows: a shim that owns its cgroups leaves the class unspecified.
        ready=given.ready or not given.qos_class,
        age_seconds=_age_seconds(given, reading.unix_seconds),
        restart_count=given.restart_count,
        skip_reason=skip_reason or lost,
        # Also so that what was set on it before is given back.
        mode=Mode.OFF if excluded else said.mode,
        policy=said.policy,
        priority_class=priority,
        strict=said.strict,
        min_millicores=said.min_millicores,
        max_millicores=said.max_millicores,
        min_acceptable_millicores=said.min_acceptable_millicores,
    )


def _admitted(
    given: pb.ContainerFacts, field: str, check: Check, reading: Reading, ours: SetValues
) -> Remembered:
    """Returns what it was admitted with where its spec no longer says so."""
    if given.HasField("admitted"):
        return Remembered(parse_resources(given.admitted, f"{field}.admitted", check))
    if not (ours.request or ours.limit):
        return Remembered(None)
    admitted, lost = reading.surroundings.remember(reading.node, given, ours)
    if admitted is None:
        return Remembered(None, lost)
    return Remembered(
        CpuResources(
            request_millicores=admitted.request_millicores if ours.request else None,
            limit_millicores=admitted.limit_millicores if ours.limit else None,
        )
    )


def _pending(given: pb.ContainerFacts) -> Pending:
    """Returns what the conditions say; those of an older generation say nothing any more.

    Kubernetes 1.33 does not say which generation they are about.
    """
    found = {
        (condition.type, condition.reason)
        for condition in given.resize_conditions
        if condition.observed_generation >= given.generation or not condition.observed_generation
    }
    if ("PodResizePending", "Infeasible") in found:
        return Pending.INFEASIBLE
    if ("PodResizePending", "Deferred") in found:
        return Pending.DEFERRED
    if ("PodResizeInProgress", "Error") in found:
        return Pending.FAILING
    return Pending.NOTHING


def _check_container(given: pb.ContainerFacts, field: str, check: Check) -> None:
    check.number(f"{field}.handle", given.handle, 1, HANDLE_MAX)
    check.text(f"{field}.pod_uid", given.pod_uid, 1, 128)
    check.text(f"{field}.namespace", given.namespace, 1, 63)
    check.text(f"{field}.pod", given.pod, 1, 253)
    check.text(f"{field}.container", given.container, 1, 253)
    check.text(f"{field}.container_id", given.container_id, 1, 256)
    check.text(f"{field}.owner", given.owner, 0, 512)
    check.text(f"{field}.image_id", given.image_id, 0, 1024)
    check.text(f"{field}.skip_reason", given.skip_reason, 0, 256)
    check.text(f"{field}.priority_class_name", given.priority_class_name, 0, 253)
    check.text(f"{field}.controller", given.controller, 0, 320)
    check.number(f"{field}.generation", given.generation, 0, COUNT_MAX)
    check.number(f"{field}.observed_generation", given.observed_generation, 0, COUNT_MAX)
    check.number(f"{field}.restart_count", given.restart_count, 0, COUNT_MAX)
    if given.qos_class not in pb.QosClass.values():
        check.refuse(f"{field}.qos_class", f"is {given.qos_class}, must be from 0 to 3")
    if len(given.resize_conditions) > CONDITIONS_MAX:
        check.refuse(
            f"{field}.resize_conditions",
            f"has {len(given.resize_conditions)} entries, must have at most {CONDITIONS_MAX}",
        )
    if len(given.annotations) > ANNOTATIONS_MAX:
        check.refuse(
            f"{field}.annotations",
            f"has {len(given.annotations)} entries, must have at most {ANNOTATIONS_MAX}",
        )


def _age_seconds(given: pb.ContainerFacts, unix_seconds: float) -> float | None:
    if not given.HasField("start_time"):
        return None
    started = given.start_time.seconds + given.start_time.nanos / 1e9
    return max(0.0, unix_seconds - started)
