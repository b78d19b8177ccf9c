"""A measured point again in the model, and how far the two are apart."""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import (
    CPU_PERIOD_SECONDS,
    CPU_PERIOD_USEC,
    MILLICORES_PER_CORE,
    USEC_PER_SECOND,
    BoolArray,
    FloatArray,
)
from mbcas_loadtest.plant.batch import Plant, Quota
from mbcas_loadtest.plant.delays import DelayMeter
from mbcas_loadtest.plant.requests import Write, serve_requests
from mbcas_loadtest.validation.measure import Measured
from mbcas_loadtest.validation.points import Point

PRELUDE_PERIODS = 15
DRAIN_PERIODS = 400
"""After the last measured period: what waited is served, so that every delay is known."""
SAMPLES = 16
"""A point has few periods: how many requests are followed should not add to what is off."""
QUOTA_USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the kernel, or of a model of it, over the periods that were measured."""

    throttled_share: float
    usage_millicores: float
    p50_seconds: float
    p99_seconds: float
    throttled_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A point and what became of it."""

    point: Point
    kernel: Figures
    plant: Figures
    """The simulation's plant: work by period."""
    requests: Figures
    """The same arithmetic request by request, which knows when in a period work arrives."""
    periods: int
    periods_kernel_only: int
    """Throttled in the kernel and not in the plant."""
    periods_plant_only: int
    foreign_cpus: float
    """CPUs that others were busy on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class _Story:
    """What happened, on the kernel's clock: 0 is PRELUDE_PERIODS before the first measured one."""

    arrival_usec: FloatArray
    work_usec: FloatArray
    counted: BoolArray
    """Requests that arrived in the measured periods."""
    writes: list[Write]
    periods: int
    """Prelude and measured ones."""


def compare(point: Point, measured: Measured) -> Compared:
    """Replays what arrived and compares what came of it."""
    story = _tell(point, measured)
    throttled = np.diff([sample.nr_throttled for sample in measured.samples]) > 0
    used = measured.samples[-1].usage_usec - measured.samples[0].usage_usec
    lost = measured.samples[-1].throttled_usec - measured.samples[0].throttled_usec
    delays = measured.done_seconds - measured.requests.arrival_seconds
    kernel = _figures(throttled, used, lost, delays[-len(story.counted) :][story.counted])
    plant, plant_throttled = _run_plant(point, story)
    return Compared(
        point=point,
        kernel=kernel,
        plant=plant,
        requests=_run_requests(point, story),
        periods=len(throttled),
        periods_kernel_only=int((throttled & ~plant_throttled).sum()),
        periods_plant_only=int((~throttled & plant_throttled).sum()),
        foreign_cpus=measured.foreign_cpus,
    )


def _tell(point: Point, measured: Measured) -> _Story:
    zero_seconds = measured.first_seconds - PRELUDE_PERIODS * CPU_PERIOD_SECONDS
    arrival = (measured.requests.arrival_seconds - zero_seconds) * USEC_PER_SECOND
    is_told = arrival >= 0
    periods = PRELUDE_PERIODS + len(measured.samples) - 1
    arrival = arrival[is_told]
    quotas = [write.quota_millicores * QUOTA_USEC_PER_MILLICORE for write in measured.writes]
    return _Story(
        arrival_usec=arrival,
        work_usec=measured.requests.work_usec[is_told],
        counted=(arrival >= PRELUDE_PERIODS * CPU_PERIOD_USEC)
        & (arrival < periods * CPU_PERIOD_USEC),
        writes=[
            Write(
                at_usec=max(0.0, (write.at_seconds - zero_seconds) * USEC_PER_SECOND),
                quota_usec=quota,
                burst_usec=quota if point.has_burst else 0.0,
            )
            for write, quota in zip(measured.writes, quotas, strict=True)
        ],
        periods=periods,
    )


def _run_plant(point: Point, story: _Story) -> tuple[Figures, BoolArray]:
    count = story.periods + DRAIN_PERIODS
    arrived = (story.arrival_usec / CPU_PERIOD_USEC).astype(np.int64)
    work: FloatArray = np.zeros(count)
    work += np.bincount(arrived, weights=story.work_usec, minlength=count)[:count]
    quota, written, write_share = np.zeros(count), np.zeros(count, np.bool_), np.zeros(count)
    for write in story.writes:
        start, write_share_here = divmod(write.at_usec / CPU_PERIOD_USEC, 1)
        place = int(start)
        quota[place:] = write.quota_usec
        written[place] = place > 0
        write_share[place] = write_share_here
    plant = Plant(
        (1, 1), cpus=point.threads, threads=point.threads, request_usec=point.request_usec
    )
    meter = DelayMeter(
        (1, 1), threads=point.threads, request_usec=point.request_usec, samples=SAMPLES
    )
    first, last = PRELUDE_PERIODS, story.periods
    # Measured periods' work alone has its delays counted: the drain has work of none of them.
    work[last:] = 0.0
    parts = []
    for start, stop in ((0, first), (first, last), (last, count)):
        part = slice(start, stop)
        setting = quota[part, np.newaxis, np.newaxis]
        periods = plant.run(
            work[part, np.newaxis, np.newaxis],
            Quota(
                quota_usec=setting,
                burst_usec=setting * point.has_burst,
                written=written[part, np.newaxis, np.newaxis],
                write_share=write_share[part],
            ),
        )
        meter.add(periods)
        if stop == first:
            meter.clear()
        parts.append(periods)
    measured = parts[1]
    throttled = measured.throttled[:, 0, 0]
    return (
        Figures(
            throttled_share=float(throttled.mean()),
            usage_millicores=float(measured.usage_usec.mean()) / QUOTA_USEC_PER_MILLICORE,
            p50_seconds=float(meter.quantile_seconds(0.5)[0, 0]),
            p99_seconds=float(meter.quantile_seconds(0.99)[0, 0]),
            throttled_seconds=float(measured.throttled_usec.sum()) / USEC_PER_SECOND,
        ),
        throttled,
    )


def _run_requests(point: Point, story: _Story) -> Figures:
    outcome = serve_requests(
        story.arrival_usec,
        story.work_usec,
        story.writes,
        threads=point.threads,
        count=story.periods,
    )
    return _figures(
        outcome.throttled[PRELUDE_PERIODS:],
        outcome.usage_usec[PRELUDE_PERIODS:].sum(),
        outcome.throttled_usec[PRELUDE_PERIODS:].sum(),
        (outcome.done_usec - story.arrival_usec)[story.counted] / USEC_PER_SECOND,
    )


def _figures(
    throttled: BoolArray, used_usec: float, lost_usec: float, delays_seconds: FloatArray
) -> Figures:
    return Figures(
        throttled_share=float(throttled.mean()),
        usage_millicores=used_usec / len(throttled) / QUOTA_USEC_PER_MILLICORE,
        p50_seconds=float(np.quantile(delays_seconds, 0.5)),
        p99_seconds=float(np.quantile(delays_seconds, 0.99)),
        throttled_seconds=lost_usec / USEC_PER_SECOND,
    )
