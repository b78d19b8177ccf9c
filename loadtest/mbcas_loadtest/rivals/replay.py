"""One system over one recorded series of CPU usage: what it would have set, minute by minute.

The recording is what happens, whatever is set: usage is never cut, and a period counts as throttled
where the recorded usage is above the quota in force. So this shows a system's rule; what its
settings do to the load is for `evaluate`, which closes the loop.

**Time.** A sample holds until the next. A minute without a sample is left out, as if the clock had
stood still (the real recommender's golden vectors were made so); where samples are more than 90 s
apart, every minute has the value of the last one. Nothing is known of the time within a sample.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.rivals.one_number import USEC_PER_MILLICORE_PERIOD
from mbcas_loadtest.rivals.vpa import Vpa
from mbcas_loadtest.simulation.system import Rival, Seen, Settings, System
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, World
from mbcas_loadtest.workloads.traces import Series

MINUTE_SECONDS = 60
MINUTE_PERIODS = MINUTE_SECONDS * PERIODS_PER_SECOND
PERIOD_USEC = 100_000.0
COARSE_SECONDS = 90.0
MIN_CPUS = 4
SHOWN_ROWS = 24
SHOWN_MILLICORES_MAX = 10_000_000
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
    burst_millicores: int
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
    rows = _run(_make(rival, world, value), by_second, declared)
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
    limit = float(applied.limit_millicores[0, 0])
    row = Row(
        samples=samples,
        usage_millicores=round(float(usage.mean()) / USEC_PER_MILLICORE_PERIOD, 3),
        throttled_ratio=throttled / MINUTE_PERIODS,
        request_millicores=round(float(applied.request_millicores[0, 0])),
        limit_millicores=round(limit) if math.isfinite(limit) else None,
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


def to_json(done: Replay) -> dict[str, Any]:
    """Returns the whole run; a row has lower, target and upper only where there are any."""
    found = dataclasses.asdict(done)
    if done.rows and done.rows[0].target is None:
        for row in found["rows"]:
            del row["lower"], row["target"], row["upper"]
    return found


def show(done: Replay, path: Path | None) -> None:
    """Prints some of the minutes, evenly spread, and where all of them are."""
    is_vpa = bool(done.rows) and done.rows[0].target is not None
    is_one_number = all(row.request_millicores == row.limit_millicores for row in done.rows)
    set_names = ["req.=limit"] if is_one_number else ["request", "limit"]
    table = Table()
    bounds = ["lower", "target", "upper"] if is_vpa else []
    for name in ["minute", "usage", "thr.", *set_names, "chg.", *bounds]:
        table.add_column(name, justify="right", no_wrap=True)
    before = 0
    for place in np.unique(np.linspace(0, len(done.rows) - 1, SHOWN_ROWS).round().astype(int)):
        row = done.rows[place]
        changes = sum(each.changes for each in done.rows[before : place + 1])
        before = place + 1
        numbers = [row.limit_millicores]
        if not is_one_number:
            numbers.insert(0, row.request_millicores)
        table.add_row(
            f"{row.samples}",
            f"{row.usage_millicores:.0f}",
            f"{row.throttled_ratio:.0%}",
            *map(_short, numbers),
            f"{changes}",
            *map(_short, [row.lower, row.target, row.upper] if is_vpa else []),
        )
    console = Console()
    console.print(f"{done.rival} (knob {done.knob:g}) over {done.series_id}, in millicores;")
    console.print("thr.: periods above the limit; chg.: changes since the row above")
    console.print(table)
    if path is not None:
        console.print(f"All {len(done.rows)} minutes: {path}", soft_wrap=True)


def _short(millicores: int | None) -> str:
    """Returns a number for a narrow column; the whole one is in the JSON."""
    if millicores is None:
        return "none"
    return f"{millicores}" if millicores < SHOWN_MILLICORES_MAX else f"{millicores:.1e}"
