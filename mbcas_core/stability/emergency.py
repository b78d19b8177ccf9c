"""The fast loop's memory: which rows are lifted, how high, and how they come back.

A row is lifted when it is throttled now: ratio >= max(0.4, 6 tau) over 2 s, or more than max(0.15,
3 tau) in each of 6 s, or more than 3 tau over 2 s within 10 s of a cut, which is then taken back.
It is lifted in one jump to max(ceiling x (1 + ratio), remembered peaks). The lift is *held*: it
counts as need until use has stayed below 0.6 of its peak for 4 s; then it sinks to nothing in a
straight line (`emergency_decay_seconds`), and new throttling sets it up again.
"""

import numpy as np

from mbcas_core.signals.windows import (
    WindowTable,
    least_throttled_ratio,
    peak_usage,
)
from mbcas_core.table import Table, column
from mbcas_core.units import BoolArray, FloatArray, IntArray

SURGE_SECONDS = 2
SUSTAINED_SECONDS = 6
ROUNDING = 1e-6  # Ratios are kept as float32.
EXIT_RATIO = 0.6
CALM_SECONDS = 15.0
"""A lift that was not needed for so long sinks even while use stays near its peak."""


class EmergencyTable(Table):
    """State of each row's lift."""

    active: BoolArray = column(np.bool_, fill=False)
    since: FloatArray = column(np.float64)
    hold: FloatArray = column(np.float64)
    """What was wished for, in millicores."""
    peak: FloatArray = column(np.float64)
    """The largest use since it began."""
    throttled_time: FloatArray = column(np.float64)
    exit_time: FloatArray = column(np.float64, fill=np.nan)
    """When the burst was over; NaN before."""
    rolled_back: BoolArray = column(np.bool_, fill=False)
    """The lift takes a cut back."""


def surging(
    windows: WindowTable, rows: IntArray, tau: FloatArray, *, recent: FloatArray
) -> BoolArray:
    """True where a row is throttled enough to be lifted now.

    Args:
        windows: The recent past.
        rows: Which rows.
        tau: Their throttling targets.
        recent: Their throttled ratio over SURGE_SECONDS.
    """
    least = least_throttled_ratio(windows, rows, seconds=SUSTAINED_SECONDS)
    surge: BoolArray = recent >= np.maximum(0.4, 6 * tau) - ROUNDING
    return surge | (least > np.maximum(0.15, 3 * tau) + ROUNDING)


def lift(
    table: EmergencyTable,
    rows: IntArray,
    *,
    wish: FloatArray,
    rolled_back: BoolArray,
    now_seconds: float,
) -> None:
    """Marks rows as lifted to `wish` millicores."""
    new = rows[~table.active[rows]]
    table.since[new] = now_seconds
    table.peak[new] = 0.0
    table.hold[new] = 0.0
    table.active[rows] = True
    table.hold[rows] = np.maximum(table.hold[rows], wish)
    table.throttled_time[rows] = now_seconds
    table.exit_time[rows] = np.nan
    table.rolled_back[rows] = rolled_back


def step(
    table: EmergencyTable,
    windows: WindowTable,
    rows: IntArray,
    *,
    exit_seconds: int,
    decay_seconds: float,
    now_seconds: float,
) -> None:
    """Notices bursts that are over and ends lifts that have sunk."""
    recent = peak_usage(windows, rows, seconds=exit_seconds)
    table.peak[rows] = np.maximum(table.peak[rows], recent)
    lasted = now_seconds - table.throttled_time[rows]
    over = (recent < EXIT_RATIO * table.peak[rows]) & (lasted >= exit_seconds)
    over |= lasted >= CALM_SECONDS
    over &= np.isnan(table.exit_time[rows])
    table.exit_time[rows[over]] = now_seconds
    ended = rows[now_seconds - table.exit_time[rows] >= decay_seconds]
    table.reset(ended)


def held(
    table: EmergencyTable, rows: IntArray, *, decay_seconds: float, now_seconds: float
) -> FloatArray:
    """What the lift adds to the row's need now, in millicores; 0 where it is not lifted."""
    sinking = (now_seconds - table.exit_time[rows]) / decay_seconds
    share = np.where(np.isnan(sinking), 1.0, np.minimum(np.maximum(1.0 - sinking, 0.0), 1.0))
    return np.where(table.active[rows], table.hold[rows] * share, 0.0)
