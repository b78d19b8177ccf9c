"""The points at which the plant is held against the kernel, and the work at each."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from mbcas_core.units import CPU_PERIOD_SECONDS, CPU_PERIOD_USEC, FloatArray

UTILISATIONS = (0.5, 0.75, 0.95, 1.1)
VARIATIONS = (0.1, 0.3, 0.5)
QUOTA_MILLICORES = {1: 400, 2: 800}
"""Of one thread and of two."""
CHANGES = ((1, 0.75, (1.0, 1.5)), (1, 0.6, (1.0, 0.6)), (1, 0.9, (1.0, 1.0)), (2, 0.6, (1.0, 0.6)))
"""Threads, utilisation at the first quota, and quotas as its factors; equal: written anew."""
CHANGE_SECONDS = 1.53
"""Of no simple ratio to the period, so writes fall anywhere in it."""
SMALL_MILLICORES = (20, 50, 100)
REQUEST_USEC = 4_000
LARGE_REQUEST_USEC = 25_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is run."""

    utilisation: float
    """Mean work by the quota."""
    variation: float
    """Standard deviation of the work of 100 ms by its mean."""
    has_burst: bool
    """A burst as large as the quota, or none."""
    threads: int
    quota_millicores: int
    request_usec: float = REQUEST_USEC
    quota_factors: tuple[float, ...] = (1.0,)
    """Taken in turn, each for CHANGE_SECONDS; one: the quota stays."""
    group: str = "grid"

    @property
    def name(self) -> str:
        burst = "burst" if self.has_burst else "no burst"
        changed = (
            ""
            if len(self.quota_factors) == 1
            else " x " + "/".join(f"{factor:g}" for factor in self.quota_factors)
        )
        return (
            f"{self.quota_millicores}m{changed}, {self.threads} thr, {burst}, "
            f"use {self.utilisation:g}, CV {self.variation:g}, req {self.request_usec / 1000:g} ms"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Requests:
    """In the order of their arrival."""

    arrival_seconds: FloatArray
    work_usec: FloatArray


def all_points() -> list[Point]:
    """Returns the grid, then what lies beside it: changed quotas, small ones, large requests."""
    grid = [
        Point(
            utilisation=utilisation,
            variation=variation,
            has_burst=has_burst,
            threads=threads,
            quota_millicores=QUOTA_MILLICORES[threads],
        )
        for threads, has_burst, variation, utilisation in product(
            (1, 2), (False, True), VARIATIONS, UTILISATIONS
        )
    ]
    changed = [
        Point(
            utilisation=utilisation,
            variation=0.3,
            has_burst=has_burst,
            threads=threads,
            quota_millicores=QUOTA_MILLICORES[threads],
            quota_factors=factors,
            group="changed",
        )
        for has_burst, (threads, utilisation, factors) in product((False, True), CHANGES)
    ]
    small = [
        Point(
            utilisation=0.75,
            variation=0.3,
            has_burst=False,
            threads=1,
            quota_millicores=millicores,
            request_usec=1_000,
            group="small",
        )
        for millicores in SMALL_MILLICORES
    ]
    large = [
        Point(
            utilisation=0.75,
            variation=0.3,
            has_burst=False,
            threads=threads,
            quota_millicores=QUOTA_MILLICORES[threads],
            request_usec=LARGE_REQUEST_USEC,
            group="large requests",
        )
        for threads in (1, 2)
    ]
    return [*grid, *changed, *small, *large]


def draw_requests(point: Point, *, seconds: float, seed: int) -> Requests:
    """Draws Gamma work for each 100 ms and splits it into requests that arrive anywhere in it."""
    generator = np.random.default_rng(seed)
    periods = int(seconds / CPU_PERIOD_SECONDS)
    mean_usec = point.utilisation * point.quota_millicores * CPU_PERIOD_USEC / 1000
    shape = 1 / point.variation**2
    work_usec = generator.gamma(shape, mean_usec / shape, size=periods)
    counts = np.maximum(1, np.rint(work_usec / point.request_usec)).astype(np.int64)
    starts = np.repeat(np.arange(periods), counts)
    arrival = np.sort((starts + generator.random(len(starts))) * CPU_PERIOD_SECONDS)
    return Requests(arrival_seconds=arrival, work_usec=np.repeat(work_usec / counts, counts))
