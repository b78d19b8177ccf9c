"""The least constant limit of a stretch of periods, for known arrivals.

A higher limit leaves less work waiting in every period, hence throttles in no more periods; so the
least limit in whole millicores is found by bisection. Several candidates are tried at once: numpy
takes little longer for 20 times as many containers, and three passes find one of 8000 limits.
Containers are taken alone: what a node's contention does to them is the contention oracle's.

Worked: work of 30, 50 and 20 ms in three periods of 100 ms, nothing carried over, at most one
throttled period: at 350m 35 ms are served in the second, 15 ms wait and the third has 35 ms of
work, served whole. One throttled period; at 349m it would be two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import (
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    MIN_CEILING_MILLICORES,
    BoolArray,
    FloatArray,
    IntArray,
)
from mbcas_loadtest.plant.batch import find_late_share
from mbcas_loadtest.plant.recursion import mean_kept_usec
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE
WRITE_SHARE = 0.5
"""Of the period, over when a quota is written: the mean of what writes may find."""
CANDIDATES = 20
"""Limits that are tried at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Stretch:
    """k known periods of m x n containers, each alone on its CPUs."""

    arrivals_usec: NDArray[np.floating]
    """(k, m, n)."""
    backlog_usec: FloatArray
    """(m, n) work that waits when it begins."""
    threads: FloatArray
    max_backlog_usec: FloatArray
    applied_millicores: FloatArray | None = None
    """(m, n) limits in force before it; another one is written in the first period, which refills
    the quota. None: nothing is written."""
    applied_burst_millicores: FloatArray | None = None
    request_usec: FloatArray | float = 0.0
    """(m, n) mean CPU time of a request."""
    kept_usec: float | None = None
    """Runtime that outlives a period; None: what the plant's CPUs keep."""
    has_burst: bool = False
    """Whether unused quota is carried over, up to the quota."""


def find_known_work(world: World) -> NDArray[np.float32]:
    """Returns the work of each period, (periods, m, n), as the plant counts it.

    What comes late counts in the next period; a container that is not there has none.
    """
    work = world.arrivals_usec * np.repeat(world.exists, PERIODS_PER_SECOND, axis=0)[:, np.newaxis]
    late = work * find_late_share(world.request_usec).astype(np.float32)
    work -= late
    work[1:] += late[:-1]
    return work


def count_throttled(stretch: Stretch, limit_millicores: FloatArray) -> tuple[IntArray, FloatArray]:
    """Runs candidate limits (c, m, n), each through the whole stretch.

    Returns:
        Throttled periods, and the work that waits at the end, (c, m, n) each.
    """
    quota = limit_millicores * USEC_PER_MILLICORE
    burst = quota * float(stretch.has_burst)
    kept = stretch.kept_usec
    spare = burst + (
        mean_kept_usec(
            quota_usec=quota,
            threads=stretch.threads,
            request_usec=np.asarray(stretch.request_usec),
        )
        if kept is None
        else kept
    )
    most, width = quota + spare, np.broadcast_to(stretch.threads * CPU_PERIOD_USEC, quota.shape)
    is_closed = bool(np.isfinite(stretch.max_backlog_usec).any())
    waiting = np.broadcast_to(stretch.backlog_usec, quota.shape).copy()
    throttled = np.zeros(quota.shape, np.int64)
    can, carried = np.empty(quota.shape), np.zeros(quota.shape)
    has = _write(stretch, quota, burst, most)
    # The plant's recursion without what nobody asks for here: contention and other counters.
    for period, arrivals in enumerate(np.asarray(stretch.arrivals_usec, np.float64)):
        waiting += arrivals
        np.minimum(waiting, width, out=can)
        if period > 0:
            np.add(carried, quota, out=has)
            np.minimum(has, most, out=has)
        throttled += has < can
        np.minimum(can, has, out=can)
        waiting -= can
        if is_closed:
            np.minimum(waiting, stretch.max_backlog_usec, out=waiting)
        np.subtract(has, can, out=carried)
        np.minimum(carried, spare, out=carried)
    return throttled, waiting


def _write(stretch: Stretch, quota: FloatArray, burst: FloatArray, most: FloatArray) -> FloatArray:
    """Returns the runtime of the first period, in which quotas that change are written."""
    if stretch.applied_millicores is None:
        return quota.copy()
    written: BoolArray = quota != stretch.applied_millicores * USEC_PER_MILLICORE
    if stretch.applied_burst_millicores is not None:
        written |= burst != stretch.applied_burst_millicores * USEC_PER_MILLICORE
    half_usec = WRITE_SHARE * stretch.threads * CPU_PERIOD_USEC
    there = stretch.backlog_usec + WRITE_SHARE * stretch.arrivals_usec[0]
    ran = np.minimum(np.minimum(there, quota), half_usec)
    granted = np.where(burst > 0, 2, 1) * quota
    runtime: FloatArray = np.where(written, np.minimum(quota + granted, ran + most), quota)
    return runtime


def find_least_limit(
    stretch: Stretch, throttled_max: int, *, left_max_usec: float = np.inf
) -> IntArray:
    """Returns the least limits (m, n), whole millicores from 10 on, that hold both bounds.

    Args:
        stretch: What is known.
        throttled_max: Periods of it that may be throttled.
        left_max_usec: Work that may wait at its end.
    """
    low = np.full(stretch.backlog_usec.shape, MIN_CEILING_MILLICORES, np.int64)
    high = find_enough(stretch)
    steps = np.arange(CANDIDATES).reshape(-1, 1, 1)
    # Of high it is known that it is enough, of what is below low that it is not.
    while (low < high).any():
        tried = low + (high - low) * steps // CANDIDATES
        throttled, left = count_throttled(stretch, tried.astype(np.float64))
        holds = (throttled <= throttled_max) & (left <= left_max_usec)
        first = np.argmax(holds, axis=0)[np.newaxis]
        some = holds.any(axis=0)
        last = np.where(some, first[0], CANDIDATES) - 1
        below = np.take_along_axis(tried, np.maximum(last, 0)[np.newaxis], axis=0)[0]
        high = np.where(some, np.take_along_axis(tried, first, axis=0)[0], high)
        low = np.minimum(np.where(last >= 0, below + 1, low), high)
    return low


def find_enough(stretch: Stretch) -> IntArray:
    """Returns limits that throttle nothing: all work of a period, or all its threads can use."""
    most = np.asarray(stretch.arrivals_usec, np.float64).max(axis=0)
    most = np.maximum(most, stretch.backlog_usec + stretch.arrivals_usec[0])
    usable = np.minimum(np.ceil(most / USEC_PER_MILLICORE), stretch.threads * MILLICORES_PER_CORE)
    enough: IntArray = np.maximum(usable, MIN_CEILING_MILLICORES).astype(np.int64)
    return enough
