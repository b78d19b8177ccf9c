"""The oracles' inner loops: known periods of one container after the other, each alone on its CPUs.

The plant's recursion without what nobody asks for here: contention and other counters. Tests hold
it and `plant.recursion` together.
"""

from typing import NamedTuple

import numpy as np

from mbcas_core.units import (
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    MIN_CEILING_MILLICORES,
    FloatArray,
    IntArray,
)
from mbcas_loadtest.compiled import compiled
from mbcas_loadtest.plant.kernels import kept_usec

CANDIDATES = 20
"""Limits among which each pass looks for the first that holds."""
WRITE_SHARE = 0.5
"""Of the period, over when a quota is written: the mean of what writes may find."""
_PERIOD_USEC = float(CPU_PERIOD_USEC)
_USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE


class Known(NamedTuple):
    """Of r containers what `search.Stretch` says, (r,) each unless said otherwise; NaN for None."""

    arrivals_usec: FloatArray
    """(r, k)."""
    backlog_usec: FloatArray
    threads: FloatArray
    max_backlog_usec: FloatArray
    request_usec: FloatArray
    applied_usec: FloatArray
    applied_burst_usec: FloatArray
    kept_usec: float
    has_burst: bool


class First(NamedTuple):
    """Of the first period, in which a quota may be written."""

    runtime_usec: float
    reach_usec: float
    """What its threads can do in it."""


@compiled
def spare_usec(known: Known, row: int, quota_usec: float) -> float:
    """Returns the runtime that may outlive a period."""
    kept = known.kept_usec
    if np.isnan(kept):
        kept = kept_usec(quota_usec, known.threads[row], known.request_usec[row])
    return kept + quota_usec if known.has_burst else kept


@compiled
def write(known: Known, row: int, limit_millicores: float) -> First:
    """Returns a first period in which this limit is written: `recursion.rewrite`."""
    quota = limit_millicores * _USEC_PER_MILLICORE
    width = known.threads[row] * _PERIOD_USEC
    if np.isnan(known.applied_usec[row]):
        return First(quota, width)
    there = known.backlog_usec[row] + WRITE_SHARE * known.arrivals_usec[row, 0]
    ran = min(there, quota, WRITE_SHARE * width)
    granted = (2 if known.has_burst else 1) * quota
    most = quota + spare_usec(known, row, quota)
    # What its threads stood still before the write is lost.
    return First(min(quota + granted, ran + most), ran + (1 - WRITE_SHARE) * width)


@compiled
def set_limit(known: Known, row: int, limit_millicores: float) -> First:
    """Returns a first period with this limit, written only where another is in force."""
    quota = limit_millicores * _USEC_PER_MILLICORE
    burst, applied_burst = quota if known.has_burst else 0.0, known.applied_burst_usec[row]
    is_burst = np.isnan(applied_burst) or burst == applied_burst
    if quota == known.applied_usec[row] and is_burst:
        return First(quota, known.threads[row] * _PERIOD_USEC)
    return write(known, row, limit_millicores)


@compiled
def run_row(
    known: Known, row: int, limit_millicores: float, throttled_max: int, first: First
) -> tuple[int, float]:
    """Runs one limit through all periods, or until more of them than that are throttled.

    Returns:
        Throttled periods, and the work that waits at the end.
    """
    quota = limit_millicores * _USEC_PER_MILLICORE
    spare = spare_usec(known, row, quota)
    most, width = quota + spare, known.threads[row] * _PERIOD_USEC
    runtime, reach = first.runtime_usec, min(first.reach_usec, width)
    waiting, throttled = known.backlog_usec[row], 0
    for period in range(known.arrivals_usec.shape[1]):
        waiting += known.arrivals_usec[row, period]
        runnable = min(waiting, reach)
        reach = width
        if runtime < runnable:
            throttled += 1
            if throttled > throttled_max:
                break
        served = min(runnable, runtime)
        waiting = min(waiting - served, known.max_backlog_usec[row])
        runtime = min(min(runtime - served, spare) + quota, most)
    return throttled, waiting


@compiled
def count_rows(
    known: Known, limit_millicores: FloatArray, throttled: IntArray, left_usec: FloatArray
) -> None:
    """Runs candidates (c, r) and tells what comes of each, (c, r) too."""
    periods = known.arrivals_usec.shape[1]
    for row in range(limit_millicores.shape[1]):
        for i in range(limit_millicores.shape[0]):
            limit = limit_millicores[i, row]
            found = run_row(known, row, limit, periods, set_limit(known, row, limit))
            throttled[i, row], left_usec[i, row] = found


