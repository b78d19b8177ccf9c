"""A shim's report, from bytes to the core's types.

Everything a shim sends is checked here, once; counters alone pass unjudged, they are the business
of the core's signals. A report that breaks a rule of `node_link.proto` is refused as a whole, with
a FieldError for each field, but for its samples: those are refused on their own, because facts
must not be lost over a column of the wrong length.
"""

import re
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import (
    COUNTERS,
    MAX_DETAIL_SECONDS,
    ContainerFacts,
    CpuResources,
    Enforcement,
    NodeFacts,
    OrderResult,
    Outcome,
    Pending,
    QosClass,
    Samples,
)
from mbcas_core.units import MAX_MILLICORES, USEC_PER_SECOND
from mbcas_server.annotations import SYSTEM_CLASSES, PriorityBounds, parse_annotations
from mbcas_server.surroundings import Alone, Remembered, Surroundings

HANDLE_MAX = 1_000_000
ENTRIES_MAX = 10_000  # Containers, removals, results, samples of one report.
ANNOTATIONS_MAX = 32
CONDITIONS_MAX = 8  # There are two types of resize condition.
STATUS_MAX = 599  # HTTP's numbers.
REFUSALS_MAX = 1_000  # Annotations left out of one report that are told and counted.
ERRORS_MAX = 20  # Named in one refusal; the rest would only repeat them.
TIME_MAX_USEC = 1 << 62
COUNT_MAX = 1 << 62
RETRY_MAX_SECONDS = 86_400.0
RESTARTS_REASON = "a change of CPU restarts it"
EXCLUDED_REASON = "excluded by annotation"

_DEFAULT_BOUNDS = PriorityBounds()
_ALONE = Alone()
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")
_FAST_KUBELET = (1, 36)  # From here on it looks at a resize at once.
_HANDLE = np.dtype("<i4")
_COUNTER = np.dtype("<i8")
_SLICE = np.dtype("<u2")
_SLICES_BYTES_PER_SECOND = 20  # Ten of two bytes.


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """Which shim process; of one boot, the greater is the newer."""

    boot_id: str
    start_monotonic_usec: int
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParsedReport:
    """One report, checked."""

    node: str
    instance: Instance
    sequence: int
    full_inventory: bool
    node_facts: NodeFacts | None
    containers: tuple[ContainerFacts, ...]
    removed_handles: tuple[int, ...]
    samples: Samples | None
    samples_error: FieldError | None
    """Why the samples were refused."""
    results: tuple[OrderResult, ...]
    slices_dropped: int
    annotation_refusals: tuple[str, ...]
    """One sentence for each annotation that was left out."""


def parse_report(
    message: bytes,
    *,
    unix_seconds: float,
    priorities: PriorityBounds = _DEFAULT_BOUNDS,
    surroundings: Surroundings = _ALONE,
) -> ParsedReport:
    """Parses one report.

    Args:
        message: As it came from the wire.
        unix_seconds: The time of day, to tell how old containers are.
        priorities: How much priority pods may claim.
        surroundings: What the cluster knows beyond the shim.

    Raises:
        InvalidInputError: It is no report, or breaks a rule outside its samples.
    """
    try:
        report = pb.NodeReport.FromString(message)
    except (DecodeError, RecursionError) as error:
        raise InvalidInputError([FieldError("report", f"is no NodeReport: {error}")]) from error
    check = _Check()
    check.text("node_name", report.node_name, 1, 253)
    check.text("instance.boot_id", report.instance.boot_id, 1, 64)
    check.number(
        "instance.start_monotonic_usec", report.instance.start_monotonic_usec, 0, TIME_MAX_USEC
    )
    check.number("sequence", report.sequence, 1, COUNT_MAX)
    facts = _node_facts(report.node_facts, check) if report.HasField("node_facts") else None
    reading = _Reading(
        node=report.node_name,
        unix_seconds=unix_seconds,
        priorities=priorities,
        surroundings=surroundings,
    )
    containers = _containers(report, check, reading) if report.containers else ()
    removed = _removed(report, check) if report.removed_handles else ()
    results = _results(report, check) if report.order_results else ()
    check.number("last_directive_sequence", report.last_directive_sequence, 0, COUNT_MAX)
    check.done()
    samples, samples_error = None, None
    if report.HasField("samples"):
        try:
            samples = parse_samples(report.samples, monotonic_time_usec=report.monotonic_time_usec)
        except FieldError as error:
            samples_error = error
    return ParsedReport(
        node=report.node_name,
        instance=Instance(
            report.instance.boot_id, report.instance.start_monotonic_usec, report.instance.nonce
        ),
        sequence=report.sequence,
        full_inventory=report.full_inventory,
        node_facts=facts,
        containers=containers,
        removed_handles=removed,
        samples=samples,
        samples_error=samples_error,
        results=results,
        slices_dropped=report.samples.slices_dropped if samples is not None else 0,
        annotation_refusals=tuple(reading.refusals),
    )


