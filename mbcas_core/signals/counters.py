"""From cumulative counters to seconds of usage, throttling and demand.

A sample is copied into the table when it arrives and judged at the next tick, all rows at once. Two
samples of one run of a container make an *interval*; anything else makes none:

- the first sample of an epoch, or after the shim connected again, is only a starting point;
- a sample not later than the last one (duplicate, reordering) is ignored;
- a counter that decreased, a rise that no machine could produce, or a clock that jumped by more
  than five minutes, forward or back, drops the interval and starts from the newer sample;
- a negative or absurd value drops the sample.

An interval is cut into whole seconds, oldest first. Where the sample carries detail, the last
seconds are measured; what the detail leaves over is spread evenly over the seconds before it, so
that a lost message loses slices and no usage.

*Demand* puts back what throttling hid. Throttled work is mostly deferred, not lost, so a second is
a lower bound only where use reached the quota: with u >= 0.95 q and a share t of its periods
throttled, demand = max(u, q (1 + min(1, t))), else demand = u. For example q = 500m, u = 490m and
t = 0.4 give 700m. A second in which the quota changed counts the larger one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import COUNTERS, MAX_DETAIL_SECONDS, Samples
from mbcas_core.table import Table, column
from mbcas_core.units import (
    MAX_MILLICORES,
    MILLICORES_PER_CORE,
    SLICES_PER_SECOND,
    USEC_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
)

USAGE, PERIODS, THROTTLED = (
    COUNTERS.index(name) for name in ("usage_usec", "nr_periods", "nr_throttled")
)
QUOTA, PERIOD = COUNTERS.index("quota_usec"), COUNTERS.index("period_usec")
CUMULATIVE = tuple(
    COUNTERS.index(name)
    for name in ("usage_usec", "nr_periods", "nr_throttled", "throttled_usec", "nr_bursts")
)

MAX_SECONDS = 15
"""An interval fills at most this many seconds of history; what is older is not needed."""
MAX_GAP_SECONDS = 300.0
MAX_TIME_SECONDS = 1e10  # Three hundred years of uptime.
MAX_COUNTER = 1 << 60  # 36,000 years of CPU time in microseconds.
MAX_PERIOD_USEC = USEC_PER_SECOND  # The kernel's bound.
CENSORED_RATIO = 0.95
"""Use at or above this share of the quota is a lower bound of demand."""


class CounterTable(Table):
    """The last judged sample of each row, and the one that waits for the tick."""

    waiting: BoolArray = column(np.bool_, fill=False)
    waiting_time: FloatArray = column(np.float64)
    waiting_counters: IntArray = column(width=(len(COUNTERS),))
    waiting_detail: NDArray[np.uint8] = column(np.uint8)
    waiting_slices: NDArray[np.uint16] = column(
        np.uint16, width=(MAX_DETAIL_SECONDS * SLICES_PER_SECOND,)
    )
    waiting_throttled: NDArray[np.uint8] = column(np.uint8, width=(MAX_DETAIL_SECONDS,))
    known: BoolArray = column(np.bool_, fill=False)
    """True where `time` and `counters` can start an interval."""
    time: FloatArray = column(np.float64)
    counters: IntArray = column(width=(len(COUNTERS),))
    sample_time: FloatArray = column(np.float64, fill=-np.inf)
    """When the last judged sample arrived, on the server's clock."""
    sample_count: IntArray = column()
    usage: FloatArray = column(np.float64)
    """Mean use over the last interval, in millicores; and so on."""
    demand: FloatArray = column(np.float64)
    quota: FloatArray = column(np.float64, fill=np.nan)
    """The quota in force as a ceiling in millicores; NaN where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seconds:
    """The last seconds of n rows, oldest first; NaN (throttled: 0) before a row's first one."""

    rows: IntArray
    count: IntArray
    """Seconds of each row, 1 to k, shape (n,): the last `count` columns are theirs."""
    usage: FloatArray
    """Millicores, shape (n, k)."""
    demand: FloatArray
    """Millicores, shape (n, k)."""
    throttled: FloatArray
    """Share of the second's periods that were throttled, 0 to 1, shape (n, k)."""
    square: FloatArray
    """Mean square of the second's slices, shape (n, k); NaN where they were not measured."""

    def columns(self) -> Iterator[tuple[int, IntArray | slice]]:
        """Returns each column and which of the n rows have lived through it, oldest first."""
        k = self.usage.shape[1]
        for j in range(k - 1):
            yield j, np.flatnonzero(self.count >= k - j)
        if self.count.size:
            yield k - 1, slice(None)


