"""The first agent: two needs from what was measured, nothing learned.

    ceiling need      max(base + (level - 1) x use, recent need, remembered burst peaks)
    reservation need  max(P90 of 15 s demand over 10 minutes, base)

Both are at least `need_floor` = max(10m, median demand). The base is the forecast of demand, in
which throttled work is put back; the level (`headroom`, from the measured variation of 100 ms
slices and the throttling target) stands on what was really used, because a guess at hidden demand
has no variation of its own. While nothing is hidden, base and use are one and the need is base x
level.

The *recent need* is the largest use x level of the last 30 to 60 s: CPU is given back only when it
has not been needed for that long, as the horizontal autoscaler's stabilisation window does it. Each
cut that had to be taken back adds a tenth to the level for ten minutes. A learner takes this
agent's place by the same signature.
"""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.agents import headroom
from mbcas_core.fleet import Rows
from mbcas_core.forecast import recent
from mbcas_core.parameters import Parameters
from mbcas_core.signals.windows import (
    MEAN_SECONDS,
    WindowTable,
    mean_quantiles,
    mean_usage,
    variation,
)
from mbcas_core.table import Table, column
from mbcas_core.units import MAX_MILLICORES, MIN_CEILING_MILLICORES, FloatArray, IntArray
from mbcas_core.workload import bursts, classes

VARIATION_SECONDS = 20
UNKNOWN_VARIATION = 0.5
"""Of a container too calm to have its slices measured."""
CAUTION_STEP = 0.1
CAUTION_SECONDS = 600.0
MAX_CAUTION = 5


class AgentTable(Table):
    """Each row's last estimate, kept for the explanation."""

    workload_class: NDArray[np.int8] = column(np.int8)
    base: FloatArray = column(np.float64)
    variation: FloatArray = column(np.float64, fill=UNKNOWN_VARIATION)
    tau: FloatArray = column(np.float64, fill=np.nan)
    """The throttling target that the level was chosen for."""
    level: FloatArray = column(np.float64, fill=1.0)
    usage: FloatArray = column(np.float64)
    recent: FloatArray = column(np.float64)
    """The recent need, from the two windows below."""
    window_time: FloatArray = column(np.float64, fill=-np.inf)
    window_need: FloatArray = column(np.float64)
    window_before: FloatArray = column(np.float64)
    burst: FloatArray = column(np.float64)
    quantile: FloatArray = column(np.float64)
    need_floor: FloatArray = column(np.float64)
    ceiling_need: IntArray = column()
    reservation_need: IntArray = column()
    caution: IntArray = column()
    """Cuts taken back in the last ten minutes."""
    caution_time: FloatArray = column(np.float64, fill=-np.inf)


def estimate(
    table: AgentTable,
    rows: IntArray,
    *,
    facts: Rows,
    windows: WindowTable,
    burst_table: bursts.BurstTable,
    tau: FloatArray,
    parameters: Parameters,
    now_seconds: float,
) -> None:
    """Writes the needs of these rows, and everything they rest on, to the table.

    `tau` is the throttling target that each of them stands on, declared or raised by the price.
    """
    base = recent.forecast(windows, rows)
    usage = mean_usage(windows, rows, seconds=MEAN_SECONDS)
    spread = variation(windows, rows, seconds=VARIATION_SECONDS, unknown=UNKNOWN_VARIATION)
    bursty = bursts.is_bursty(burst_table, rows)
    burst = bursts.remembered_peak(burst_table, rows)
    table.caution[rows[now_seconds - table.caution_time[rows] > CAUTION_SECONDS]] = 0
    level = headroom.level(spread, tau)
    level *= 1.0 + CAUTION_STEP * table.caution[rows]
    past = mean_quantiles(windows, rows, (0.5, parameters.reservation_quantile))
    floor = np.maximum(float(MIN_CEILING_MILLICORES), past[:, 0])
    table.workload_class[rows] = classes.classify(
        base=base,
        variation=spread,
        bursty=bursty,
        admitted_request=facts.admitted_request[rows],
    )
    table.base[rows] = base
    table.variation[rows] = spread
    table.tau[rows] = tau
    table.level[rows] = level
    table.usage[rows] = usage
    table.burst[rows] = burst
    table.quantile[rows] = past[:, 1]
    table.need_floor[rows] = floor
    _remember(
        table,
        rows,
        usage * level,
        window_seconds=parameters.need_window_seconds,
        now_seconds=now_seconds,
    )
    need = np.maximum(base + (level - 1.0) * usage, table.recent[rows])
    table.ceiling_need[rows] = _whole(np.maximum(np.maximum(need, burst), floor))
    table.reservation_need[rows] = _whole(np.maximum(np.maximum(past[:, 1], base), floor))


def _remember(
    table: AgentTable,
    rows: IntArray,
    need: FloatArray,
    *,
    window_seconds: float,
    now_seconds: float,
) -> None:
    """Keeps the largest need of this window and the one before: one to two windows back."""
    age = now_seconds - table.window_time[rows]
    over = age >= window_seconds
    long_over = age >= 2 * window_seconds
    before = np.where(over, table.window_need[rows], table.window_before[rows])
    table.window_before[rows] = np.where(long_over, 0.0, before)
    table.window_need[rows] = np.where(over, need, np.maximum(table.window_need[rows], need))
    table.window_time[rows] = np.where(over, now_seconds, table.window_time[rows])
    table.recent[rows] = np.maximum(table.window_before[rows], table.window_need[rows])


def add_caution(table: AgentTable, rows: IntArray, *, now_seconds: float) -> None:
    """Notes that a cut of these rows had to be taken back."""
    table.caution[rows] = np.minimum(table.caution[rows] + 1, MAX_CAUTION)
    table.caution_time[rows] = now_seconds


def _whole(millicores: FloatArray) -> IntArray:
    return np.ceil(np.minimum(millicores, MAX_MILLICORES)).astype(np.int64)