def parse_samples(samples: pb.Samples, *, monotonic_time_usec: int) -> Samples:
    """Turns columns into arrays, with one copy of the counters.

    Raises:
        FieldError: A column's length, a handle or the time is out of range.
    """
    if not 0 <= monotonic_time_usec <= TIME_MAX_USEC:
        raise FieldError("monotonic_time_usec", f"is {monotonic_time_usec}, must be at least 0")
    if samples.slices_dropped < 0:
        raise FieldError("samples.slices_dropped", "is negative")
    size = len(samples.handles)
    count = size // 4
    if size % 4 or count > ENTRIES_MAX:
        raise FieldError(
            "samples.handles", f"has {size} bytes, must be 4 x n with n at most {ENTRIES_MAX}"
        )
    handles = np.frombuffer(samples.handles, _HANDLE)
    listed = handles.tolist()
    if listed and (min(listed) < 1 or max(listed) > HANDLE_MAX or len(set(listed)) != count):
        raise FieldError("samples.handles", f"must be from 1 to {HANDLE_MAX}, each at most once")
    detail = samples.detail_seconds
    seconds = sum(detail)
    if len(detail) != count or max(detail, default=0) > MAX_DETAIL_SECONDS:
        raise FieldError(
            "samples.detail_seconds",
            f"must be {count} numbers from 0 to {MAX_DETAIL_SECONDS}, is {len(detail)} bytes",
        )
    _expect("slice_millicores", samples.slice_millicores, _SLICES_BYTES_PER_SECOND * seconds)
    _expect("second_throttled", samples.second_throttled, seconds)
    return Samples(
        node_time_seconds=monotonic_time_usec / USEC_PER_SECOND,
        handles=handles,
        counters=np.frombuffer(_joined_counters(samples, count), _COUNTER).reshape(
            len(COUNTERS), count
        ),
        detail_seconds=np.frombuffer(detail, np.uint8),
        slice_millicores=np.frombuffer(samples.slice_millicores, _SLICE),
        second_throttled=np.frombuffer(samples.second_throttled, np.uint8),
    )


def _joined_counters(samples: pb.Samples, count: int) -> bytes:
    columns = [
        samples.usage_usec,
        samples.nr_periods,
        samples.nr_throttled,
        samples.throttled_usec,
        samples.nr_bursts,
        samples.quota_usec,
        samples.period_usec,
        samples.burst_usec,
        samples.pressure_usec or bytes(8 * count),
    ]
    for column, name in zip(columns, COUNTERS, strict=True):
        _expect(name, column, 8 * count)
    return b"".join(columns)


def _expect(name: str, column: bytes, size: int) -> None:
    if len(column) != size:
        raise FieldError(f"samples.{name}", f"has {len(column)} bytes, must have {size}")


