"""CFS bandwidth control of the kernel, as a recursion over periods of 100 ms.

A container has a quota q (CPU time a period), a burst b (unused quota it may carry over, at most
q) and work w waiting. At the start of a period its runtime is refilled,

    runtime = min(carried + q, q + b),

then it runs until its work, its runtime, its threads or the node's CPUs give out:

    wanted = min(w, runtime, threads x period),    served = wanted, or less under contention.

It is *throttled* where its runtime ended with work and threads left. Contention shares the CPUs by
weight: everybody gets min(wanted, weight x level) for the one level at which the CPUs are used up.

What the kernel does beyond this (evaluation.md, section 3): writing a quota refills it at once, so
a write grants up to one extra quota; the period timer stops after an idle period, so `nr_periods`
counts periods with work and the one after them; throttled time is summed over CPUs. Not modelled:
slices of 5 ms, of which up to 1 ms a CPU outlives its period.

Worked: q = 30 ms, b = 0, w = 50 ms, one thread, no contention: 30 ms are served, the period is
throttled for its last 70 ms, 20 ms of work stay. With 20 ms carried over and b = 30 ms: all 50 ms
are served, nothing is throttled, and the period counts as a burst.

Arrays have shape (..., n): n containers share a node, any leading axes are independent nodes.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class PlantState:
    """What outlives a period; counters are cumulative, as the kernel counts them."""

    backlog_usec: FloatArray
    """Work that waits."""
    carried_usec: FloatArray
    """Runtime that was left over, at most the burst."""
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
    """New work, taken to be there from the period's start."""
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


def step(state: PlantState, given: PlantInput, *, cpus: float) -> PlantState:
    """Runs one period of every container; `cpus` is how many CPUs each node has."""
    work = state.backlog_usec + given.arrivals_usec
    limited = np.isfinite(given.quota_usec)
    quota = np.where(limited, given.quota_usec, 0.0)
    refilled = np.minimum(state.carried_usec + quota, quota + given.burst_usec)
    runtime = np.where(limited, refilled + np.where(given.quota_written, quota, 0.0), np.inf)
    runnable = np.minimum(work, given.threads * CPU_PERIOD_USEC)
    wanted = np.minimum(runnable, runtime)
    served = share_by_weight(wanted, given.weight, capacity=cpus * CPU_PERIOD_USEC)

    # A container that the node's contention held back did not reach the end of its runtime.
    throttled = (runtime < runnable) & (served >= runtime)
    active = work > 0
    width = np.minimum(given.threads, np.ceil(runnable / CPU_PERIOD_USEC))
    lost_usec = np.where(throttled, np.maximum(width * CPU_PERIOD_USEC - served, 0.0), 0.0)
    left = np.where(limited, np.maximum(runtime - served, 0.0), 0.0)
    return PlantState(
        backlog_usec=work - served,
        carried_usec=np.minimum(left, given.burst_usec),
        was_active=active,
        usage_usec=state.usage_usec + served,
        nr_periods=state.nr_periods + (limited & (active | state.was_active)),
        nr_throttled=state.nr_throttled + throttled,
        throttled_usec=state.throttled_usec + lost_usec,
        nr_bursts=state.nr_bursts + (limited & (served > quota)),
    )


def share_by_weight(wanted: FloatArray, weight: FloatArray, *, capacity: float) -> FloatArray:
    """Shares a capacity among wants (..., n) in proportion to weight; nobody gets more than asked.

    The shares are min(wanted, weight x level). The level is found by sorting the containers by
    wanted / weight: those before the right place are satisfied, and what they leave is split among
    the weights after it.
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
