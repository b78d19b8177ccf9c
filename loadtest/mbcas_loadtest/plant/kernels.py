"""The plant's inner loop: what is done once for each period of each container.

`recursion.step` says the same with arrays, and tests hold the two together.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.compiled import compiled

KEPT_USEC = 1000.0
"""Of its slice an idle CPU keeps at most this: min_cfs_rq_runtime in the kernel's sched/fair.c."""
KEPT_LEAST_USEC, KEPT_PER_REQUEST = 350.0, 0.25
"""What it keeps on average at the end of a period: the longer the requests, the more often they end
on a fresh slice. Fitted to `requests.serve_requests`, which knows each CPU's share."""
SLICE_USEC = 5000.0
"""The kernel's default of kernel.sched_cfs_bandwidth_slice_us."""
_PERIOD_USEC = float(CPU_PERIOD_USEC)
AnyArray = NDArray[np.generic]


class Pods(NamedTuple):
    """Containers of m nodes; (m, n) each unless said otherwise."""

    threads: FloatArray
    request_usec: FloatArray
    max_backlog_usec: FloatArray
    late_share: FloatArray
    """Of a period's work, what counts as arriving in the next one."""
    pod: IntArray
    """(n,) number of each container's pod."""
    capacity_usec: float
    """CPU time of a node in a period."""


class State(NamedTuple):
    """What outlives a period, in place; (m, n) each unless said otherwise."""

    weight: FloatArray
    backlog_usec: FloatArray
    late_usec: FloatArray
    carried_usec: FloatArray
    was_active: BoolArray
    pod_carried_usec: FloatArray
    """(m, pods)."""


class Told(NamedTuple):
    """What is set in each of k periods; the first axis may be 1 where it is the same in all."""

    quota_usec: FloatArray
    burst_usec: FloatArray
    written: BoolArray
    pod_quota_usec: FloatArray
    """(., m, pods), inf where there is none."""
    pod_burst_usec: FloatArray
    write_share: FloatArray
    """(k,)."""


class Periods(NamedTuple):
    """What k periods did, (k, m, n) each."""

    admitted_usec: FloatArray
    """Work that arrived and can be done by then: what a closed loop did not send is not in it."""
    usage_usec: FloatArray
    throttled: BoolArray
    """By its own quota: the kernel does not count a child that its pod's quota held back."""
    throttled_usec: FloatArray
    """Summed over the CPUs that it would have used: may exceed the period."""
    timer_ran: BoolArray
    """The periods that the kernel counts in nr_periods."""
    bursts: BoolArray
    """The periods that the kernel counts in nr_bursts."""
    backlog_usec: FloatArray
    """At the end of each period."""


class Work(NamedTuple):
    """Room for one period, (m, n) each unless said otherwise."""

    came: FloatArray
    quota: FloatArray
    spare: FloatArray
    """What may be carried over."""
    runtime: FloatArray
    runnable: FloatArray
    served: FloatArray
    member: BoolArray
    """(n,), and the same of the next."""
    open: BoolArray
    pod_runtime: FloatArray
    """(pods,)."""


@compiled
def row(told: AnyArray, i: int) -> int:
    """Returns where a period's values are: there may be one row for all."""
    return int(min(i, told.shape[0] - 1))


@compiled
def kept_usec(quota_usec: float, threads: float, request_usec: float) -> float:
    """Returns what a container's CPUs keep beyond a period: `recursion.mean_kept_usec`."""
    idle = min(KEPT_LEAST_USEC + KEPT_PER_REQUEST * request_usec, KEPT_USEC)
    busy_share = min(quota_usec / _PERIOD_USEC, threads)
    if threads > 1:
        return idle * min(threads, 1 + busy_share)
    return idle + min(busy_share, 1.0) * (SLICE_USEC / 2 - idle)


@compiled
def lost_usec(
    runtime_usec: float, runnable_usec: float, left_usec: float, arrived_usec: float, threads: float
) -> float:
    """Returns how long a throttled container is: `recursion.lost_time_usec`."""
    late_share = left_usec / max(arrived_usec, 1.0)
    end = max(runtime_usec / threads, _PERIOD_USEC * (1.0 - late_share))
    width = min(threads, np.ceil(runnable_usec / _PERIOD_USEC))
    return float(width * max(_PERIOD_USEC - end, 0.0))


@compiled
def share(
    wanted: FloatArray, weight: FloatArray, member: BoolArray, capacity: float, open_: BoolArray
) -> None:
    """Cuts what the members want, in place, to a capacity that they share by weight.

    Who wants no more than their part gets it, and what they leave is the others'. `open_` is room
    to work in.
    """
    left, weights = capacity, 0.0
    for i in range(wanted.size):
        open_[i] = member[i]
        if member[i]:
            weights += weight[i]
    satisfied = True
    while satisfied and weights > 0:
        satisfied = False
        level = max(left, 0.0) / weights
        for i in range(wanted.size):
            if open_[i] and wanted[i] <= weight[i] * level:
                open_[i], satisfied = False, True
                left -= wanted[i]
                weights -= weight[i]
    level = max(left, 0.0) / weights if weights > 0 else 0.0
    for i in range(wanted.size):
        if open_[i]:
            wanted[i] = min(wanted[i], weight[i] * level)


@compiled
def hold(pod: IntArray, work: Work, served: FloatArray, threads: FloatArray) -> None:
    """Cuts what the containers of a node get to the runtime of their pods, in place.

    Where children want more than their pod has, they run side by side until it is used up, each at
    the rate of its threads.
    """
    for p in range(work.pod_runtime.size):
        asked = 0.0
        for c in range(pod.size):
            work.member[c] = pod[c] == p
            if work.member[c]:
                asked += served[c]
        if asked > work.pod_runtime[p]:
            share(served, threads, work.member, work.pod_runtime[p], work.open)


