"""Adds up what came of a run, a stretch of whole seconds at a time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import (
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    USEC_PER_SECOND,
    BoolArray,
    FloatArray,
)
from mbcas_loadtest.plant.delays import DelayMeter
from mbcas_loadtest.plant.kernels import Periods
from mbcas_loadtest.simulation.actuation import Channel
from mbcas_loadtest.simulation.kernels import Lived, Means, add_stretch, no_sums
from mbcas_loadtest.simulation.outcome import Phase, Series
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

SETTLED_SECONDS = 300
SETTLED_RATIO = 0.10
PEAK_RATIO = 0.10
"""Share of a container's seconds that are its peak."""
QUANTILES = {"delay_p50_seconds": 0.5, "delay_p99_seconds": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Stretch:
    """Whole seconds of a run: 10 s periods of m nodes."""

    second: int
    """Of the world, at its start."""
    periods: Periods
    arrivals_usec: FloatArray
    """(10 s, m, n) what would have arrived, had every closed loop sent it."""
    limit_millicores: FloatArray
    """(10 s, m, n) in force."""
    request_millicores: FloatArray
    exists: BoolArray
    """(s, n)."""

    def cut(self, first: int, last: int) -> "Stretch":
        """Returns the whole seconds from one of its periods to another; views."""
        own = slice(first, last)
        seconds = slice(first // PERIODS_PER_SECOND, last // PERIODS_PER_SECOND)
        return Stretch(
            second=self.second + seconds.start,
            periods=Periods(**{name: getattr(self.periods, name)[own] for name in Periods._fields}),
            arrivals_usec=self.arrivals_usec[own],
            limit_millicores=self.limit_millicores[own],
            request_millicores=self.request_millicores[own],
            exists=self.exists[seconds],
        )


class Tally:
    """The sums of one run."""

    def __init__(self, world: World, *, series_node: int | None) -> None:
        self._world = world
        self._cpus = float(world.declared.cpus)
        self._width_usec = np.ascontiguousarray(world.threads * CPU_PERIOD_USEC, np.float64)
        self._meter = DelayMeter(
            world.shape, threads=world.threads, request_usec=world.request_usec
        )
        self._start: dict[str, FloatArray] = {}
        self._phases: list[Phase] = []
        self._series_node = series_node
        self._rows: list[NDArray[np.float32]] = []
        shape = (world.seconds, *world.shape)
        self._limit: NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        self._throttled: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._demand: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._sums = no_sums(world.shape)
        self._declared_cores = np.ascontiguousarray(
            world.declared.request_millicores / MILLICORES_PER_CORE + np.zeros(world.shape)
        )

    def add(self, stretch: Stretch) -> None:
        """Takes the next seconds in; `end_phase` comes between two stretches."""
        self._meter.add(stretch.periods)
        own = slice(stretch.second, stretch.second + len(stretch.exists))
        self._demand[own] = _by_second(stretch.arrivals_usec)
        add_stretch(
            self._sums,
            Means(self._limit[own], self._throttled[own]),
            stretch.periods,
            Lived(
                stretch.arrivals_usec,
                stretch.limit_millicores,
                stretch.request_millicores,
                np.ascontiguousarray(stretch.exists),
            ),
            self._width_usec,
            self._declared_cores,
            self._cpus,
        )
        if self._series_node is not None:
            self._keep(stretch, self._series_node)

    def forget(self, gone: BoolArray) -> None:
        """Drops the requests that wait in containers (m, n) that are gone."""
        self._meter.forget(gone)

    def end_phase(self, channel: Channel) -> None:
        """Ends the warm-up, and in the end the run."""
        sums = self._sums._asdict()
        sums |= {name: self._meter.quantile_seconds(at) for name, at in QUANTILES.items()}
        counted = channel.counted() | {"changes": channel.in_force.changes.copy()}
        sums |= {name: now - self._start.get(name, 0.0) for name, now in counted.items()}
        self._start = counted
        self._phases.append(Phase(**sums))
        self._meter.clear()
        self._sums = no_sums(self._world.shape)

    def phases(self) -> list[Phase]:
        """Returns the phases that have ended."""
        return list(self._phases)

    def settling_seconds(self, tau_ratio: float) -> FloatArray:
        """See `Outcome.settling_seconds`."""
        return find_settling_seconds(self._limit, self._throttled, tau_ratio)

    def peak_throttled_ratio(self) -> FloatArray:
        """See `Outcome.peak_throttled_ratio`."""
        measured = slice(self._world.warmup_seconds, None)
        there = ~np.isnan(self._limit[measured])
        return find_peak_throttled_ratio(self._demand[measured], self._throttled[measured], there)

    def series(self) -> Series | None:
        """Returns the series of the node that is watched."""
        if self._series_node is None:
            return None
        kept = np.concatenate(self._rows, axis=1)
        return Series(
            node=self._series_node,
            usage_millicores=kept[0],
            demand_millicores=kept[1],
            limit_millicores=kept[2],
            request_millicores=kept[3],
            throttled_ratio=kept[4],
            backlog_core_seconds=kept[5],
        )

    def _keep(self, stretch: Stretch, node: int) -> None:
        last = slice(PERIODS_PER_SECOND - 1, None, PERIODS_PER_SECOND)
        periods = stretch.periods
        rows = (
            _by_second(periods.usage_usec[:, node]) / USEC_PER_SECOND * MILLICORES_PER_CORE,
            _by_second(periods.admitted_usec[:, node]) / USEC_PER_SECOND * MILLICORES_PER_CORE,
            stretch.limit_millicores[last, node],
            stretch.request_millicores[last, node],
            _by_second(periods.throttled[:, node]) / PERIODS_PER_SECOND,
            periods.backlog_usec[last, node] / USEC_PER_SECOND,
        )
        self._rows.append(np.stack([row.astype(np.float32) for row in rows]))


def find_settling_seconds(
    limit: NDArray[np.floating], throttled_ratio: NDArray[np.floating], tau_ratio: float
) -> FloatArray:
    """Returns when each limit has settled: see `Outcome.settling_seconds`.

    Args:
        limit: (seconds, ...) NaN where the container is not there.
        throttled_ratio: (seconds, ...).
        tau_ratio: Most throttling over the five minutes.
    """
    seconds, rest = limit.shape[0], limit.shape[1:]
    starts = seconds - SETTLED_SECONDS + 1
    if starts <= 0:
        return np.full(rest, np.nan)
    finite: FloatArray = np.where(np.isnan(limit), np.inf, np.minimum(limit, 1e9))
    highest, lowest = _slide(np.maximum, finite), _slide(np.minimum, finite)
    total = np.cumsum(throttled_ratio, axis=0, dtype=np.float64)
    total = np.concatenate([np.zeros((1, *rest)), total])
    mean = (total[SETTLED_SECONDS:] - total[:-SETTLED_SECONDS]) / SETTLED_SECONDS
    now = finite[:starts]
    settled = (highest <= now * (1.0 + SETTLED_RATIO)) & (lowest >= now * (1.0 - SETTLED_RATIO))
    settled &= (mean <= tau_ratio + 1e-9) & np.isfinite(highest)
    first: FloatArray = np.argmax(settled, axis=0).astype(np.float64)
    return np.where(settled.any(axis=0), first, np.nan)


def find_peak_throttled_ratio(
    demand: NDArray[np.floating], throttled_ratio: NDArray[np.floating], there: BoolArray
) -> FloatArray:
    """Returns how throttled each container is at its peak: see `Outcome.peak_throttled_ratio`.

    Args:
        demand: (seconds, m, n) not below 0.
        throttled_ratio: (seconds, m, n).
        there: (seconds, m, n) which seconds count.
    """
    nodes, count = demand.shape[1:]
    result: FloatArray = np.full((nodes, count), np.nan)
    for node, c in np.ndindex(nodes, count):  # One at a time: a copy of all would be large.
        own = there[:, node, c]
        wanted = demand[own, node, c]
        if len(wanted):
            rank = len(wanted) - math.ceil(len(wanted) * PEAK_RATIO)
            least = np.partition(wanted, rank)[rank]
            peak = throttled_ratio[own, node, c][wanted >= least]
            result[node, c] = peak.mean(dtype=np.float64)
    return result


def _slide(best: np.ufunc, values: FloatArray) -> FloatArray:
    """Returns the best of each window of SETTLED_SECONDS entries, by doubling windows."""
    size = 1
    while 2 * size <= SETTLED_SECONDS:
        values = best(values[:-size], values[size:])
        size *= 2
    rest = SETTLED_SECONDS - size
    return best(values[:-rest], values[rest:]) if rest else values


def _by_second(periods: NDArray[np.generic]) -> FloatArray:
    """Returns the sums (s, n) of each second."""
    by_second = periods.reshape(-1, PERIODS_PER_SECOND, *periods.shape[1:])
    total: FloatArray = by_second.sum(axis=1, dtype=np.float64)
    return total
