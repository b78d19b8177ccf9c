"""Adds up what came of a run, a stretch of whole seconds at a time."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import (
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    USEC_PER_SECOND,
    BoolArray,
    FloatArray,
)
from mbcas_loadtest.plant.batch import Periods
from mbcas_loadtest.plant.delays import DelayMeter
from mbcas_loadtest.simulation.actuation import COUNTED, Channel
from mbcas_loadtest.simulation.outcome import Phase, Series
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World

SETTLED_SECONDS = 300
SETTLED_RATIO = 0.10
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

    def cut(self, seconds: slice) -> "Stretch":
        """Returns some of its seconds; views."""
        first, last = seconds.start, seconds.stop
        own = slice(first * PERIODS_PER_SECOND, last * PERIODS_PER_SECOND)
        kept = {key.name: getattr(self.periods, key.name)[own] for key in fields(Periods)}
        return Stretch(
            second=self.second + first,
            periods=Periods(**kept),
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
        self._width_usec = world.threads * CPU_PERIOD_USEC
        self._meter = DelayMeter(
            world.shape, threads=world.threads, request_usec=world.request_usec
        )
        self._sums: dict[str, FloatArray] = {}
        self._start: dict[str, FloatArray] = {}
        self._phases: list[Phase] = []
        self._series_node = series_node
        self._rows: list[NDArray[np.float32]] = []
        shape = (world.seconds, *world.shape)
        self._limit: NDArray[np.float32] = np.full(shape, np.nan, np.float32)
        self._throttled: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._begin()

    def add(self, stretch: Stretch) -> None:
        """Takes the next seconds in; `end_phase` comes between two stretches."""
        self._meter.add(stretch.periods)
        periods, there = stretch.periods, stretch.exists[:, np.newaxis, :]
        usage = _by_second(periods.usage_usec) / USEC_PER_SECOND
        demand = _by_second(periods.admitted_usec) / USEC_PER_SECOND
        throttled = _by_second(periods.throttled)
        limit = np.minimum(stretch.limit_millicores, self._cpus * MILLICORES_PER_CORE)
        given = _mean_cores(limit) * there
        reserved = _mean_cores(stretch.request_millicores) * there
        useful = np.minimum(usage, demand)
        entitled = np.minimum(demand, self._entitle(stretch.exists))
        all_demand = demand.sum(axis=-1, keepdims=True)
        possible = demand * np.minimum(1.0, self._cpus / np.maximum(all_demand, 1e-12))
        waits = (periods.backlog_usec > 0) & ~periods.throttled
        idle_width = np.maximum(self._width_usec - periods.usage_usec, 0.0)
        starved = np.where(waits, np.minimum(periods.backlog_usec, idle_width), 0.0)
        self._put(
            seconds=np.broadcast_to(there, usage.shape),
            usage_core_seconds=usage,
            limit_core_seconds=given,
            request_core_seconds=reserved,
            idle_core_seconds=np.maximum(reserved - usage, 0.0),
            wall_periods=np.broadcast_to(there * PERIODS_PER_SECOND, usage.shape),
            throttled_periods=throttled,
            throttled_seconds=periods.throttled_usec / USEC_PER_SECOND,
            demand_core_seconds=demand,
            useful_core_seconds=useful,
            possible_core_seconds=possible,
            entitled_core_seconds=entitled,
            denied_core_seconds=np.maximum(entitled - usage, 0.0),
            unsent_core_seconds=(stretch.arrivals_usec - periods.admitted_usec) / USEC_PER_SECOND,
            starved_core_seconds=starved / USEC_PER_SECOND,
        )
        own = slice(stretch.second, stretch.second + len(usage))
        last = stretch.limit_millicores[PERIODS_PER_SECOND - 1 :: PERIODS_PER_SECOND]
        self._limit[own] = np.where(there, last, np.nan)
        self._throttled[own] = throttled / PERIODS_PER_SECOND
        if self._series_node is not None:
            self._keep(stretch, usage, demand)

    def end_phase(self, channel: Channel) -> None:
        """Ends the warm-up, and in the end the run."""
        sums = {key.name: self._sums[key.name] for key in fields(Phase) if key.name in self._sums}
        sums |= {name: self._meter.quantile_seconds(at) for name, at in QUANTILES.items()}
        counted = channel.counted() | {"changes": channel.in_force.changes.copy()}
        sums |= {name: now - self._start.get(name, 0.0) for name, now in counted.items()}
        self._start = counted
        self._phases.append(Phase(**sums))
        self._meter.clear()
        self._begin()

    def phases(self) -> list[Phase]:
        """Returns the phases that have ended."""
        return list(self._phases)

    def settling_seconds(self, tau_ratio: float) -> FloatArray:
        """See `Outcome.settling_seconds`."""
        return find_settling_seconds(self._limit, self._throttled, tau_ratio)

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

    def _begin(self) -> None:
        known = {key.name for key in fields(Phase)} - {*QUANTILES, *COUNTED, "changes"}
        self._sums = {name: np.zeros(self._world.shape) for name in known}

    def _put(self, **seconds: NDArray[np.generic]) -> None:
        for name, values in seconds.items():
            self._sums[name] += values.sum(axis=0, dtype=np.float64)

    def _entitle(self, exists: BoolArray) -> FloatArray:
        """Returns the cores (s, m, n) that declared requests promise, if a node has so many."""
        declared = self._world.declared.request_millicores / MILLICORES_PER_CORE
        cores = exists[:, np.newaxis, :] * declared
        promised = cores.sum(axis=-1, keepdims=True)
        entitled: FloatArray = cores * np.minimum(1.0, self._cpus / np.maximum(promised, 1e-12))
        return entitled

    def _keep(self, stretch: Stretch, usage: FloatArray, demand: FloatArray) -> None:
        node = self._series_node
        last = slice(PERIODS_PER_SECOND - 1, None, PERIODS_PER_SECOND)
        rows = (
            usage[:, node] * MILLICORES_PER_CORE,
            demand[:, node] * MILLICORES_PER_CORE,
            stretch.limit_millicores[last, node],
            stretch.request_millicores[last, node],
            _by_second(stretch.periods.throttled)[:, node] / PERIODS_PER_SECOND,
            stretch.periods.backlog_usec[last, node] / USEC_PER_SECOND,
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


def _slide(best: np.ufunc, values: FloatArray) -> FloatArray:
    """Returns the best of each window of SETTLED_SECONDS entries, by doubling windows."""
    size = 1
    while 2 * size <= SETTLED_SECONDS:
        values = best(values[:-size], values[size:])
        size *= 2
    rest = SETTLED_SECONDS - size
    return best(values[:-rest], values[rest:]) if rest else values


def _by_second(periods: NDArray[np.generic]) -> FloatArray:
    """Returns the sums (s, m, n) of each second."""
    by_second = periods.reshape(-1, PERIODS_PER_SECOND, *periods.shape[1:])
    total: FloatArray = by_second.sum(axis=1, dtype=np.float64)
    return total


def _mean_cores(millicores: FloatArray) -> FloatArray:
    mean: FloatArray = _by_second(millicores) / (PERIODS_PER_SECOND * MILLICORES_PER_CORE)
    return mean