@compiled
def rewrite(
    runtime_usec: float,
    runnable_usec: float,
    there_usec: float,
    granted_usec: float,
    most_usec: float,
    width_usec: float,
    moment: float,
) -> tuple[float, float]:
    """Returns runtime and runnable work where the quota is written: `recursion.rewrite`."""
    ran = min(there_usec, runtime_usec, moment * width_usec)
    reached = min(runnable_usec, ran + (1 - moment) * width_usec)
    return min(runtime_usec + granted_usec, ran + most_usec), reached


@compiled
def begin(
    pods: Pods, state: State, told: Told, arrivals_usec: FloatArray, i: int, work: Work
) -> None:
    """Finds what containers have and can do in a period."""
    moment = told.write_share[i]
    of_quota, of_burst = row(told.quota_usec, i), row(told.burst_usec, i)
    of_written = row(told.written, i)
    for node in range(work.came.shape[0]):
        for c in range(work.came.shape[1]):
            # What is in service at the period's end counts for the next one.
            late = arrivals_usec[i, node, c] * pods.late_share[node, c]
            came = arrivals_usec[i, node, c] - late + state.late_usec[node, c]
            state.late_usec[node, c] = late
            threads = pods.threads[node, c]
            width = threads * _PERIOD_USEC
            all_work = state.backlog_usec[node, c] + came
            quota = told.quota_usec[of_quota, node, c]
            spare, runtime, runnable = 0.0, np.inf, min(all_work, width)
            if np.isfinite(quota):
                burst = told.burst_usec[of_burst, node, c]
                spare = burst + kept_usec(quota, threads, pods.request_usec[node, c])
                most = quota + spare
                runtime = min(state.carried_usec[node, c] + quota, most)
                if told.written[of_written, node, c]:
                    there = all_work - (1 - moment) * came
                    granted = 2 * quota if burst > 0 else quota
                    runtime, runnable = rewrite(
                        runtime, runnable, there, granted, most, width, moment
                    )
            work.came[node, c], work.quota[node, c], work.spare[node, c] = came, quota, spare
            work.runtime[node, c], work.runnable[node, c] = runtime, runnable
            work.served[node, c] = min(runnable, runtime)


@compiled
def divide(pods: Pods, state: State, told: Told, i: int, work: Work) -> None:
    """Cuts what containers get to what their pods and their nodes have."""
    has_pods = told.pod_quota_usec.shape[0] > 0
    of_quota, of_burst = row(told.pod_quota_usec, i), row(told.pod_burst_usec, i)
    for node in range(work.served.shape[0]):
        served = work.served[node]
        if has_pods:
            for p in range(work.pod_runtime.size):
                quota = told.pod_quota_usec[of_quota, node, p]
                burst = told.pod_burst_usec[of_burst, node, p]
                work.pod_runtime[p] = min(state.pod_carried_usec[node, p] + quota, quota + burst)
            hold(pods.pod, work, served, pods.threads[node])
        total = 0.0
        for c in range(served.size):
            total += served[c]
        if total > pods.capacity_usec:
            work.member[:] = True
            share(served, state.weight[node], work.member, pods.capacity_usec, work.open)
        if has_pods:
            for c in range(served.size):
                work.pod_runtime[pods.pod[c]] -= served[c]
            for p in range(work.pod_runtime.size):
                limited = np.isfinite(told.pod_quota_usec[of_quota, node, p])
                burst = told.pod_burst_usec[of_burst, node, p] if limited else 0.0
                state.pod_carried_usec[node, p] = min(max(work.pod_runtime[p], 0.0), burst)


@compiled
def end(pods: Pods, state: State, work: Work, at: int, done: Periods) -> None:
    """Takes down what containers did, and what outlives the period."""
    for node in range(work.came.shape[0]):
        for c in range(work.came.shape[1]):
            came, served, runtime = work.came[node, c], work.served[node, c], work.runtime[node, c]
            runnable = work.runnable[node, c]
            left = state.backlog_usec[node, c] + came - served
            dropped = max(left - pods.max_backlog_usec[node, c], 0.0)
            left -= dropped
            limited = np.isfinite(work.quota[node, c])
            active = runnable > 0
            # Whom the node's contention held back did not reach the end of its runtime.
            throttled = runtime < runnable and served >= runtime
            lost = 0.0
            if throttled:
                lost = lost_usec(runtime, runnable, left, came - dropped, pods.threads[node, c])
            done.admitted_usec[at, node, c] = came - dropped
            done.usage_usec[at, node, c] = served
            done.throttled[at, node, c] = throttled
            done.throttled_usec[at, node, c] = lost
            done.timer_ran[at, node, c] = limited and (active or state.was_active[node, c])
            done.bursts[at, node, c] = limited and served > work.quota[node, c]
            done.backlog_usec[at, node, c] = left
            state.backlog_usec[node, c] = left
            state.was_active[node, c] = active
            carried = min(runtime - served, work.spare[node, c])
            state.carried_usec[node, c] = carried if limited else 0.0


@compiled
def run_periods(
    pods: Pods, state: State, told: Told, arrivals_usec: FloatArray, first: int, done: Periods
) -> None:
    """Runs the periods of `arrivals_usec` (k, m, n); they are put into `done` from `first` on."""
    shape, pod_count = arrivals_usec.shape[1:], state.pod_carried_usec.shape[1]
    work = Work(
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape[1], np.bool_),
        np.empty(shape[1], np.bool_),
        np.empty(pod_count),
    )
    for i in range(arrivals_usec.shape[0]):
        begin(pods, state, told, arrivals_usec, i, work)
        divide(pods, state, told, i, work)
        end(pods, state, work, first + i, done)
