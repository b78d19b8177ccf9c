"""The least constant limit of a stretch of periods, for known arrivals.

A higher limit leaves less work waiting in every period, hence throttles in no more periods; so the
least limit in whole millicores is found by bisection: of 20 candidates the first that holds, and
three passes find one of 8000 limits. What is too little shows early, so trying from below is cheap.
Only the limit in force is no rung of that ladder: every other is written, which refills the quota.
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
    FloatArray,
    IntArray,
)
from mbcas_loadtest.oracles.kernels import Known, count_rows, find_least
from mbcas_loadtest.plant.batch import find_late_share
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE


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
    limits = np.ascontiguousarray(limit_millicores, np.float64).reshape(len(limit_millicores), -1)
    throttled, left = np.zeros(limits.shape, np.int64), np.zeros(limits.shape)
    count_rows(_by_row(stretch), limits, throttled, left)
    return throttled.reshape(limit_millicores.shape), left.reshape(limit_millicores.shape)


def _by_row(stretch: Stretch) -> Known:
    """Returns its containers one after the other, the periods of each together in memory."""
    shape = stretch.backlog_usec.shape
    k, r = len(stretch.arrivals_usec), stretch.backlog_usec.size

    def rows(values: FloatArray | float | None, unit: float = 1.0) -> FloatArray:
        each: FloatArray = np.empty(shape)
        each[...] = np.nan if values is None else values
        each *= unit
        return each.reshape(r)

    return Known(
        arrivals_usec=np.ascontiguousarray(stretch.arrivals_usec.reshape(k, r).T, np.float64),
        backlog_usec=rows(stretch.backlog_usec),
        threads=rows(stretch.threads),
        max_backlog_usec=rows(stretch.max_backlog_usec),
        request_usec=rows(stretch.request_usec),
        applied_usec=rows(stretch.applied_millicores, USEC_PER_MILLICORE),
        applied_burst_usec=rows(stretch.applied_burst_millicores, USEC_PER_MILLICORE),
        kept_usec=np.nan if stretch.kept_usec is None else float(stretch.kept_usec),
        has_burst=stretch.has_burst,
    )


def find_least_limit(
    stretch: Stretch, throttled_max: int, *, left_max_usec: float = np.inf
) -> IntArray:
    """Returns the least limits (m, n), whole millicores from 10 on, that hold both bounds.

    Args:
        stretch: What is known.
        throttled_max: Periods of it that may be throttled.
        left_max_usec: Work that may wait at its end.
    """
    enough = find_enough(stretch)
    least = np.empty(enough.size, np.int64)
    find_least(_by_row(stretch), enough.reshape(-1), throttled_max, left_max_usec, least)
    return least.reshape(enough.shape)


def find_enough(stretch: Stretch) -> IntArray:
    """Returns limits that throttle nothing: all work of a period, or all its threads can use."""
    most = np.asarray(stretch.arrivals_usec, np.float64).max(axis=0)
    most = np.maximum(most, stretch.backlog_usec + stretch.arrivals_usec[0])
    usable = np.minimum(np.ceil(most / USEC_PER_MILLICORE), stretch.threads * MILLICORES_PER_CORE)
    enough: IntArray = np.maximum(usable, MIN_CEILING_MILLICORES).astype(np.int64)
    return enough
