"""CFS bandwidth control of the kernel, as a recursion over periods of 100 ms.

A container has a quota q (CPU time a period), a burst b (unused quota it may carry over, at most
q) and work w waiting. Beside the burst a little runtime h outlives the period, since the quota is
handed to CPUs in slices and an idle CPU keeps 1 ms of its slice. At the start of a period the
runtime is refilled,

    runtime = min(carried + q, q + b + h),

then it runs until its work, its runtime, its threads or the node's CPUs give out:

    wanted = min(w, runtime, threads x period),    served = wanted, or less under contention.

It is *throttled* where its runtime ended with work and threads left. Contention shares the CPUs by
weight: everybody gets min(wanted, weight x level) for the one level at which the CPUs are used up.

Writing a quota refills it at once, so a write grants up to what was used by then; the new quota is
taken to hold from the period's start. A burst is set by a write of its
own, which refills as well. The period timer stops after an
idle period, so `nr_periods` counts periods with work and the one after them. Throttled time is
summed over CPUs.

Worked: q = 30 ms, b = h = 0, w = 50 ms, one thread, no contention: 30 ms are served, 20 ms of work
stay. Had all of it waited, the period is throttled for its last 70 ms; where it arrives during the
period, the 30 ms are used up after 60 ms and it is throttled for 40 ms. With 20 ms carried over and
b = 30 ms: all 50 ms are served, nothing is throttled, and the period counts as a burst.

Arrays have shape (..., n): n containers share a node, any leading axes are independent nodes.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray
from mbcas_loadtest.plant.kernels import (
    KEPT_LEAST_USEC,
    KEPT_PER_REQUEST,
    KEPT_USEC,
    SLICE_USEC,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class PlantState:
    """What outlives a period; counters are cumulative, as the kernel counts them."""

    backlog_usec: FloatArray
    """Work that waits."""
    carried_usec: FloatArray
    """Runtime that was left over, at most the burst and what CPUs keep."""
    was_active: BoolArray
    """Had work in the last period, so the period timer still runs."""
    usage_usec: FloatArray
    nr_periods: FloatArray
    nr_throttled: FloatArray
    throttled_usec: FloatArray
    nr_bursts: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class PlantInput:
    """What happens in one period. All arrays broadcast to the state's shape."""

    arrivals_usec: FloatArray
    """New work. It can all be served in this period, whenever in it it arrives."""
    quota_usec: FloatArray
    """CPU time a period, above 0; infinite where there is no quota."""
    burst_usec: FloatArray
    """At most the quota."""
    quota_written: BoolArray
    """The quota was written in this period, changed or not."""
    threads: FloatArray
    """How many CPUs its work can use at once, at least 1."""
    weight: FloatArray
    """Above 0."""
    kept_usec: FloatArray | float = 0.0
    """Runtime that its CPUs keep beyond the period: `mean_kept_usec`, or 0 for a kernel that hands
    its quota out exactly."""
    write_share: FloatArray | float = 0.5
    """Of the period, over when its quota is written."""


def idle_state(shape: tuple[int, ...]) -> PlantState:
    """Returns the state of containers that never ran."""
    zeros = np.zeros(shape)
    return PlantState(
        backlog_usec=zeros,
        carried_usec=zeros,
        was_active=np.zeros(shape, dtype=np.bool_),
        usage_usec=zeros,
        nr_periods=zeros,
        nr_throttled=zeros,
        throttled_usec=zeros,
        nr_bursts=zeros,
    )


def mean_kept_usec(
    *, quota_usec: FloatArray, threads: FloatArray, request_usec: FloatArray
) -> FloatArray:
    """Returns the runtime that a container's CPUs keep, on average, beyond a period.

    A CPU that is idle at the end of the period keeps up to 1 ms. One that runs keeps its slice, of
    which half is left on average. With more threads, what one of them keeps is not the others'.
    """
    idle = np.minimum(KEPT_LEAST_USEC + KEPT_PER_REQUEST * request_usec, KEPT_USEC)
    busy_share = np.minimum(quota_usec / CPU_PERIOD_USEC, threads)
    alone = idle + np.minimum(busy_share, 1.0) * (SLICE_USEC / 2 - idle)
    kept: FloatArray = np.where(threads > 1, idle * np.minimum(threads, 1 + busy_share), alone)
    return kept


