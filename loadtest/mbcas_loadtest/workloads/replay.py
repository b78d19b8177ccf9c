"""Worlds and scenarios that replay a recorded series, one container a node.

A CPU series is taken as demand: what was used is what was wanted, unless a limit was in the way,
which no recording says. Request series go through a service model: Poisson arrivals, Gamma cost.
Samples are held until the next one, never interpolated: a series of 60 s says nothing about bursts
of seconds, and whatever happens within a sample here is the noise model's. Each seed begins at a
random time from which on no sample is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import assert_never

import numpy as np

from mbcas_core.units import (
    CPU_PERIOD_SECONDS,
    MILLICORES_PER_CORE,
    USEC_PER_SECOND,
    FloatArray,
)
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World
from mbcas_loadtest.workloads.loads import Samples
from mbcas_loadtest.workloads.noise import GammaWork, Noise, PoissonRequests
from mbcas_loadtest.workloads.parts import CVS, draw_request_usec
from mbcas_loadtest.workloads.rates import load_series
from mbcas_loadtest.workloads.scenario import (
    HOUR_SECONDS,
    Container,
    Dice,
    Node,
    Scenario,
    Tier,
    draw_world,
)
from mbcas_loadtest.workloads.traces import Series, TraceError, Unit

BURST_SAMPLE_SECONDS_MAX = 15.0
"""A series with longer samples shows nothing of what a control loop of seconds answers to."""
LEVEL_MEAN_MILLICORES = 1_000.0
HEADROOM_RATIO = 1.25
"""What is declared, over the highest sample: somebody sized it by its peak."""
THREADS_MIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is modelled around a series."""

    scale: float = 1.0
    """Times the recorded CPU or rate."""
    cv: float | None = None
    """Of 100 ms of work around a CPU series; None: drawn, as in the scenarios."""
    request_usec: float = 5_000.0
    """Mean CPU time of a request of a request series."""
    cost_cv: float = 1.0
    """Its standard deviation over its mean, above 0."""


def trace_world(
    path: Path,
    series_id: str,
    seeds: Sequence[int],
    *,
    seconds: int = HOUR_SECONDS,
    service: Service | None = None,
) -> World:
    """Returns a world in which node i replays the series from a time drawn with seeds[i].

    Raises:
        TraceError: The series cannot be used, or has no such stretch without a gap.
    """
    scenario = trace_scenario(path, series_id, seconds=seconds, service=service)
    return draw_world(scenario, seeds)


def trace_scenario(
    path: Path, series_id: str, *, seconds: int = HOUR_SECONDS, service: Service | None = None
) -> Scenario:
    """Returns the scenario of a series.

    Raises:
        TraceError: The series cannot be used.
    """
    series = load_series(path, series_id)
    around = service or Service()
    return Scenario(
        name=f"trace:{series_id}",
        tier=Tier.RECORDED,
        title=f"{series_id}, {series.unit} every {series.sample_seconds:g} s",
        shows="what a system makes of a load that was recorded",
        modelled=describe(series.unit, series.sample_seconds, around),
        seconds=seconds,
        draw_node=partial(
            draw_recorded, path=path, series_id=series_id, service=around, stretch_seconds=seconds
        ),
    )


def describe(unit: Unit, sample_seconds: float, service: Service) -> str:
    """Returns what of a replay is measured and what is modelled."""
    every = f"one value every {sample_seconds:g} s"
    requests = f"Poisson arrivals, {service.request_usec:g} us of CPU each, CV {service.cost_cv:g}"
    match unit:
        case "cpu_millicores":
            cv = "drawn" if service.cv is None else f"{service.cv:g}"
            measured = f"CPU usage, {every}, taken as demand"
            modelled = f"Gamma work within a sample, CV of 100 ms {cv}"
        case "rps":
            measured, modelled = f"requests per second, {every}", requests
        case "level":
            measured, modelled = f"the shape of the load, {every}", f"its scale, {requests}"
        case _:
            assert_never(unit)
    text = f"measured: {measured}; modelled: {modelled}"
    if service.scale != 1.0:
        text += f", everything times {service.scale:g}"
    if sample_seconds > BURST_SAMPLE_SECONDS_MAX:
        text += f"; says nothing about bursts shorter than {sample_seconds:g} s"
    return text


