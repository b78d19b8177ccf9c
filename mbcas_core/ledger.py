"""What was sent, what the kubelet admitted, what the kernel enforces.

Capacity is billed by the largest of the three, and every decision starts from what is *applied*. An
order in flight may still be carried out, so it counts as *desired* from the moment it is sent until
its end is known: applied or refused. An order that failed, was not answered or is void may have
been carried out or not: what it asked for is *in doubt* and stays billed until an inventory or a
later order's success says what is there.

On Kubernetes an order that was applied is no more than a changed spec: the kubelet admits it later
and says so with the facts, and samples tell what the kernel enforces sooner than the pod's status
does. So there `allocated` comes from facts alone, and the applied limit from samples.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import CpuResources, OrderResult, Outcome
from mbcas_core.table import Table, column
from mbcas_core.units import MIN_CEILING_MILLICORES, BoolArray, FloatArray, IntArray

IN_FLIGHT = -1
NEVER = 0
BACKOFF_MAX_SECONDS = 600.0


class LedgerTable(Table):
    """Three pairs of numbers per row, and the order that is on its way."""

    desired_request: IntArray = column()
    desired_limit: IntArray = column()
    allocated_request: IntArray = column()
    allocated_limit: IntArray = column()
    applied_request: IntArray = column()
    applied_limit: IntArray = column()
    doubt_request: IntArray = column()
    """The most that orders of unknown end may have set; 0 where there is none."""
    doubt_limit: IntArray = column()
    order_id: IntArray = column()
    """The last order's id, 0 before the first."""
    outcome: NDArray[np.int8] = column(np.int8)
    """IN_FLIGHT, NEVER or an `Outcome`."""
    order_time: FloatArray = column(np.float64, fill=-np.inf)
    awaited: BoolArray = column(np.bool_, fill=False)
    """The last order's effect on the kernel has not been seen yet."""
    told: BoolArray = column(np.bool_, fill=False)
    """The shim has said since the last tick what is enforced; samples may be older than that."""
    lag: FloatArray = column(np.float64, fill=np.nan)
    arrived: BoolArray = column(np.bool_, fill=False)
    """`lag` was measured since it was last looked at."""
    before_request: IntArray = column()
    """What the spec said before the last order."""
    before_limit: IntArray = column()
    status_awaited: BoolArray = column(np.bool_, fill=False)
    """The pod's status has not shown the last order's effect yet."""
    status_lag: FloatArray = column(np.float64, fill=np.nan)
    changed_time: FloatArray = column(np.float64, fill=-np.inf)
    """When something applied last changed."""
    cut_time: FloatArray = column(np.float64, fill=-np.inf)
    """When the ceiling was last cut, and what it was before."""
    cut_from: IntArray = column()
    failures: IntArray = column()
    rest_until: FloatArray = column(np.float64, fill=-np.inf)
    foreign_until: FloatArray = column(np.float64, fill=-np.inf)


def billed_request(table: LedgerTable, rows: IntArray) -> IntArray:
    """What counts as taken of the node's reservations."""
    return np.maximum(
        np.maximum(table.desired_request[rows], table.allocated_request[rows]),
        np.maximum(table.applied_request[rows], table.doubt_request[rows]),
    )


def billed_limit(table: LedgerTable, rows: IntArray) -> IntArray:
    """What counts as taken of the node's ceilings (rows without a limit: meaningless)."""
    return np.maximum(
        np.maximum(table.desired_limit[rows], table.allocated_limit[rows]),
        np.maximum(table.applied_limit[rows], table.doubt_limit[rows]),
    )


