"""The first agent: two needs from what was measured, nothing learned.

    ceiling need      max(base x level, remembered burst peaks)        what throttling answers to
    reservation need  max(P90 of 15 s demand over 10 minutes, base)    what should be kept for it

Both are at least `need_floor` = max(10m, median demand). The level comes from the measured variation
of 100 ms slices and the throttling target (`headroom`); each cut that had to be taken back adds a
tenth to it for ten minutes. A learner takes this agent's place by the same signature.
"""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.agents import headroom
from mbcas_core.fleet import Rows, Table, column
from mbcas_core.forecast import recent
from mbcas_core.signals.windows import WindowTable, mean_quantiles, variation
from mbcas_core.units import MAX_MILLICORES, MIN_CEILING_MILLICORES, FloatArray, IntArray
from mbcas_core.workload import bursts, classes

VARIATION_SECONDS = 30
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
    level: FloatArray = column(np.float64, fill=1.0)
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
    quantile: float,
    now_seconds: float,
) -> None:
    """Writes the needs of these rows, and everything they rest on, to the table."""
    base = recent.forecast(windows, rows)
    spread = variation(windows, rows, seconds=VARIATION_SECONDS, unknown=UNKNOWN_VARIATION)
    bursty = bursts.is_bursty(burst_table, rows)
    burst = np.where(bursty, bursts.remembered_peak(burst_table, rows), 0.0)
    table.caution[rows[now_seconds - table.caution_time[rows] > CAUTION_SECONDS]] = 0
    level = headroom.level(spread, facts.tau[rows])
    level *= 1.0 + CAUTION_STEP * table.caution[rows]
    past = mean_quantiles(windows, rows, (0.5, quantile))
    floor = np.maximum(float(MIN_CEILING_MILLICORES), past[:, 0])
    table.workload_class[rows] = classes.classify(
        base=base,
        variation=spread,
        bursty=bursty,
        admitted_request=facts.admitted_request[rows],
    )
    table.base[rows] = base
    table.variation[rows] = spread
    table.level[rows] = level
    table.burst[rows] = burst
    table.quantile[rows] = past[:, 1]
    table.need_floor[rows] = floor
    table.ceiling_need[rows] = _whole(np.maximum(np.maximum(base * level, burst), floor))
    table.reservation_need[rows] = _whole(np.maximum(np.maximum(past[:, 1], base), floor))


def add_caution(table: AgentTable, rows: IntArray, *, now_seconds: float) -> None:
    """Notes that a cut of these rows had to be taken back."""
    table.caution[rows] = np.minimum(table.caution[rows] + 1, MAX_CAUTION)
    table.caution_time[rows] = now_seconds


def _whole(millicores: FloatArray) -> IntArray:
    return np.ceil(np.minimum(millicores, MAX_MILLICORES)).astype(np.int64)