def stage(table: CounterTable, rows: IntArray, samples: Samples) -> None:
    """Copies samples into the table; entry i of the samples is about row i, -1 to skip it."""
    known = rows >= 0
    if known.all():
        known = slice(None)  # type: ignore[assignment] # a slice selects all without a copy
    own = rows[known]
    table.waiting[own] = True
    table.waiting_time[own] = samples.node_time_seconds
    table.waiting_counters[own] = samples.counters.T[known]
    table.waiting_detail[own] = samples.detail_seconds[known]
    if samples.second_throttled.size:
        _stage_detail(table, rows, samples)


def _stage_detail(table: CounterTable, rows: IntArray, samples: Samples) -> None:
    first = int(samples.detail_seconds[0])
    if (samples.detail_seconds == first).all() and (rows >= 0).all():
        # As in nearly every report: as many seconds of each row, and every row is known.
        width = first * SLICES_PER_SECOND
        table.waiting_slices[rows, :width] = samples.slice_millicores.reshape(-1, width)
        table.waiting_throttled[rows, :first] = samples.second_throttled.reshape(-1, first)
        return
    seconds = samples.detail_seconds.astype(np.int64)
    owner = np.repeat(rows, seconds)
    start = np.cumsum(seconds) - seconds
    place = np.arange(owner.size) - np.repeat(start, seconds)
    known = owner >= 0
    slices = samples.slice_millicores.reshape(-1, SLICES_PER_SECOND)
    by_second = table.waiting_slices.reshape(-1, MAX_DETAIL_SECONDS, SLICES_PER_SECOND)
    by_second[owner[known], place[known]] = slices[known]
    table.waiting_throttled[owner[known], place[known]] = samples.second_throttled[known]


def judge(
    table: CounterTable, *, cpu_count: IntArray, now_seconds: float, dropped: dict[str, int]
) -> Seconds:
    """Turns every waiting sample into seconds, where it makes an interval.

    Args:
        table: Changed: waiting samples become the last ones.
        cpu_count: CPUs of each row's node, by row id.
        now_seconds: The server's clock.
        dropped: Counts of what was dropped, by cause; added to.
    """
    rows: IntArray = np.flatnonzero(table.waiting)
    table.waiting[rows] = False
    values, time = table.waiting_counters[rows], table.waiting_time[rows]
    absurd = _is_absurd(values, time)
    if _count(dropped, "sample_absurd", absurd):
        rows, values, time = rows[~absurd], values[~absurd], time[~absurd]
    known, elapsed = table.known[rows], time - table.time[rows]
    old = known & (elapsed <= 0) & (elapsed >= -MAX_GAP_SECONDS)
    if _count(dropped, "sample_old", old):
        rows, values, time = rows[~old], values[~old], time[~old]
        known, elapsed = known[~old], elapsed[~old]
    delta = values - table.counters[rows]
    good = known & _plausible(delta, elapsed, values, cpu_count[rows])
    _count(dropped, "interval_implausible", known & ~good)
    quota_before = table.quota[rows]
    _accept(table, rows, values, time, now_seconds)
    if not good.all():
        rows, delta, elapsed = rows[good], delta[good], elapsed[good]
        quota_before = quota_before[good]
    table.sample_count[rows] += 1
    return _seconds(table, rows, delta, elapsed, quota_before=quota_before)


def _count(dropped: dict[str, int], cause: str, which: BoolArray) -> int:
    """Adds up what is dropped; returns how many these are."""
    count = int(np.count_nonzero(which))
    dropped[cause] = dropped.get(cause, 0) + count
    return count


def _is_absurd(values: IntArray, time: FloatArray) -> BoolArray:
    period = values[:, PERIOD]
    absurd: BoolArray = (values.min(axis=1) < 0) | (values.max(axis=1) > MAX_COUNTER)
    absurd |= (period < 1) | (period > MAX_PERIOD_USEC)
    absurd |= values[:, QUOTA] / np.maximum(period, 1) > MAX_MILLICORES / MILLICORES_PER_CORE
    with np.errstate(invalid="ignore"):  # NaN compares false, as it should.
        absurd |= ~(np.abs(time) <= MAX_TIME_SECONDS)
    return absurd


