"""Whether a point holds, and in which regions the plant may be quoted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from mbcas_core.units import CPU_PERIOD_USEC, MILLICORES_PER_CORE
from mbcas_loadtest.validation.points import Point
from mbcas_loadtest.validation.replay import Compared

Endpoint = Literal["throttled", "usage", "delay"]
ENDPOINTS: tuple[Endpoint, ...] = ("throttled", "usage", "delay")
THROTTLED_MOST = 0.02
USAGE_MOST_RATIO = 0.02
DELAY_MOST_RATIO = 0.2
DELAY_MOST_SECONDS = 0.010
LOW_UTILISATION = 0.75
SMALL_BOUNDS_MILLICORES = (30, 75, 150)
LARGE_REQUEST_SHARE = 0.25
"""Of the quota."""
_MS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """How far plant and kernel are apart in one endpoint; plant minus kernel."""

    endpoint: Endpoint
    by: float
    allowed: float

    @property
    def is_missed(self) -> bool:
        return not abs(self.by) <= self.allowed  # NaN misses.

    @property
    def words(self) -> str:
        match self.endpoint:
            case "throttled":
                return f"throttled {self.by * 100:+.1f} points"
            case "usage":
                return f"usage {self.by:+.1%}"
            case "delay":
                return f"P99 {self.by * _MS_PER_SECOND:+.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Points whose fate is shared: where one of them misses an endpoint, none is quoted on it."""

    name: str
    points: int
    worst: tuple[Off, ...]
    """Of each endpoint that a point of it misses, the worst."""

    @property
    def words(self) -> str:
        """What is off and by how much; empty where nothing is."""
        return ", ".join(off.words for off in self.worst)


def judge(compared: Compared) -> tuple[Off, ...]:
    """Returns all endpoints of a point."""
    kernel, plant = compared.kernel, compared.plant
    return (
        Off(
            endpoint="throttled",
            by=plant.throttled_share - kernel.throttled_share,
            allowed=THROTTLED_MOST,
        ),
        Off(
            endpoint="usage",
            by=plant.usage_millicores / kernel.usage_millicores - 1,
            allowed=USAGE_MOST_RATIO,
        ),
        Off(
            endpoint="delay",
            by=plant.p99_seconds - kernel.p99_seconds,
            allowed=max(DELAY_MOST_SECONDS, DELAY_MOST_RATIO * kernel.p99_seconds),
        ),
    )


def region_name(point: Point) -> str:
    """Returns the region of a point: where the plant differs for the same reasons."""
    threads = "1 thread" if point.threads == 1 else "more threads"
    burst = "burst = quota" if point.has_burst else "no burst"
    quota_usec = point.quota_millicores * CPU_PERIOD_USEC / MILLICORES_PER_CORE
    if len(point.quota_factors) > 1:
        return f"quota changed in flight, {threads}, {burst}"
    for bound_millicores in SMALL_BOUNDS_MILLICORES:
        if point.quota_millicores <= bound_millicores:
            return f"quota up to {bound_millicores}m"
    if point.request_usec > LARGE_REQUEST_SHARE * quota_usec:
        return f"requests above a quarter of the quota, {threads}"
    return f"{_load_name(point.utilisation)}, {threads}, {burst}"


def regions(judged: Iterable[tuple[Point, Iterable[Off]]]) -> list[Region]:
    """Returns the regions of points, given how far each of them is off."""
    found: dict[str, list[list[Off]]] = {}
    for point, offs in judged:
        missed = [off for off in offs if off.is_missed]
        found.setdefault(region_name(point), []).append(missed)
    return [
        Region(name=name, points=len(points), worst=tuple(_worst(chain.from_iterable(points))))
        for name, points in found.items()
    ]


def _worst(missed: Iterable[Off]) -> Iterator[Off]:
    offs = list(missed)
    for endpoint in ENDPOINTS:
        same = [off for off in offs if off.endpoint == endpoint]
        if same:
            yield max(same, key=lambda off: abs(off.by) / off.allowed)


def _load_name(utilisation: float) -> str:
    if utilisation <= LOW_UTILISATION:
        return f"use up to {LOW_UTILISATION:g} of the quota"
    return "use up to all of the quota" if utilisation <= 1 else "use above the quota"
