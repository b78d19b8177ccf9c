"""A shim's report, from bytes to the core's types.

Everything a shim sends is checked here, once; counters alone pass unjudged, they are the business
of the core's signals. A report that breaks a rule of `node_link.proto` is refused as a whole, with
a FieldError for each field, but for its samples: those are refused on their own, because facts
must not be lost over a column of the wrong length.
"""

import re
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.errors import FieldError, InvalidInputError
from mbcas_core.events import (
    COUNTERS,
    MAX_DETAIL_SECONDS,
    ContainerFacts,
    Enforcement,
    NodeFacts,
    OrderResult,
    Outcome,
    Samples,
)
from mbcas_core.units import MAX_MILLICORES, USEC_PER_SECOND
from mbcas_server.annotations import PriorityBounds
from mbcas_server.checks import COUNT_MAX, ENTRIES_MAX, HANDLE_MAX, Check, parse_resources
from mbcas_server.convert_containers import Reading, parse_containers
from mbcas_server.surroundings import Alone, Surroundings

STATUS_MAX = 599  # HTTP's numbers.
MESSAGE_MAX_BYTES = 800  # 200 characters.
TIME_MAX_USEC = 1 << 62
RETRY_MAX_SECONDS = 86_400.0

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
    report = _decode(message)
    check = Check()
    check.text("node_name", report.node_name, 1, 253)
    check.text("instance.boot_id", report.instance.boot_id, 1, 64)
    check.number(
        "instance.start_monotonic_usec", report.instance.start_monotonic_usec, 0, TIME_MAX_USEC
    )
    check.number("sequence", report.sequence, 1, COUNT_MAX)
    facts = _node_facts(report.node_facts, check) if report.HasField("node_facts") else None
    reading = Reading(
        node=report.node_name,
        unix_seconds=unix_seconds,
        priorities=priorities,
        surroundings=surroundings,
    )
    containers = parse_containers(report, check, reading) if report.containers else ()
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


def read_node_name(message: bytes) -> str:
    """Returns whom a report is about, and looks at nothing else of it.

    Raises:
        InvalidInputError: It is no report.
    """
    return _decode(message).node_name


def _decode(message: bytes) -> pb.NodeReport:
    try:
        return pb.NodeReport.FromString(message)
    except (DecodeError, RecursionError) as error:
        raise InvalidInputError([FieldError("report", f"is no NodeReport: {error}")]) from error


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


def _node_facts(facts: pb.NodeFacts, check: Check) -> NodeFacts:
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


def _removed(report: pb.NodeReport, check: Check) -> tuple[int, ...]:
    check.entries("removed_handles", len(report.removed_handles))
    check.done()
    for index, handle in enumerate(report.removed_handles):
        check.number(f"removed_handles[{index}]", handle, 1, HANDLE_MAX)
    return tuple(dict.fromkeys(report.removed_handles))


def _results(report: pb.NodeReport, check: Check) -> tuple[OrderResult, ...]:
    check.entries("order_results", len(report.order_results))
    check.done()
    results = []
    for index, given in enumerate(report.order_results):
        field = f"order_results[{index}]"
        check.number(f"{field}.order_id", given.order_id, 1, COUNT_MAX)
        check.text(f"{field}.cause", given.cause, 0, 256)
        check.text(f"{field}.field", given.field, 0, 256)
        check.text(f"{field}.message", given.message, 0, MESSAGE_MAX_BYTES)
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
                actual=parse_resources(given.actual, f"{field}.actual", check)
                if given.HasField("actual")
                else None,
                message=given.message,
            )
        )
    return tuple(results)


def _retry_after_seconds(given: pb.OrderResult) -> float | None:
    if not given.HasField("retry_after"):
        return None
    seconds = given.retry_after.seconds + given.retry_after.nanos / 1e9
    return min(max(seconds, 0.0), RETRY_MAX_SECONDS)