def adopt(
    table: LedgerTable,
    row: int,
    *,
    spec: CpuResources,
    allocated: CpuResources,
    actual: CpuResources,
    now_seconds: float | None,
) -> None:
    """Starts from what is there, and desired is what the spec says.

    An order in flight was sent after the shim looked or before: it stays what is desired.

    Args:
        table: Changed.
        row: Which row.
        spec: What its spec says.
        allocated: What the kubelet admitted; where nothing is said, the spec.
        actual: What is enforced; where nothing is said, the spec.
        now_seconds: The server's clock; None for the first look at a row, where nothing changed.
    """
    request, limit = spec.request_millicores or 0, spec.limit_millicores or 0
    if table.outcome[row] != IN_FLIGHT:
        # What the spec says as desired, the kernel may not have yet.
        table.awaited[row] &= table.desired_limit[row] == limit
        table.desired_request[row], table.desired_limit[row] = request, limit
    table.doubt_request[row] = table.doubt_limit[row] = 0
    allocated_request, allocated_limit = allocated.request_millicores, allocated.limit_millicores
    table.allocated_request[row] = request if allocated_request is None else allocated_request
    table.allocated_limit[row] = limit if allocated_limit is None else allocated_limit
    actual_request, actual_limit = actual.request_millicores, actual.limit_millicores
    applied_request = request if actual_request is None else actual_request
    applied_limit = limit if actual_limit is None else actual_limit
    if now_seconds is not None:
        _note_change(table, row, applied_request, applied_limit, now_seconds)
    table.applied_request[row], table.applied_limit[row] = applied_request, applied_limit
    table.told[row] |= actual_limit is not None


def adopt_status(
    table: LedgerTable,
    row: int,
    *,
    spec: CpuResources,
    allocated: CpuResources,
    actual: CpuResources,
    pending: bool,
    measured: bool,
    now_seconds: float,
) -> None:
    """Does the same with what Kubernetes says of a container.

    Args:
        table: Changed.
        row: Which row.
        spec: What its spec says.
        allocated: What the kubelet admitted; it tells requests alone.
        actual: What the status says is enforced; it follows the kernel by up to some seconds.
        pending: True where the spec is not admitted, and so the limit is what is enforced.
        measured: True where samples tell the limit in force.
        now_seconds: The server's clock.
    """
    limit = (
        spec.limit_millicores if allocated.limit_millicores is None else allocated.limit_millicores
    )
    request = allocated.request_millicores
    if pending:
        limit = limit if actual.limit_millicores is None else actual.limit_millicores
        request = actual.request_millicores if request is None else request
    enforced = actual.limit_millicores
    if measured:
        enforced = int(table.applied_limit[row])
    elif enforced is not None:
        enforced = max(enforced, MIN_CEILING_MILLICORES)
    shown = replace(actual, limit_millicores=enforced)
    told = bool(table.told[row])
    adopt(
        table,
        row,
        spec=spec,
        allocated=CpuResources(request_millicores=request, limit_millicores=limit),
        actual=shown,
        now_seconds=now_seconds,
    )
    table.told[row] = told
    if table.outcome[row] == IN_FLIGHT:  # Until a cut is carried out, the spec is what counts.
        keep_billed(
            table,
            np.array([row]),
            request=np.array([spec.request_millicores or 0]),
            limit=np.array([spec.limit_millicores or 0]),
        )
    if table.status_awaited[row] and _shows(table, row, actual):
        table.status_lag[row] = now_seconds - table.order_time[row]
        table.status_awaited[row] = False


def _shows(table: LedgerTable, row: int, actual: CpuResources) -> bool:
    """True where a status shows what is desired."""
    request, limit = actual.request_millicores, actual.limit_millicores
    return (request is not None or limit is not None) and (
        (request is None or request == table.desired_request[row])
        and (limit is None or limit == table.desired_limit[row])
    )


def is_foreign(table: LedgerTable, row: int, spec: CpuResources) -> bool:
    """True where a spec is neither what was ordered or may have been, nor what was before."""
    for value, desired, allocated, doubt in (
        (
            spec.request_millicores,
            table.desired_request,
            table.allocated_request,
            table.doubt_request,
        ),
        (spec.limit_millicores, table.desired_limit, table.allocated_limit, table.doubt_limit),
    ):
        known = {int(desired[row]), int(allocated[row])}
        if doubt[row] > 0:
            known.add(int(doubt[row]))
        if (value or 0) not in known:
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a spec may say of one number by our doing, on Kubernetes."""

    possible: frozenset[int]
    """What it was last known to say, and where the end of an order is not known, any of before."""
    changed: frozenset[int]
    """What orders since then may have changed it to."""


def sent_request(table: LedgerTable, row: int) -> Sent:
    """What a row's request may be by our doing."""
    return _sent(
        table,
        row,
        desired=int(table.desired_request[row]),
        before=int(table.before_request[row]),
        allocated=int(table.allocated_request[row]),
        doubt=int(table.doubt_request[row]),
    )


