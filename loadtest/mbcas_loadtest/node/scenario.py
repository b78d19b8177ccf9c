"""The demo's five containers and the work that arrives at them.

Work arrives open-loop: arrivals do not wait for answers. They are drawn ahead from the seed, so
that every phase meets the same ones. A request costs a few milliseconds of CPU; the number of
requests in each slice of 100 ms is Poisson around the rate that the load's shape gives for it.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from mbcas_core.units import MILLICORES_PER_CORE, FloatArray
from mbcas_loadtest.node.kinds import Role

SLICE_SECONDS = 0.1
WORK_SHAPE = 4.0
"""Of the Gamma distribution of a request's cost: its standard deviation is half its mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The same demand all the time."""

    millicores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """A base demand, multiplied in bursts of random start, length and height."""

    base_millicores: float
    ratio_range: tuple[float, float]
    """Of a burst to the base."""
    length_range_seconds: tuple[float, float]
    gap_range_seconds: tuple[float, float]
    """From the end of one burst to the start of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A base demand with a peak at the start of each period."""

    base_millicores: float
    peak_millicores: float
    period_seconds: float
    peak_seconds: float
    offset_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """Rises in a straight line for the first half of a cycle and falls for the second."""

    low_millicores: float
    high_millicores: float
    cycle_seconds: float


Shape = Steady | Bursts | Periodic | Ramp


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What arrives at a container: demand over time, in requests of a mean cost."""

    shape: Shape
    request_seconds: float
    """CPU time of a request, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One container of the demo. Without a load it burns whatever it gets."""

    name: str
    role: Role
    priority_class: str
    load: Load | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Arrivals:
    """Requests in the order of their arrival; entry i of both arrays is the same request."""

    arrival_seconds: FloatArray
    """Since the phase began, ascending."""
    work_seconds: FloatArray
    """CPU time, above 0."""


REFERENCE_NODE_MILLICORES = 1600
"""The node that the loads below are meant for; on another node they are scaled with its size."""

WORKLOADS = (
    Workload(
        name="api",
        role="service",
        priority_class="critical",
        load=Load(
            shape=Bursts(
                base_millicores=70,
                ratio_range=(2.5, 4.0),
                length_range_seconds=(10, 25),
                gap_range_seconds=(10, 40),
            ),
            request_seconds=0.002,
        ),
    ),
    Workload(
        name="checkout",
        role="service",
        priority_class="critical",
        load=Load(
            shape=Periodic(
                base_millicores=85,
                peak_millicores=250,
                period_seconds=40,
                peak_seconds=12,
                offset_seconds=10,
            ),
            request_seconds=0.002,
        ),
    ),
    Workload(
        name="search",
        role="service",
        priority_class="critical",
        load=Load(
            shape=Ramp(low_millicores=85, high_millicores=250, cycle_seconds=120),
            request_seconds=0.003,
        ),
    ),
    Workload(
        name="reports",
        role="idle",
        priority_class="normal",
        load=Load(shape=Steady(millicores=15), request_seconds=0.003),
    ),
    Workload(name="batch", role="batch", priority_class="low", load=None),
)


def draw_arrivals(
    load: Load, *, duration_seconds: float, scale: float, generator: np.random.Generator
) -> Arrivals:
    """Draws the requests of a load over a duration; `scale` multiplies its demand."""
    demand = scale * draw_demand(load.shape, duration_seconds, generator)
    expected = demand * SLICE_SECONDS / MILLICORES_PER_CORE / load.request_seconds
    counts = generator.poisson(expected)
    slices = np.repeat(np.arange(len(counts)), counts)
    arrival_seconds: FloatArray = np.sort((slices + generator.random(len(slices))) * SLICE_SECONDS)
    work_seconds = generator.gamma(
        WORK_SHAPE, load.request_seconds / WORK_SHAPE, size=len(arrival_seconds)
    )
    return Arrivals(arrival_seconds=arrival_seconds, work_seconds=work_seconds)


def draw_demand(
    shape: Shape, duration_seconds: float, generator: np.random.Generator
) -> FloatArray:
    """Draws the expected demand in millicores of each slice of a duration."""
    slice_count = round(duration_seconds / SLICE_SECONDS)
    seconds: FloatArray = np.arange(slice_count, dtype=np.float64) * SLICE_SECONDS
    match shape:
        case Steady():
            return np.full(len(seconds), float(shape.millicores))
        case Bursts():
            return _draw_bursts(shape, seconds, generator)
        case Periodic():
            in_peak = (seconds - shape.offset_seconds) % shape.period_seconds < shape.peak_seconds
            return np.where(in_peak, float(shape.peak_millicores), float(shape.base_millicores))
        case Ramp():
            position = (seconds / shape.cycle_seconds) % 1.0
            height = 1.0 - np.abs(2.0 * position - 1.0)
            low, high = shape.low_millicores, shape.high_millicores
            ramp: FloatArray = low + (high - low) * height
            return ramp
        case _:
            assert_never(shape)


def _draw_bursts(shape: Bursts, seconds: FloatArray, generator: np.random.Generator) -> FloatArray:
    ratio = np.ones(len(seconds))
    end = len(seconds) * SLICE_SECONDS
    start = generator.uniform(0.0, shape.gap_range_seconds[1])
    while start < end:
        stop = start + generator.uniform(*shape.length_range_seconds)
        ratio[(seconds >= start) & (seconds < stop)] = generator.uniform(*shape.ratio_range)
        start = stop + generator.uniform(*shape.gap_range_seconds)
    demand: FloatArray = shape.base_millicores * ratio
    return demand