class _Check:
    """Collects what is wrong with a message."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def refuse(self, field: str, reason: str) -> None:
        if len(self._errors) < ERRORS_MAX:
            self._errors.append(FieldError(field, reason))

    def text(self, field: str, value: str, low: int, high: int) -> None:
        size = len(value) if value.isascii() else len(value.encode())
        if not low <= size <= high:
            self.refuse(field, f"has {size} bytes, must have {low} to {high}")
        elif not value.isprintable():
            self.refuse(field, "has characters that cannot be printed")

    def number(self, field: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            self.refuse(field, f"is {value}, must be from {low} to {high}")

    def entries(self, field: str, count: int) -> None:
        if count > ENTRIES_MAX:
            self.refuse(field, f"has {count} entries, must have at most {ENTRIES_MAX}")

    def done(self) -> None:
        if self._errors:
            raise InvalidInputError(self._errors)


def _node_facts(facts: pb.NodeFacts, check: _Check) -> NodeFacts:
    allocatable = facts.allocatable_millicores
    # On Kubernetes 0 stands for "ask the Node object".
    least = 0 if facts.enforcement == pb.ENFORCEMENT_RESIZE else 1
    check.number("node_facts.allocatable_millicores", allocatable, least, MAX_MILLICORES)
    check.number("node_facts.unmanaged_millicores", facts.unmanaged_millicores, 0, MAX_MILLICORES)
    check.number("node_facts.cpu_count", facts.cpu_count, 1, MAX_MILLICORES)
    check.number("node_facts.cgroup_version", facts.cgroup_version, 1, 2)
    check.text("node_facts.kubelet_version", facts.kubelet_version, 0, 64)
    check.text("node_facts.cpu_manager_policy", facts.cpu_manager_policy, 0, 64)
    known = facts.enforcement in (*Enforcement,)
    if not known:
        check.refuse("node_facts.enforcement", f"is {facts.enforcement}, must be 1 or 2")
    return NodeFacts(
        allocatable_millicores=allocatable,
        unmanaged_millicores=facts.unmanaged_millicores,
        cpu_count=facts.cpu_count,
        enforcement=Enforcement(facts.enforcement) if known else Enforcement.CGROUP,
        fast_kubelet=_is_fast(facts.kubelet_version),
        burst_writable=facts.burst_writable,
    )


def _is_fast(kubelet_version: str) -> bool:
    match = _VERSION.match(kubelet_version)
    return match is not None and (int(match[1]), int(match[2])) >= _FAST_KUBELET


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reading:
    """What the containers of a report are read with."""

    node: str
    unix_seconds: float
    priorities: PriorityBounds
    surroundings: Surroundings
    refusals: list[str] = field(default_factory=list)
    """One sentence for each annotation that was left out, up to REFUSALS_MAX."""


def _containers(
    report: pb.NodeReport, check: _Check, reading: _Reading
) -> tuple[ContainerFacts, ...]:
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
    given: pb.ContainerFacts, field: str, check: _Check, reading: _Reading
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
    if not skip_reason and given.container in said.excluded:
        skip_reason = EXCLUDED_REASON
    admitted, lost = _admitted(given, field, check, reading)
    return ContainerFacts(
        handle=given.handle,
        pod_uid=given.pod_uid,
        namespace=given.namespace,
        pod=given.pod,
        container=given.container,
        container_id=given.container_id,
        spec=_resources(given.spec, f"{field}.spec", check),
        owner=given.owner,
        image_id=given.image_id,
        allocated=_resources(given.allocated, f"{field}.allocated", check)
        if given.HasField("allocated")
        else None,
        actual=_resources(given.actual, f"{field}.actual", check)
        if given.HasField("actual")
        else None,
        admitted=admitted,
        request_set=given.request_set_by_mbcas,
        limit_set=given.limit_set_by_mbcas,
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
        mode=said.mode,
        policy=said.policy,
        priority_class=priority,
        strict=said.strict,
        min_millicores=said.min_millicores,
        max_millicores=said.max_millicores,
        min_acceptable_millicores=said.min_acceptable_millicores,
    )


def _admitted(given: pb.ContainerFacts, field: str, check: _Check, reading: _Reading) -> Remembered:
    """Returns what it was admitted with where its spec no longer says so."""
    if given.HasField("admitted"):
        return Remembered(_resources(given.admitted, f"{field}.admitted", check))
    if not (given.request_set_by_mbcas or given.limit_set_by_mbcas):
        return Remembered(None)
    admitted, lost = reading.surroundings.remember(reading.node, given)
    if admitted is None:
        return Remembered(None, lost)
    request_set, limit_set = given.request_set_by_mbcas, given.limit_set_by_mbcas
    return Remembered(
        CpuResources(
            request_millicores=admitted.request_millicores if request_set else None,
            limit_millicores=admitted.limit_millicores if limit_set else None,
        )
    )


def _pending(given: pb.ContainerFacts) -> Pending:
    """Returns what the conditions say; those of an older generation say nothing any more."""
    found = {
        (condition.type, condition.reason)
        for condition in given.resize_conditions
        if condition.observed_generation >= given.generation
    }
    if ("PodResizePending", "Infeasible") in found:
        return Pending.INFEASIBLE
    if ("PodResizePending", "Deferred") in found:
        return Pending.DEFERRED
    if ("PodResizeInProgress", "Error") in found:
        return Pending.FAILING
    return Pending.NOTHING


def _check_container(given: pb.ContainerFacts, field: str, check: _Check) -> None:
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


def _resources(given: pb.CpuResources, field: str, check: _Check) -> CpuResources:
    request = given.request_millicores if given.HasField("request_millicores") else None
    limit = given.limit_millicores if given.HasField("limit_millicores") else None
    if request is not None:
        check.number(f"{field}.request_millicores", request, 0, MAX_MILLICORES)
    if limit is not None:
        check.number(f"{field}.limit_millicores", limit, 1, MAX_MILLICORES)
    return CpuResources(request_millicores=request, limit_millicores=limit)


def _age_seconds(given: pb.ContainerFacts, unix_seconds: float) -> float | None:
    if not given.HasField("start_time"):
        return None
    started = given.start_time.seconds + given.start_time.nanos / 1e9
    return max(0.0, unix_seconds - started)


def _removed(report: pb.NodeReport, check: _Check) -> tuple[int, ...]:
    check.entries("removed_handles", len(report.removed_handles))
    check.done()
    for index, handle in enumerate(report.removed_handles):
        check.number(f"removed_handles[{index}]", handle, 1, HANDLE_MAX)
    return tuple(dict.fromkeys(report.removed_handles))


def _results(report: pb.NodeReport, check: _Check) -> tuple[OrderResult, ...]:
    check.entries("order_results", len(report.order_results))
    check.done()
    results = []
    for index, given in enumerate(report.order_results):
        field = f"order_results[{index}]"
        check.number(f"{field}.order_id", given.order_id, 1, COUNT_MAX)
        check.text(f"{field}.cause", given.cause, 0, 256)
        check.text(f"{field}.field", given.field, 0, 256)
        check.number(f"{field}.status", given.status, 0, STATUS_MAX)
        check.number(f"{field}.generation", given.generation, 0, COUNT_MAX)
        known = given.outcome in (*Outcome,)
        if not known:
            check.refuse(f"{field}.outcome", f"is {given.outcome}, must be from 1 to 6")
        results.append(
            OrderResult(
                order_id=given.order_id,
                outcome=Outcome(given.outcome) if known else Outcome.FAILED,
                status=given.status,
                cause=given.cause,
                field=given.field,
                retry_after_seconds=_retry_after_seconds(given),
                generation=given.generation,
                actual=_resources(given.actual, f"{field}.actual", check)
                if given.HasField("actual")
                else None,
            )
        )
    return tuple(results)


def _retry_after_seconds(given: pb.OrderResult) -> float | None:
    if not given.HasField("retry_after"):
        return None
    seconds = given.retry_after.seconds + given.retry_after.nanos / 1e9
    return min(max(seconds, 0.0), RETRY_MAX_SECONDS)