def sent_limit(table: LedgerTable, row: int) -> Sent:
    """What a row's limit may be by our doing."""
    return _sent(
        table,
        row,
        desired=int(table.desired_limit[row]),
        before=int(table.before_limit[row]),
        allocated=int(table.allocated_limit[row]),
        doubt=int(table.doubt_limit[row]),
    )


def _sent(
    table: LedgerTable, row: int, *, desired: int, before: int, allocated: int, doubt: int
) -> Sent:
    # A number that the last order left alone is not one that it set.
    changed = {number for number in (desired, doubt) if number not in (0, before)}
    possible = {desired}
    if table.outcome[row] == IN_FLIGHT or doubt > 0:
        possible |= {before, allocated, doubt}
    return Sent(possible=frozenset(possible), changed=frozenset(changed))


def send(
    table: LedgerTable,
    rows: IntArray,
    *,
    order_ids: IntArray,
    request: IntArray,
    limit: IntArray,
    now_seconds: float,
) -> None:
    """Notes that these values are on their way."""
    table.before_request[rows] = table.desired_request[rows]
    table.before_limit[rows] = table.desired_limit[rows]
    table.status_awaited[rows] = True
    table.desired_request[rows] = request
    table.desired_limit[rows] = limit
    table.order_id[rows] = order_ids
    table.outcome[rows] = IN_FLIGHT
    table.order_time[rows] = now_seconds
    table.awaited[rows] = True


def settle(
    table: LedgerTable, row: int, result: OrderResult, *, now_seconds: float, backoff_seconds: float
) -> None:
    """Takes in how a row's order ended."""
    table.outcome[row] = int(result.outcome)
    actual = result.actual or CpuResources()
    if result.outcome in (Outcome.APPLIED, Outcome.UNCHANGED):
        table.failures[row] = 0
        table.doubt_request[row] = table.doubt_limit[row] = 0
        table.allocated_request[row] = table.desired_request[row]
        table.allocated_limit[row] = table.desired_limit[row]
        _set_applied(table, row, actual, now_seconds)
        return
    table.awaited[row] = False
    if result.outcome == Outcome.FAILED:
        _doubt(table, np.array([row]))
    else:
        table.desired_request[row] = table.allocated_request[row]
        table.desired_limit[row] = table.allocated_limit[row]
        _set_applied(table, row, actual, now_seconds)
    if result.outcome in (Outcome.REFUSED, Outcome.FAILED):
        asked = min(result.retry_after_seconds or 0.0, BACKOFF_MAX_SECONDS)
        _rest(table, row, now_seconds, max(_wait(table, row, backoff_seconds), asked))


def settle_patch(
    table: LedgerTable, row: int, outcome: Outcome, *, now_seconds: float, rest_seconds: float
) -> None:
    """Takes in how the patch of a pod ended, on Kubernetes.

    Args:
        table: Changed.
        row: Which row.
        outcome: Applied means that the spec says so now, and no more.
        now_seconds: The server's clock.
        rest_seconds: The least time the row rests, doubled each time; 0 for none.
    """
    table.outcome[row] = int(outcome)
    if outcome in (Outcome.APPLIED, Outcome.UNCHANGED):
        table.failures[row] = 0
        table.doubt_request[row] = table.doubt_limit[row] = 0
        return
    table.awaited[row] = table.status_awaited[row] = False
    if outcome == Outcome.FAILED:
        _doubt(table, np.array([row]))
    else:
        table.desired_request[row] = table.before_request[row]
        table.desired_limit[row] = table.before_limit[row]
    if rest_seconds > 0:
        _rest(table, row, now_seconds, _wait(table, row, rest_seconds))


