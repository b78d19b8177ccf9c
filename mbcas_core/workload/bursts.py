"""Remembers how high a container's bursts go.

A burst is a time of at most 60 s in which use stands above max(2 x quiet level, quiet level +
100m). The quiet level is an exponential mean of the seconds outside bursts; what lasts longer than
60 s is no burst but a new level. A burst is remembered only where it was *sharp*: within its first
three seconds use reached 0.7 of its peak. What rises more slowly the loops can follow, and keeping
CPU for it would take that from others who need it now. The third quartile of the remembered peaks,
with 30 % on top, is what a bursty container should be able to use at once, without being throttled
first.

One second of a load with quiet level 100m: 350m for 8 s is remembered as a peak of 350m; then the
container's ceiling need is at least 455m.
"""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.signals.counters import Seconds
from mbcas_core.table import Table, column
from mbcas_core.units import BoolArray, FloatArray, IntArray

PEAKS = 16
MAX_BURST_SECONDS = 60
ONSET_SECONDS = 3
SHARP_RATIO = 0.7
QUIET_GAIN = 0.05  # A memory of 20 quiet seconds.
PEAK_FACTOR = 1.3
MIN_BURSTS = 2
MEMORY_SECONDS = 600
"""A container that had no burst for so long is not bursty any more."""


class BurstTable(Table):
    """Quiet level, the burst in progress, and the peaks of past ones."""

    quiet: FloatArray = column(np.float64, fill=np.nan)
    length: IntArray = column()
    """Seconds of the burst in progress, 0 outside."""
    peak: FloatArray = column(np.float64)
    onset: FloatArray = column(np.float64)
    """The largest use of its first seconds."""
    bursts: IntArray = column()
    peaks: NDArray[np.float32] = column(np.float32, fill=np.nan, width=(PEAKS,))
    since: IntArray = column(fill=MEMORY_SECONDS)
    """Seconds since the last burst ended."""


def step(table: BurstTable, new: Seconds) -> int:
    """Takes in new seconds, oldest first, and returns how many bursts it now remembers more."""
    return sum(_second(table, new.rows[here], new.usage[here, j]) for j, here in new.columns())


def _second(table: BurstTable, rows: IntArray, usage: FloatArray) -> int:
    """Takes in one second; returns how many bursts ended with it that are remembered."""
    quiet, length = table.quiet[rows], table.length[rows]
    quiet = np.where(np.isnan(quiet), usage, quiet)
    inside, highest, onset = length > 0, table.peak[rows], table.onset[rows]
    high = usage > np.maximum(2.0 * quiet, quiet + 100.0)
    still = inside & (usage > np.maximum(1.5 * quiet, quiet + 50.0))
    burst = high | still
    length = np.where(burst, length + 1, 0)
    peak = np.where(burst, np.maximum(np.where(inside, highest, 0.0), usage), 0.0)
    lasting = length > MAX_BURST_SECONDS
    ended = inside & ~burst & (onset >= SHARP_RATIO * highest)
    _remember(table, rows[ended], highest[ended])
    table.since[rows] = np.where(ended, 0, np.minimum(table.since[rows] + 1, MEMORY_SECONDS))
    table.length[rows] = np.where(lasting, 0, length)
    table.onset[rows] = np.where(length <= ONSET_SECONDS, peak, onset)
    table.peak[rows] = np.where(lasting, 0.0, peak)
    settled = np.where(burst, quiet, quiet + QUIET_GAIN * (usage - quiet))
    table.quiet[rows] = np.where(lasting, usage, settled)
    return int(np.count_nonzero(ended))


def _remember(table: BurstTable, rows: IntArray, peaks: FloatArray) -> None:
    table.peaks[rows, table.bursts[rows] % PEAKS] = peaks
    table.bursts[rows] += 1


def is_bursty(table: BurstTable, rows: IntArray) -> BoolArray:
    """True where bursts come again: two or more, the last one in the last ten minutes."""
    bursty: BoolArray = (table.bursts[rows] >= MIN_BURSTS) & (table.since[rows] < MEMORY_SECONDS)
    return bursty


def remembered_peak(table: BurstTable, rows: IntArray) -> FloatArray:
    """1.3 times the third quartile (nearest rank) of the peaks, in millicores.

    0 without a burst in the last ten minutes. One burst is enough to be remembered: the second one
    then finds what it needs.
    """
    ordered = np.sort(table.peaks[rows], axis=1)  # NaN last.
    count = np.minimum(table.bursts[rows], PEAKS)
    rank = np.maximum(np.ceil(0.75 * count).astype(np.int64) - 1, 0)
    quartile = ordered[np.arange(rows.size), rank].astype(np.float64)
    fresh = (count > 0) & (table.since[rows] < MEMORY_SECONDS)
    return np.where(fresh, PEAK_FACTOR * quartile, 0.0)
