"""What is added up of a run, compiled: one pass over all periods of a stretch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray
from mbcas_loadtest.compiled import compiled
from mbcas_loadtest.plant.kernels import Periods

PERIODS = 10
"""Of a second."""
_USEC = 1e6
_PERIOD_USEC = float(CPU_PERIOD_USEC)
_MILLI = 1000.0


class Sums(NamedTuple):
    """Sums of seconds, (m, n) each, as `outcome.Phase` describes them."""

    seconds: FloatArray
    usage_core_seconds: FloatArray
    limit_core_seconds: FloatArray
    request_core_seconds: FloatArray
    idle_core_seconds: FloatArray
    wall_periods: FloatArray
    throttled_periods: FloatArray
    throttled_seconds: FloatArray
    demand_core_seconds: FloatArray
    useful_core_seconds: FloatArray
    possible_core_seconds: FloatArray
    entitled_core_seconds: FloatArray
    denied_core_seconds: FloatArray
    unsent_core_seconds: FloatArray
    starved_core_seconds: FloatArray


class Lived(NamedTuple):
    """What a stretch of k = 10 s periods was like, (k, m, n) each unless said otherwise."""

    arrivals_usec: FloatArray
    limit_millicores: FloatArray
    request_millicores: FloatArray
    exists: BoolArray
    """(s, n)."""


class Means(NamedTuple):
    """Of each second, (s, m, n)."""

    limit_millicores: NDArray[np.float32]
    """At its end, NaN where nobody is there."""
    throttled_ratio: NDArray[np.float32]


def no_sums(shape: tuple[int, int]) -> Sums:
    """Returns sums of nothing."""
    return Sums(*(np.zeros(shape) for _ in Sums._fields))


@compiled
def add_stretch(
    sums: Sums,
    means: Means,
    periods: Periods,
    lived: Lived,
    width_usec: FloatArray,
    declared_cores: FloatArray,
    cpus: float,
) -> None:
    """Adds whole seconds, and tells their means.

    Args:
        sums: To which.
        means: Where they are put.
        periods: What came of them.
        lived: What they were like.
        width_usec: (m, n) what a container's threads can do in a period.
        declared_cores: (m, n) its request.
        cpus: Of each node.
    """
    nodes, count = width_usec.shape
    demand = np.empty(count)
    for s in range(lived.exists.shape[0]):
        for node in range(nodes):
            wanted = promised = 0.0
            for c in range(count):
                demand[c] = 0.0
                for i in range(s * PERIODS, (s + 1) * PERIODS):
                    demand[c] += periods.admitted_usec[i, node, c] / _USEC
                wanted += demand[c]
                promised += declared_cores[node, c] if lived.exists[s, c] else 0.0
            possible = min(1.0, cpus / max(wanted, 1e-12))
            kept = min(1.0, cpus / max(promised, 1e-12))
            for c in range(count):
                there = 1.0 if lived.exists[s, c] else 0.0
                usage = limit = request = throttled = starved = 0.0
                for i in range(s * PERIODS, (s + 1) * PERIODS):
                    usage += periods.usage_usec[i, node, c] / _USEC
                    limit += min(lived.limit_millicores[i, node, c], cpus * _MILLI)
                    request += lived.request_millicores[i, node, c]
                    backlog = periods.backlog_usec[i, node, c]
                    if periods.throttled[i, node, c]:
                        throttled += 1
                        sums.throttled_seconds[node, c] += (
                            periods.throttled_usec[i, node, c] / _USEC
                        )
                    elif backlog > 0:
                        idle = max(width_usec[node, c] - periods.usage_usec[i, node, c], 0.0)
                        starved += min(backlog, idle) / _USEC
                    sums.unsent_core_seconds[node, c] += (
                        lived.arrivals_usec[i, node, c] - periods.admitted_usec[i, node, c]
                    ) / _USEC
                reserved = request / (PERIODS * _MILLI) * there
                entitled = min(demand[c], declared_cores[node, c] * there * kept)
                sums.seconds[node, c] += there
                sums.usage_core_seconds[node, c] += usage
                sums.limit_core_seconds[node, c] += limit / (PERIODS * _MILLI) * there
                sums.request_core_seconds[node, c] += reserved
                sums.idle_core_seconds[node, c] += max(reserved - usage, 0.0)
                sums.wall_periods[node, c] += there * PERIODS
                sums.throttled_periods[node, c] += throttled
                sums.demand_core_seconds[node, c] += demand[c]
                sums.useful_core_seconds[node, c] += min(usage, demand[c])
                sums.possible_core_seconds[node, c] += demand[c] * possible
                sums.entitled_core_seconds[node, c] += entitled
                sums.denied_core_seconds[node, c] += max(entitled - usage, 0.0)
                sums.starved_core_seconds[node, c] += starved
                last = lived.limit_millicores[(s + 1) * PERIODS - 1, node, c]
                means.limit_millicores[s, node, c] = last if there > 0 else np.nan
                means.throttled_ratio[s, node, c] = throttled / PERIODS


@compiled
def admit(
    due: BoolArray, has: FloatArray, asked: FloatArray, room_millicores: float, fits: BoolArray
) -> None:
    """Finds out which of the pods that are due fit their node, raises in the order of the pods.

    Args:
        due: (m, p).
        has: (m, p) requests that are admitted, in millicores.
        asked: (m, p) what specs say.
        room_millicores: Of each node.
        fits: (m, p) True; made False where a raise does not fit.
    """
    for node in range(due.shape[0]):
        left = room_millicores
        for pod in range(due.shape[1]):
            falls = due[node, pod] and asked[node, pod] < has[node, pod]
            left -= asked[node, pod] if falls else has[node, pod]
        for pod in range(due.shape[1]):
            rise = asked[node, pod] - has[node, pod]
            if due[node, pod] and rise > 0:
                if rise <= left:
                    left -= rise
                else:
                    fits[node, pod] = False
