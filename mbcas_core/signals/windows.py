"""The recent past of each row: a minute of seconds, and ten minutes of 15 s means.

Rings of fixed size, 1.2 kB a row. Every reader says how far it looks back; seconds that a row has
not lived through take no part.
"""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.signals.counters import MAX_SECONDS, Seconds
from mbcas_core.table import Table, column
from mbcas_core.units import FloatArray, IntArray

SECONDS = 64
"""A power of two, a minute and a little more."""
MEANS = 40
"""Ten minutes of 15 s means."""
MEAN_SECONDS = 15
MIN_MEASURED_SECONDS = 3


class WindowTable(Table):
    """Rings; `seconds` counts what was ever pushed, so the newest second is at seconds - 1."""

    seconds: IntArray = column()
    demand: NDArray[np.float32] = column(np.float32, width=(SECONDS,))
    usage: NDArray[np.float32] = column(np.float32, width=(SECONDS,))
    throttled: NDArray[np.float32] = column(np.float32, width=(SECONDS,))
    square: NDArray[np.float32] = column(np.float32, fill=np.nan, width=(SECONDS,))
    means: IntArray = column()
    mean: NDArray[np.float32] = column(np.float32, fill=np.nan, width=(MEANS,))
    sum: FloatArray = column(np.float64)
    """Of the demand of the 15 s in progress."""


def push(table: WindowTable, new: Seconds) -> None:
    """Appends seconds to the rings. `new` has at most MAX_SECONDS columns."""
    assert new.usage.shape[1] <= MAX_SECONDS < SECONDS, "an interval fits the ring"
    for j, here in new.columns():
        rows = new.rows[here]
        seconds = table.seconds[rows]
        at = rows * SECONDS + seconds % SECONDS
        table.demand.reshape(-1)[at] = new.demand[here, j]
        table.usage.reshape(-1)[at] = new.usage[here, j]
        table.throttled.reshape(-1)[at] = new.throttled[here, j]
        table.square.reshape(-1)[at] = new.square[here, j]
        table.seconds[rows] = seconds + 1
        table.sum[rows] += new.demand[here, j]
        _close_means(table, rows[(seconds + 1) % MEAN_SECONDS == 0])


def _close_means(table: WindowTable, full: IntArray) -> None:
    if full.size == 0:
        return
    table.mean[full, table.means[full] % MEANS] = table.sum[full] / MEAN_SECONDS
    table.means[full] += 1
    table.sum[full] = 0.0


def _last(ring: NDArray[np.float32], seconds: IntArray, rows: IntArray, back: int) -> FloatArray:
    """Each row's last `back` entries of a ring, newest first, shape (n, back).

    What a row has not lived through is what the ring is filled with when a row is new.
    """
    at = (seconds[rows][:, None] - np.arange(1, back + 1)) & (SECONDS - 1)
    at += (rows * SECONDS)[:, None]
    return ring.reshape(-1).take(at).astype(np.float64)


def throttled_ratio(table: WindowTable, rows: IntArray, *, seconds: int) -> FloatArray:
    """Throttled share of wall time over the last seconds; a second not lived through counts 0."""
    values = _last(table.throttled, table.seconds, rows, seconds)
    ratio: FloatArray = values.sum(axis=1) / seconds
    return ratio


def least_throttled_ratio(table: WindowTable, rows: IntArray, *, seconds: int) -> FloatArray:
    """The least throttled of the last seconds; 0 where the row has lived through fewer."""
    least: FloatArray = _last(table.throttled, table.seconds, rows, seconds).min(axis=1)
    return least


def peak_usage(table: WindowTable, rows: IntArray, *, seconds: int) -> FloatArray:
    """The largest use of the last seconds, in millicores."""
    most: FloatArray = _last(table.usage, table.seconds, rows, seconds).max(axis=1)
    return most


def mean_demand(table: WindowTable, rows: IntArray, *, seconds: int) -> FloatArray:
    """Mean demand over the last seconds, in millicores; 0 where there are none."""
    return _mean(table.demand, table.seconds, rows, seconds)


def mean_usage(table: WindowTable, rows: IntArray, *, seconds: int) -> FloatArray:
    """Mean use over the last seconds, in millicores; 0 where there are none."""
    return _mean(table.usage, table.seconds, rows, seconds)


def _mean(ring: NDArray[np.float32], seconds: IntArray, rows: IntArray, back: int) -> FloatArray:
    total: FloatArray = _last(ring, seconds, rows, back).sum(axis=1)
    return total / np.minimum(np.maximum(seconds[rows], 1), back)


def variation(table: WindowTable, rows: IntArray, *, seconds: int, unknown: float) -> FloatArray:
    """Coefficient of variation of the 100 ms slices of the last seconds, without slow drift.

    The variance is that within the seconds, plus half the mean square of the steps from one
    second to the next (Allan, Proc. IEEE 54, 1966): for independent slices the two add up to the
    variance of a slice, and a ramp or the edge of a burst hardly counts, because the forecast
    follows those. `unknown` where fewer than three seconds were measured.
    """
    square = _last(table.square, table.seconds, rows, seconds)
    usage = _last(table.usage, table.seconds, rows, seconds)
    measured = ~np.isnan(square)
    within = _mean_where(square - usage**2, measured)
    step = _mean_where((usage[:, 1:] - usage[:, :-1]) ** 2, measured[:, 1:] & measured[:, :-1])
    mean = _mean_where(usage, measured)
    deviation = np.sqrt(np.maximum(within, 0.0) + step / 2)
    enough = (measured.sum(axis=1) >= MIN_MEASURED_SECONDS) & (mean > 0)
    ratio: FloatArray = np.where(enough, deviation / np.maximum(mean, 1.0), unknown)
    return ratio


def _mean_where(values: FloatArray, chosen: NDArray[np.bool_]) -> FloatArray:
    """Mean of each row's chosen values; 0 where none is."""
    total = np.where(chosen, values, 0.0).sum(axis=1)
    mean: FloatArray = total / np.maximum(chosen.sum(axis=1), 1)
    return mean


def mean_quantiles(table: WindowTable, rows: IntArray, quantiles: tuple[float, ...]) -> FloatArray:
    """Quantiles (nearest rank) of the 15 s means, shape (n, len(quantiles)); 0 without any."""
    ordered = np.sort(table.mean[rows], axis=1)  # NaN last.
    count = np.minimum(table.means[rows], MEANS)
    rank = np.ceil(np.array(quantiles) * count[:, None]).astype(np.int64) - 1
    rank = np.maximum(rank, 0)  # No more than MEANS are counted.
    found = ordered[np.arange(rows.size)[:, None], rank]
    quantile: FloatArray = np.where(count[:, None] > 0, found, 0.0).astype(np.float64)
    return quantile