@compiled
def find_least(
    known: Known, enough: IntArray, throttled_max: int, left_max_usec: float, least: IntArray
) -> None:
    """Finds the least whole limits (r,); `enough` are such that hold.

    Others than the one in force are written, which refills them, so a smaller one may hold where
    that one does not. What is searched is the least that holds if written: a higher one does too.
    """
    for row in range(enough.size):
        low, high = MIN_CEILING_MILLICORES, enough[row]
        # Of high it is known that it is enough, of what is below low that it is not.
        while low < high:
            begin, width, last = low, high - low, low - 1
            for step in range(CANDIDATES):
                tried = begin + width * step // CANDIDATES
                if tried == last:
                    continue
                first = write(known, row, float(tried))
                throttled, left = run_row(known, row, float(tried), throttled_max, first)
                if throttled <= throttled_max and left <= left_max_usec:
                    high = tried
                    break
                last = tried
            low = min(last + 1, high)
        if low < enough[row] and low * _USEC_PER_MILLICORE == known.applied_usec[row]:
            first = set_limit(known, row, float(low))
            throttled, left = run_row(known, row, float(low), throttled_max, first)
            if throttled > throttled_max or left > left_max_usec:
                low += 1
        least[row] = low


class Costs(NamedTuple):
    """What stays cost one container; see `plan`."""

    level_millicores: FloatArray
    """(g,)."""
    end: IntArray
    """(s, g), 0 where there is none."""
    throttled: FloatArray
    """(s, g)."""
    stay: FloatArray
    """(s, g, K) found from the last slot to the first."""
    least: FloatArray
    """(s + 1, g, K) W, 0 at its end."""


@compiled
def weigh_stays(costs: Costs, price: float) -> None:
    """Finds `stay` and `least` at a price of a throttled period."""
    slots, levels, changes_max = costs.stay.shape
    moved = np.empty(changes_max)
    for i in range(slots - 1, -1, -1):
        moved[:] = np.inf
        for g in range(levels):
            end = costs.end[i, g]
            own = costs.level_millicores[g] * (end - i) + price * costs.throttled[i, g]
            for k in range(changes_max):
                cost = own + costs.least[end, g, k] if end > 0 else np.inf
                costs.stay[i, g, k] = cost
                moved[k] = min(moved[k], cost)
        for g in range(levels):
            costs.least[i, g, 0] = costs.stay[i, g, 0]
            for k in range(1, changes_max):
                costs.least[i, g, k] = min(costs.stay[i, g, k], moved[k - 1])


@compiled
def read_plan(costs: Costs, chosen: FloatArray) -> float:
    """Reads the cheapest plan off, stay by stay, into (s,); returns its throttled periods.

    Raises:
        ValueError: There is no plan.
    """
    slots, _, changes_max = costs.stay.shape
    i, left, throttled = 0, changes_max - 1, 0.0
    level = int(np.argmin(costs.stay[0, :, left]))
    while i < slots:
        if left > 0:
            other = int(np.argmin(costs.stay[i, :, left - 1]))
            if costs.stay[i, other, left - 1] < costs.stay[i, level, left]:
                level, left = other, left - 1
        end = costs.end[i, level]
        if end <= i:
            raise ValueError("a slot is reached at which no stay is allowed")
        chosen[i:end] = costs.level_millicores[level]
        throttled += costs.throttled[i, level]
        i = end
    return throttled


@compiled
def plan_rows(
    level_millicores: FloatArray,
    end: IntArray,
    throttled: FloatArray,
    price: FloatArray,
    changes_max: int,
    chosen: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Plans for p containers, the arrays of `stays.Table`, at prices (p,), into (s, p).

    Returns:
        Throttled periods and least cost, (p,) each.
    """
    slots, rows, levels = end.shape
    stay = np.empty((slots, levels, changes_max))
    least = np.zeros((slots + 1, levels, changes_max))
    total, cost = np.zeros(rows), np.zeros(rows)
    for row in range(rows):
        costs = Costs(level_millicores[row], end[:, row], throttled[:, row], stay, least)
        weigh_stays(costs, price[row])
        total[row] = read_plan(costs, chosen[:, row])
        cost[row] = stay[0, :, changes_max - 1].min()
    return total, cost