def _plausible(
    delta: IntArray, elapsed: FloatArray, values: IntArray, cpu_count: IntArray
) -> BoolArray:
    possible = (elapsed > 0) & (elapsed <= MAX_GAP_SECONDS)
    possible &= (delta[:, CUMULATIVE] >= 0).all(axis=1)
    # Half as much again, and a tenth of a second, for counters read a moment apart.
    cpu_usec = (1.5 * elapsed + 0.1) * cpu_count * USEC_PER_SECOND
    possible &= delta[:, USAGE] <= cpu_usec
    periods = 1.5 * elapsed * USEC_PER_SECOND / values[:, PERIOD] + 5
    possible &= (delta[:, PERIODS] <= periods) & (delta[:, THROTTLED] <= periods)
    return possible


def _accept(
    table: CounterTable, rows: IntArray, values: IntArray, time: FloatArray, now_seconds: float
) -> None:
    table.known[rows] = True
    table.time[rows] = time
    table.counters[rows] = values
    table.sample_time[rows] = now_seconds
    quota = values[:, QUOTA] * float(MILLICORES_PER_CORE) / values[:, PERIOD]
    table.quota[rows] = np.where(values[:, QUOTA] > 0, quota, np.nan)


def _seconds(
    table: CounterTable,
    rows: IntArray,
    delta: IntArray,
    elapsed: FloatArray,
    *,
    quota_before: FloatArray,
) -> Seconds:
    """Cuts intervals into seconds; see the module's docstring."""
    period_seconds = table.counters[rows, PERIOD] / USEC_PER_SECOND
    usage = delta[:, USAGE] / elapsed / (USEC_PER_SECOND / MILLICORES_PER_CORE)
    throttled = np.minimum(1.0, delta[:, THROTTLED] * period_seconds / elapsed)
    quota = np.fmax(quota_before, table.quota[rows])
    whole = np.maximum(np.rint(elapsed), 1).astype(np.int64)
    count = np.minimum(whole, MAX_SECONDS)
    sent = table.waiting_detail[rows].astype(np.int64)
    detail = np.minimum(sent, count)
    k = int(count.max(initial=1))
    column_of = np.arange(k)
    # The last `detail` columns are measured, and the last slot of what was sent is the last column.
    measured = column_of >= k - detail[:, None]
    slot = np.maximum(column_of - k + sent[:, None], 0)
    slot = np.minimum(slot, MAX_DETAIL_SECONDS - 1)
    slices = table.waiting_slices.reshape(-1, MAX_DETAIL_SECONDS, SLICES_PER_SECOND)
    slices = slices[rows[:, None], slot].astype(np.float64)
    mean = slices.sum(axis=2) / SLICES_PER_SECOND
    square = (slices * slices).sum(axis=2) / SLICES_PER_SECOND
    second_throttled = table.waiting_throttled[rows[:, None], slot].astype(np.float64)
    second_throttled = np.minimum(1.0, second_throttled * period_seconds[:, None])
    rest = np.maximum(whole - detail, 1)[:, None]
    left = usage * elapsed - (mean * measured).sum(axis=1)
    left_throttled = throttled * whole - (second_throttled * measured).sum(axis=1)
    second_usage = np.where(measured, mean, np.maximum(left[:, None], 0.0) / rest)
    share = np.minimum(np.maximum(left_throttled[:, None] / rest, 0.0), 1.0)
    second_throttled = np.where(measured, second_throttled, share)
    demand = _demand(second_usage, second_throttled, quota[:, None])
    table.usage[rows] = usage
    absent = column_of < k - count[:, None]
    table.demand[rows] = np.where(absent, 0.0, demand).sum(axis=1) / count
    demand[absent] = np.nan
    second_usage[absent] = np.nan
    second_throttled[absent] = 0.0
    return Seconds(
        rows=rows,
        count=count,
        usage=second_usage,
        demand=demand,
        throttled=second_throttled,
        square=np.where(measured, square, np.nan),
    )


def _demand(usage: FloatArray, throttled: FloatArray, quota: FloatArray) -> FloatArray:
    """Puts back what throttling hid; see the module's docstring. NaN quota: nothing was hidden."""
    hidden = quota * (1.0 + np.minimum(1.0, throttled))
    with np.errstate(invalid="ignore"):  # NaN compares false, as it should.
        censored = usage >= CENSORED_RATIO * quota
    return np.where(censored, np.fmax(usage, hidden), usage)
