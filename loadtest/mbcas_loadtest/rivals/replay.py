"""One system over one recorded series of CPU usage: what it would have set, minute by minute.

The recording is what happens, whatever is set: usage is never cut, and a period counts as throttled
where the recorded usage is above the quota in force. So this shows a system's rule; what its
settings do to the load is for `evaluate`, which closes the loop. MBCAS itself works on reports and
confirmations, so it lives through the simulation, with the recording as demand.

**Time.** A sample holds until the next. A minute without a sample is left out, as if the clock had
stood still (the real recommender's golden vectors were made so); where samples are more than 90 s
apart, every minute has the value of the last one. Nothing is known of the time within a sample.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.progress import track

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.rivals.one_number import USEC_PER_MILLICORE_PERIOD
from mbcas_loadtest.rivals.vpa import Vpa
from mbcas_loadtest.simulation.mbcas import CoreSystem
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.system import Rival, Seen, Settings, System
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, World
from mbcas_loadtest.workloads.traces import Series

MINUTE_SECONDS = 60
MINUTE_PERIODS = MINUTE_SECONDS * PERIODS_PER_SECOND
PERIOD_USEC = 100_000.0
COARSE_SECONDS = 90.0
MIN_CPUS = 4
MODELLED = "usage is measured; that it is spread evenly within each sample is modelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is in force after a minute, and what was seen in it; millicores."""

    samples: int
    """Minutes so far, this one included."""
    usage_millicores: float
    throttled_ratio: float
    request_millicores: int
    limit_millicores: int | None
    """None where there is no limit."""
    burst_millicores: int | None
    """None where the simulation does not keep it."""
    changes: int
    """How often request or limit was set anew within the minute."""
    lower: int | None = None
    """This and the next two are of the recommender of VPA."""
    target: int | None = None
    upper: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A system's run over a series."""

    rival: str
    knob: float
    trace: str
    series_id: str
    declared_millicores: int
    closed_loop: bool
    """Usage is what was served; otherwise what was recorded."""
    rows: tuple[Row, ...]


def replay(
    rival: Rival,
    series: Series,
    *,
    knob: float | None = None,
    declared_millicores: int | None = None,
    minutes: int | None = None,
    progress_to: TextIO | None = None,
) -> Replay:
    """Runs the system over the series.

    Args:
        rival: From the catalog.
        series: In millicores.
        knob: Its knob; its default where left out.
        declared_millicores: Request and limit of the manifest; the highest sample where left out.
        minutes: Only so many.
        progress_to: Where to show how far it is, if anywhere.
    """
    assert series.unit == "cpu_millicores", "others need a service model"
    by_second = usage_by_second(series)
    if minutes is not None:
        by_second = by_second[:minutes]
    highest = math.ceil(series.values.max() / 10) * 10
    declared = max(declared_millicores or highest, 10)
    world = _world(series.series_id, by_second, declared)
    value = rival.default if knob is None else knob
    system = _make(rival, world, value)
    is_core = isinstance(system, CoreSystem)
    rows = _simulate(rival, world, value) if is_core else _run(system, by_second, declared)
    if progress_to is not None:
        console = Console(file=progress_to)
        total = by_second.shape[0]
        rows = iter(track(rows, "replaying", total=total, console=console, transient=True))
    return Replay(
        rival=rival.name,
        knob=value,
        trace=series.path.name,
        series_id=series.series_id,
        declared_millicores=declared,
        closed_loop=is_core,
        rows=tuple(rows),
    )