def _wait(table: LedgerTable, row: int, backoff_seconds: float) -> float:
    return back_off(int(table.failures[row]), backoff_seconds)


def _rest(table: LedgerTable, row: int, now: float, wait: float) -> None:
    table.failures[row] += 1
    table.rest_until[row] = now + wait


def back_off(failures: int, seconds: float) -> float:
    """How long to rest after so many failures in a row."""
    return min(seconds * 2.0 ** min(failures, 16), BACKOFF_MAX_SECONDS)


def _set_applied(table: LedgerTable, row: int, actual: CpuResources, now_seconds: float) -> None:
    if actual.request_millicores is not None:
        if actual.request_millicores != table.applied_request[row]:
            table.changed_time[row] = now_seconds
        table.applied_request[row] = actual.request_millicores
    if actual.limit_millicores is not None:
        one = np.array([row])
        table.told[row] = True
        observe_limit(
            table, one, np.array([float(actual.limit_millicores)]), now_seconds=now_seconds
        )
    elif table.awaited[row] and actual.request_millicores is not None:
        _arrived(table, np.array([row]), now_seconds)


def _note_change(
    table: LedgerTable, row: int, request: int, limit: int, now_seconds: float
) -> None:
    before = int(table.applied_limit[row])
    if limit < before:
        table.cut_time[row], table.cut_from[row] = now_seconds, before
    if limit != before or request != table.applied_request[row]:
        table.changed_time[row] = now_seconds


def observe_samples(
    table: LedgerTable, rows: IntArray, limit: FloatArray, *, now_seconds: float
) -> None:
    """Takes in, once a tick, the quotas that came with samples.

    A sample may have been read before an order was carried out and be judged after its result.
    """
    newer = ~table.told[rows]
    observe_limit(table, rows[newer], limit[newer], now_seconds=now_seconds)
    table.told[:] = False


def observe_limit(
    table: LedgerTable, rows: IntArray, limit: FloatArray, *, now_seconds: float
) -> None:
    """Takes in the quotas that the kernel enforces, as millicores; NaN where there is none."""
    known = ~np.isnan(limit)
    rows = rows[known]
    seen = np.rint(limit[known]).astype(np.int64)
    before = table.applied_limit[rows]
    changed = seen != before
    cut = rows[seen < before]
    table.cut_time[cut] = now_seconds
    table.cut_from[cut] = before[seen < before]
    table.changed_time[rows[changed]] = now_seconds
    table.applied_limit[rows] = seen
    there = table.awaited[rows] & (
        seen == np.maximum(table.desired_limit[rows], MIN_CEILING_MILLICORES)
    )
    _arrived(table, rows[there], now_seconds)


def _arrived(table: LedgerTable, rows: IntArray, now_seconds: float) -> None:
    table.lag[rows] = now_seconds - table.order_time[rows]
    table.arrived[rows] = True
    table.awaited[rows] = False


def in_flight(table: LedgerTable, rows: IntArray) -> BoolArray:
    """True where an order has been sent and its end is not known."""
    waiting: BoolArray = table.outcome[rows] == IN_FLIGHT
    return waiting


def void(table: LedgerTable, rows: IntArray) -> None:
    """Gives up the orders of these rows, whose end will not be known."""
    rows = rows[in_flight(table, rows)]
    _doubt(table, rows)
    table.outcome[rows] = int(Outcome.FAILED)
    table.awaited[rows] = False


def _doubt(table: LedgerTable, rows: IntArray) -> None:
    """Keeps billed what the orders of these rows asked for."""
    keep_billed(table, rows, request=table.desired_request[rows], limit=table.desired_limit[rows])


def keep_billed(table: LedgerTable, rows: IntArray, *, request: IntArray, limit: IntArray) -> None:
    """Bills these rows with at least so much until more is known."""
    table.doubt_request[rows] = np.maximum(table.doubt_request[rows], request)
    table.doubt_limit[rows] = np.maximum(table.doubt_limit[rows], limit)
