"""Recommenders that somebody runs once and applies: KRR and Crane.

Both look at the past (`past`; 24 hours here, 14 and 7 days there), set requests once, and never
look again. They have two goods: neither sets a CPU limit.

- KRR (robusta-dev/krr, `robusta_krr/strategies/simple.py`): request = p95 of the usage (older
  versions p99), no limit, at least 100 points. It samples every 75 s, here every minute; that it
  asks for at least 10m is remembered.
- Crane (gocrane/crane, `pkg/recommendation/recommender/resource` and `pkg/prediction/percentile`):
  request = p99 x 1.15, where p99 is the upper end of a bucket of 0.1 core in a histogram with a
  half-life of 24 h, up to 100 cores. The limit stays as declared.

Worked: usage that is always 0.25 core gives 250m with KRR and 345m with Crane.
"""

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.rivals.one_number import FLOOR_MILLICORES
from mbcas_loadtest.rivals.past import past_minutes_millicores
from mbcas_loadtest.rivals.static import Fixed
from mbcas_loadtest.rivals.vpa_histogram import DAY_SECONDS
from mbcas_loadtest.simulation.system import Rival, Settings
from mbcas_loadtest.simulation.world import World

KRR_POINTS = 100
CRANE_BUCKET_MILLICORES = 100.0
CRANE_MAX_MILLICORES = 100_000.0
CRANE_MARGIN_RATIO = 0.15
CRANE_HALF_LIFE_MINUTES = 24 * 60.0


def krr_millicores(past_millicores: FloatArray, percentile: float) -> FloatArray:
    """Returns requests (m, n) from usage (minutes, m, n); NaN where there are too few points."""
    points = np.count_nonzero(~np.isnan(past_millicores), axis=0)
    known = np.where(points >= KRR_POINTS, past_millicores, 0.0)
    wanted = np.nanpercentile(known, percentile, axis=0)
    request: FloatArray = np.ceil(np.maximum(wanted, FLOOR_MILLICORES))
    return np.where(points >= KRR_POINTS, request, np.nan)


def crane_millicores(past_millicores: FloatArray, percentile: float) -> FloatArray:
    """Returns requests (m, n) from usage (minutes, m, n), the latest last."""
    minutes = past_millicores.shape[0]
    weight = 2.0 ** (np.arange(minutes) / CRANE_HALF_LIFE_MINUTES)
    weights = np.where(np.isnan(past_millicores), 0.0, weight[:, np.newaxis, np.newaxis])
    usage = np.nan_to_num(past_millicores)
    order = np.argsort(usage, axis=0)
    running = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    short = np.count_nonzero(running < percentile * running[-1], axis=0)
    place = np.minimum(short, minutes - 1)[np.newaxis]
    value = np.take_along_axis(np.take_along_axis(usage, order, axis=0), place, axis=0)[0]
    buckets = np.floor(np.minimum(value, CRANE_MAX_MILLICORES) / CRANE_BUCKET_MILLICORES) + 1
    request: FloatArray = np.ceil(buckets * CRANE_BUCKET_MILLICORES * (1 + CRANE_MARGIN_RATIO))
    return request


def _krr(world: World, knob: float) -> Fixed:
    declared = world.declared.request_millicores
    wanted = krr_millicores(past_minutes_millicores(world, seconds=DAY_SECONDS), knob)
    return _set_once(
        world, np.where(np.isnan(wanted), declared, wanted), np.full(wanted.shape, np.inf)
    )


def _crane(world: World, knob: float) -> Fixed:
    request = crane_millicores(past_minutes_millicores(world, seconds=DAY_SECONDS), knob)
    limit = world.declared.limit_millicores.astype(np.float64)
    # A request above the limit would be refused; whoever applies it raises both.
    return _set_once(world, request, np.where(limit > 0, np.maximum(limit, request), np.inf))


def _set_once(world: World, request: FloatArray, limit: FloatArray) -> Fixed:
    fitting = np.minimum(request, world.declared.cpus * 1000.0)
    return Fixed(
        Settings(
            request_millicores=fitting,
            limit_millicores=limit,
            burst_millicores=np.zeros_like(fitting),
        )
    )


KRR = Rival(
    name="krr",
    make_with_truth=_krr,
    knob="cpu-percentile",
    default=95.0,
    sweep=(100.0, 99.0, 95.0, 90.0, 75.0, 50.0),
    source="robusta-dev/krr, robusta_krr/strategies/simple.py",
    goods=2,
)
CRANE = Rival(
    name="crane",
    make_with_truth=_crane,
    knob="cpu-request-percentile",
    default=0.99,
    sweep=(1.0, 0.99, 0.95, 0.9, 0.75, 0.5),
    source="gocrane/crane, pkg/recommendation/recommender/resource",
    goods=2,
)