def draw_recorded(
    dice: Dice, seconds: int, *, path: Path, series_id: str, service: Service, stretch_seconds: int
) -> Node:
    """Draws the one container of a node; the trace is read at the first draw.

    Raises:
        TraceError: The trace cannot be used.
    """
    series = load_series(path, series_id)
    generator = dice.of_container(0)
    # Where a world begins does not depend on how much of it is drawn.
    begin_seconds = _draw_begin(generator, series, max(seconds, stretch_seconds))
    millicores = _millicores(series, service)
    noise = _draw_noise(generator, series, service)
    if isinstance(noise, PoissonRequests):
        request_usec = noise.request_usec
    else:
        request_usec = draw_request_usec(generator, float(millicores.mean()), noise.cv)
    peak = max(float(millicores.max()), 10.0)
    threads = max(THREADS_MIN, int(np.ceil(peak * 2.0 / MILLICORES_PER_CORE)))
    one = Container(
        name=series_id.rsplit("/", 1)[-1],
        load=_hold(series, millicores, begin_seconds, seconds),
        noise=noise,
        request_millicores=peak * HEADROOM_RATIO,
        limit_millicores=peak * HEADROOM_RATIO,
        threads=threads,
        request_usec=request_usec,
    )
    return Node(containers=(one,), cpus=threads)


def _millicores(series: Series, service: Service) -> FloatArray:
    match series.unit:
        case "cpu_millicores":
            factor = 1.0
        case "rps":
            factor = service.request_usec / USEC_PER_SECOND * MILLICORES_PER_CORE
        case "level":
            factor = LEVEL_MEAN_MILLICORES / max(float(series.values.mean()), 1e-9)
        case _:
            assert_never(series.unit)
    millicores: FloatArray = series.values * (factor * service.scale)
    return millicores


def _draw_noise(generator: np.random.Generator, series: Series, service: Service) -> Noise:
    if series.unit == "cpu_millicores":
        drawn = CVS[generator.integers(len(CVS))]
        return GammaWork(cv=drawn if service.cv is None else service.cv)
    return PoissonRequests(request_usec=service.request_usec, cost_cv=service.cost_cv)


def _draw_begin(generator: np.random.Generator, series: Series, seconds: int) -> float:
    """Returns a time from which on the series has no gap for so long."""
    starts = np.array([series.t_seconds[0], *(gap.to_seconds for gap in series.gaps)])
    last = float(series.t_seconds[-1]) + series.sample_seconds
    ends = np.array([*(gap.from_seconds + series.sample_seconds for gap in series.gaps), last])
    room = ends - starts - seconds
    if (room < 0).all():
        where = f"{series.path}:{series.gaps[0].line}: t_seconds" if series.gaps else series.path
        raise TraceError(
            f"{where}: {series.series_id} has no {seconds} s without a gap, "
            f"{float((ends - starts).max()):g} s at most: ask for fewer seconds"
        )
    # In proportion to the room, so that every possible beginning is as likely as any other.
    room = np.where(room < 0, 0.0, room + 1e-9)
    up_to = np.cumsum(room)
    at = float(generator.uniform(0.0, up_to[-1]))
    stretch = int(np.searchsorted(up_to, at, side="right").clip(max=room.size - 1))
    return float(starts[stretch] + at - (up_to[stretch] - room[stretch]))


def _hold(series: Series, millicores: FloatArray, begin_seconds: float, seconds: int) -> Samples:
    """Returns each period's value: the sample that was the last one when it began."""
    periods = seconds * PERIODS_PER_SECOND
    times = begin_seconds + np.arange(periods) / PERIODS_PER_SECOND
    at = np.searchsorted(series.t_seconds, times, side="right") - 1
    return Samples(millicores=millicores[np.maximum(at, 0)], sample_seconds=CPU_PERIOD_SECONDS)
