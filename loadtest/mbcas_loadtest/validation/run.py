"""The whole validation: every point measured, replayed and compared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import numpy as np

from mbcas_loadtest.demo.host import prepare_cgroups
from mbcas_loadtest.node import cgroups
from mbcas_loadtest.validation.measure import PRELUDE_SECONDS, Measured, measure
from mbcas_loadtest.validation.points import Point, all_points, draw_requests
from mbcas_loadtest.validation.replay import Compared, compare

FIRST_SEED = 1000
DISTURBED_CPUS = 0.1
"""Where others were busy on more, a point is measured again, whatever came of it: what they do to
its requests is not what is modelled."""
TRIES_MOST = 3
"""Of these the one with the least of others' work counts."""
OVERHEAD_SECONDS = PRELUDE_SECONDS + 0.7
"""Of a point: its prelude, the start of its processes and the work that is left at the end."""


class NoKernelError(Exception):
    """This machine does not let us make CPU cgroups; the message says why and what to do."""


def choose(count: int) -> list[Point]:
    """Returns so many of all points, spread over them; 0: all."""
    points = all_points()
    if count <= 0 or count >= len(points):
        return points
    return [points[round(place)] for place in np.linspace(0, len(points) - 1, count)]


def validate(
    points: Sequence[Point],
    *,
    seconds: float,
    seed: int,
    folder: Path,
    stop: Event,
    tell: Callable[[int, Compared], None],
) -> list[Compared]:
    """Runs the points one after the other.

    Args:
        points: What to run.
        seconds: Of each point.
        seed: Of the first point's work; the others count up.
        folder: For the files of the load.
        stop: Set by whoever wants it to end.
        tell: Called after each point with its place.

    Raises:
        NoKernelError: There is no real kernel to hold the plant against.
        DemoError: The load failed.
        Interrupted: Somebody asked to stop.
    """
    try:
        hierarchy, _ = prepare_cgroups()
    except cgroups.CgroupsUnavailableError as error:
        raise NoKernelError(
            "the plant can only be held against a kernel whose CPU cgroups are writable, and "
            f"here they are not: {error}; try as root, outside of containers"
        ) from error
    results = []
    for place, point in enumerate(points):
        drawn = draw_requests(point, seconds=seconds, seed=seed + place)
        tries: list[Measured] = []
        while not tries or (tries[-1].foreign_cpus > DISTURBED_CPUS and len(tries) < TRIES_MOST):
            measured = measure(
                point, drawn, seconds=seconds, hierarchy=hierarchy, folder=folder, stop=stop
            )
            tries.append(measured)
        calmest = min(tries, key=lambda each: each.foreign_cpus)
        results.append(compare(point, calmest))
        tell(place, results[-1])
    return results