def step(state: PlantState, given: PlantInput, *, cpus: float) -> PlantState:
    """Runs one period of every container; `cpus` is how many CPUs each node has."""
    work = state.backlog_usec + given.arrivals_usec
    limited = np.isfinite(given.quota_usec)
    quota = np.where(limited, given.quota_usec, 0.0)
    spare = given.burst_usec + given.kept_usec
    runnable = np.minimum(work, given.threads * CPU_PERIOD_USEC)
    refilled = np.minimum(state.carried_usec + quota, quota + spare)
    rewritten, reached = rewrite(
        runtime=refilled,
        runnable=runnable,
        there=state.backlog_usec + given.write_share * given.arrivals_usec,
        granted=np.where(given.burst_usec > 0, 2, 1) * quota,
        most=quota + spare,
        width=given.threads * CPU_PERIOD_USEC,
        write_share=given.write_share,
    )
    is_written = given.quota_written & limited
    runnable = np.where(is_written, reached, runnable)
    runtime = np.where(limited, np.where(is_written, rewritten, refilled), np.inf)
    wanted = np.minimum(runnable, runtime)
    served = share_by_weight(wanted, given.weight, capacity=cpus * CPU_PERIOD_USEC)

    # A container that the node's contention held back did not reach the end of its runtime.
    throttled = (runtime < runnable) & (served >= runtime)
    active = work > 0
    lost_usec = lost_time_usec(
        runtime=runtime,
        runnable=runnable,
        left=work - served,
        arrivals=given.arrivals_usec,
        threads=given.threads,
    )
    left = np.where(limited, np.maximum(runtime - served, 0.0), 0.0)
    return PlantState(
        backlog_usec=work - served,
        carried_usec=np.minimum(left, spare),
        was_active=active,
        usage_usec=state.usage_usec + served,
        nr_periods=state.nr_periods + (limited & (active | state.was_active)),
        nr_throttled=state.nr_throttled + throttled,
        throttled_usec=state.throttled_usec + np.where(throttled, lost_usec, 0.0),
        nr_bursts=state.nr_bursts + (limited & (served > quota)),
    )


def rewrite(
    *,
    runtime: FloatArray,
    runnable: FloatArray,
    there: FloatArray,
    granted: FloatArray,
    most: FloatArray,
    width: FloatArray,
    write_share: FloatArray | float,
) -> tuple[FloatArray, FloatArray]:
    """Returns runtime and runnable work of a period in which the quota is written.

    Args:
        runtime: Without the write.
        runnable: Without the write.
        there: Work that has been there by then.
        granted: The quota, once for each write.
        most: What the group can hold.
        width: CPU time of its threads in a period.
        write_share: Of the period, over by then.
    """
    ran = np.minimum(np.minimum(there, runtime), write_share * width)
    # Of the time before the write, what its threads stood still is lost.
    reached = np.minimum(runnable, ran + (1 - write_share) * width)
    return np.minimum(runtime + granted, ran + most), reached


def lost_time_usec(
    *,
    runtime: FloatArray,
    runnable: FloatArray,
    left: FloatArray,
    arrivals: FloatArray,
    threads: FloatArray,
) -> FloatArray:
    """Returns how long each container of a throttled period is throttled, summed over its CPUs.

    Its runtime is used up once its threads have run for it, but not before that much work has
    arrived: arrivals are spread evenly over the period, so what is `left` at its end came last.
    """
    late_share = left / np.maximum(arrivals, 1.0)
    end = np.maximum(runtime / threads, CPU_PERIOD_USEC * (1.0 - late_share))
    width = np.minimum(threads, np.ceil(runnable / CPU_PERIOD_USEC))
    lost: FloatArray = width * np.maximum(CPU_PERIOD_USEC - end, 0.0)
    return lost


def share_by_weight(
    wanted: FloatArray, weight: FloatArray, *, capacity: FloatArray | float
) -> FloatArray:
    """Shares a capacity, which may be (..., 1), among wants (..., n) in proportion to weight.

    Nobody gets more than asked: the shares are min(wanted, weight x level). The level is found by
    sorting the containers by wanted / weight: those before the right place are satisfied, and what
    they leave is split among the weights after it.
    """
    weight = np.broadcast_to(weight, wanted.shape)
    ratio = wanted / weight
    order = np.argsort(ratio, axis=-1, kind="stable")
    sorted_ratio = np.take_along_axis(ratio, order, axis=-1)
    sorted_wanted = np.take_along_axis(wanted, order, axis=-1)
    sorted_weight = np.take_along_axis(weight, order, axis=-1)
    wanted_before = np.cumsum(sorted_wanted, axis=-1) - sorted_wanted
    weight_from = np.cumsum(sorted_weight[..., ::-1], axis=-1)[..., ::-1]
    level_if_first = (capacity - wanted_before) / weight_from
    # The level is the first candidate that its own container does not reach.
    contended = sorted_ratio > level_if_first
    first = np.argmax(contended, axis=-1)[..., np.newaxis]
    level = np.take_along_axis(level_if_first, first, axis=-1)
    shared = np.minimum(wanted, weight * np.maximum(level, 0.0))
    shares: FloatArray = np.where(contended.any(axis=-1, keepdims=True), shared, wanted)
    return shares