def usage_by_second(series: Series) -> FloatArray:
    """Returns millicores (minutes, 60)."""
    start = math.floor(series.t_seconds[0] / MINUTE_SECONDS) * MINUTE_SECONDS
    sample_minute: IntArray = ((series.t_seconds - start) // MINUTE_SECONDS).astype(np.int64)
    is_coarse = series.sample_seconds > COARSE_SECONDS
    end = series.t_seconds[0] - start + series.duration_seconds
    count = int(end // MINUTE_SECONDS) if is_coarse else int(sample_minute[-1]) + 1
    seconds = (start + np.arange(count * MINUTE_SECONDS)).reshape(count, MINUTE_SECONDS)
    place = np.searchsorted(series.t_seconds, seconds, side="right") - 1
    if is_coarse:
        return _held(series, place)
    # A minute begins with its own first sample: the one before belongs to another minute's mean.
    first = np.searchsorted(sample_minute, np.arange(count), side="left")
    is_known = first < np.searchsorted(sample_minute, np.arange(count), side="right")
    return _held(series, np.maximum(place, first[:, np.newaxis])[is_known])


def _held(series: Series, place: IntArray) -> FloatArray:
    held: FloatArray = series.values[np.clip(place, 0, series.values.size - 1)]
    return held


def _world(name: str, by_second: FloatArray, declared: int) -> World:
    """Returns a node with this one container, and room for all that is asked for it."""
    cpus = max(MIN_CPUS, math.ceil(1.5 * max(by_second.max(), declared) / 1000.0))
    usec = (by_second.ravel() * USEC_PER_MILLICORE_PERIOD).astype(np.float32)
    one = np.ones((1, 1))
    return World(
        scenario=f"replay:{name}",
        seeds=(0,),
        declared=Declared(
            names=(name,),
            pod=np.zeros(1, np.int64),
            request_millicores=np.full((1, 1), declared),
            limit_millicores=np.full((1, 1), declared),
            priority=(PriorityClass.NORMAL,),
            cpus=cpus,
            batch=(False,),
        ),
        arrivals_usec=np.repeat(usec, PERIODS_PER_SECOND)[:, np.newaxis, np.newaxis],
        threads=one * cpus,
        max_backlog_usec=one * np.inf,
        request_usec=one * 1000.0,
        exists=np.ones((by_second.size, 1), np.bool_),
        warmup_seconds=0,
        modelled=MODELLED,
    )


def _make(rival: Rival, world: World, knob: float) -> System:
    if rival.make is not None:
        return rival.make(world.declared, knob)
    assert rival.make_with_truth is not None, f"{rival.name} cannot be made"
    return rival.make_with_truth(world, knob)


def _simulate(rival: Rival, world: World, knob: float) -> Iterator[Row]:
    """Lives through the world and yields what is true after each minute."""
    lived = simulate(world, rival, knob, settings=RunSettings(series_node=0)).series
    assert lived is not None, "it was asked for"
    limit, request = lived.limit_millicores[:, 0], lived.request_millicores[:, 0]
    is_new = (np.diff(limit, prepend=limit[:1]) != 0) | (np.diff(request, prepend=request[:1]) != 0)
    for end in range(MINUTE_SECONDS, limit.size + 1, MINUTE_SECONDS):
        minute = slice(end - MINUTE_SECONDS, end)
        yield Row(
            samples=end // MINUTE_SECONDS,
            usage_millicores=round(float(lived.usage_millicores[minute, 0].mean()), 3),
            throttled_ratio=float(lived.throttled_ratio[minute, 0].mean()),
            request_millicores=round(float(request[end - 1])),
            limit_millicores=_whole(float(limit[end - 1])),
            burst_millicores=None,
            changes=int(np.count_nonzero(is_new[minute])),
        )


def _whole(millicores: float) -> int | None:
    return round(millicores) if math.isfinite(millicores) else None


def _run(system: System, by_second: FloatArray, declared: int) -> Iterator[Row]:
    """Asks the system whenever it wants to be asked, and yields what is true after each minute."""
    usage = np.repeat(by_second.ravel() * USEC_PER_MILLICORE_PERIOD, PERIODS_PER_SECOND)
    number = np.full((1, 1), float(declared))
    applied = Settings(
        request_millicores=number, limit_millicores=number, burst_millicores=np.zeros((1, 1))
    )
    interval = system.interval_periods
    throttled = changes = 0
    done = minute_end = 0
    while done < usage.size:
        # Steps end where the system wants, minutes where the clock says: whichever comes first.
        minute_end = done // MINUTE_PERIODS * MINUTE_PERIODS + MINUTE_PERIODS
        step_end = done // interval * interval + interval
        until = min(minute_end, step_end, usage.size)
        quota = float(applied.limit_millicores[0, 0]) * USEC_PER_MILLICORE_PERIOD
        throttled += int(np.count_nonzero(usage[done:until] > quota))
        if until == step_end:
            seen = _seen(usage[until - interval : until], until, applied)
            wanted = system.step(seen)
            if wanted is not None and not _is_same(wanted, applied):
                applied, changes = wanted, changes + 1
        done = until
        if done == minute_end:
            minute = usage[done - MINUTE_PERIODS : done]
            yield _row(system, minute, applied, done // MINUTE_PERIODS, throttled, changes)
            throttled = changes = 0


def _seen(usage_usec: FloatArray, period: int, applied: Settings) -> Seen:
    """Returns what an agent would have measured under the settings at the step's end."""
    usage = usage_usec[:, np.newaxis, np.newaxis]
    quota = applied.limit_millicores * USEC_PER_MILLICORE_PERIOD
    throttled = usage > quota
    # From where an even use of the period reaches the quota until the period ends.
    ran_ratio = np.where(throttled, quota, usage) / np.maximum(usage, 1e-9)
    return Seen(
        period=period,
        usage_usec=usage,
        throttled=throttled,
        throttled_usec=np.where(throttled, PERIOD_USEC * (1.0 - ran_ratio), 0.0),
        timer_ran=usage > 0,
        bursts=np.zeros_like(throttled),
        applied=applied,
        exists=np.ones((1, 1), np.bool_),
        admitted_usec=usage,
        backlog_usec=np.zeros_like(usage),
    )


def _is_same(left: Settings, right: Settings) -> bool:
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in dataclasses.fields(Settings)
    )


def _row(  # noqa: PLR0917 - each is a column.
    system: System, usage: FloatArray, applied: Settings, samples: int, throttled: int, changes: int
) -> Row:
    row = Row(
        samples=samples,
        usage_millicores=round(float(usage.mean()) / USEC_PER_MILLICORE_PERIOD, 3),
        throttled_ratio=throttled / MINUTE_PERIODS,
        request_millicores=round(float(applied.request_millicores[0, 0])),
        limit_millicores=_whole(float(applied.limit_millicores[0, 0])),
        burst_millicores=round(float(applied.burst_millicores[0, 0])),
        changes=changes,
    )
    if not isinstance(system, Vpa):
        return row
    found = system.recommendation
    return dataclasses.replace(
        row,
        lower=round(float(found.lower[0, 0])),
        target=round(float(found.target[0, 0])),
        upper=round(float(found.upper[0, 0])),
    )
