"""Tower-lite: each minute it chooses the throttle target that was cheapest at such a load.

**Rule** (microsoft/autothrottle, utils.py, class VwTower, commit 9801b9f; NSDI 2024). Each minute
gives a sample: the load at its start, the target that Captain held in it, the P99 delay and the
mean allocation. Its cost is the allocation, scaled to 0..1 among the samples that met the bound of
the delay; for those that missed it, 2 + the delay scaled among these; 0.5 and 2.5 where there is
nothing to scale by. The median cost of each target at each load (there: in steps of 20 requests a
second) trains a contextual bandit, which names the cheapest target; one time in ten a neighbour on
the grid of targets is tried instead.

**Lite.** There, two targets are chosen for two groups of an application's services by its delay
from end to end, after twelve hours of training on its own trace; the bandit is Vowpal Wabbit with
three hidden units. Here each container is an application of its own with one target, a load that
was not seen is taken for the nearest that was (load steps of a factor 1.2), and training is that
each target has its turn in the first ten minutes. Neighbours have their turn every tenth minute, up
and down alternately, in place of a draw. So it is weaker than the original in what it has seen, and
not in what it may do; no claim against Autothrottle follows from it.

**Delay and load** are the application's own metrics, where it exports them: a period's delay is its
backlog by the limit (evaluation.md, section 3), the P99 is over the periods in which work came.
Where it does not, load is usage, and a delay lasts as long as the run of throttled periods. The
bound of the P99 delay is the knob; who runs batch has none.

**Example.** Bound 0.2 s. Minutes at one load: target 0.02, delay 0.1 s, 700m; 0.1, 0.15 s, 500m;
0.3, 0.6 s, 400m. Costs 1, 0 and 2.5: target 0.1.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_SECONDS, BoolArray, FloatArray, IntArray
from mbcas_loadtest.rivals.captain import TARGETS, Captain
from mbcas_loadtest.rivals.kernels import Minute, note_period
from mbcas_loadtest.rivals.one_number import USEC_PER_MILLICORE_PERIOD
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import Declared

MINUTE_PERIODS = 600
TOP_PERIODS = MINUTE_PERIODS // 100 + 1
"""The P99 of any number of periods of a minute is among the highest seven."""
LOAD_STEP = 1.2
EXPLORE_MINUTES = 10
"""One minute in so many is spent on a neighbour: eps = 0.1."""
MAX_SAMPLES = 1440
"""A day, so that memory and time stay bounded; the original keeps all."""
NO_ACTION = -1


class TowerLite:
    """Towers of all containers, one each, over their Captains."""

    interval_periods = 1
    actuation = Actuation.DIRECT

    def __init__(self, declared: Declared, bound_seconds: float) -> None:
        self._captain = Captain(declared, TARGETS[0])
        self._bound_seconds = np.where(np.array(declared.batch), np.inf, bound_seconds)
        self._samples: deque[tuple[IntArray, IntArray, FloatArray, FloatArray]] = deque(
            maxlen=MAX_SAMPLES
        )
        """Load step at the start, number of the target, delay and allocation, (m, n) each."""
        shape = declared.request_millicores.shape
        self.action: IntArray = np.zeros(shape, np.int64)
        """Number of the target that is held."""
        self._load_before: IntArray | None = None
        self._run_periods: FloatArray = np.zeros(shape)
        self._periods = 0
        """Of this minute so far; none are seen while the agent is out of action."""
        self._minute = Minute(
            delays_seconds=np.zeros((MINUTE_PERIODS, *shape), np.float32),
            load_usec=np.zeros(shape),
            limit_millicores=np.zeros(shape),
            is_whole=np.ones(shape, np.bool_),
        )

    def step(self, seen: Seen) -> Settings | None:
        self._observe(seen)
        settings = self._captain.step(seen)
        if seen.period % MINUTE_PERIODS == 0:
            self._end_minute(seen.period // MINUTE_PERIODS)
        return settings

    def _observe(self, seen: Seen) -> None:
        limit = seen.applied.limit_millicores
        slot = (seen.period - 1) % MINUTE_PERIODS
        if seen.admitted_usec is None or seen.backlog_usec is None:
            came = seen.usage_usec[0]
            self._run_periods = np.where(seen.throttled[0], self._run_periods + 1.0, 0.0)
            delay = self._run_periods * CPU_PERIOD_SECONDS
        else:
            came = seen.admitted_usec[0]
            quota = limit * USEC_PER_MILLICORE_PERIOD
            delay = seen.backlog_usec[0] / quota * CPU_PERIOD_SECONDS
        note_period(self._minute, slot, delay, came, limit, seen.exists)
        self._periods += 1

    def _end_minute(self, minute: int) -> None:
        noted = self._minute
        load = noted.load_usec / (self._periods * USEC_PER_MILLICORE_PERIOD)
        step = np.rint(np.log(np.maximum(load, 1.0)) / np.log(LOAD_STEP)).astype(np.int64)
        if self._load_before is not None and self._periods == MINUTE_PERIODS:
            action = np.where(noted.is_whole, self.action, NO_ACTION)
            delay = p99_seconds(noted.delays_seconds)
            mean = noted.limit_millicores / MINUTE_PERIODS
            self._samples.append((self._load_before, action, delay, mean))
        self._load_before = step
        self.action = self._choose(step, minute)
        self._captain.target_ratio = np.array(TARGETS)[self.action]
        noted.load_usec[...] = 0.0
        noted.limit_millicores[...] = 0.0
        noted.is_whole[...] = True
        self._periods = 0

    def _choose(self, step: IntArray, minute: int) -> IntArray:
        """Returns the target's number for the minute that starts."""
        if minute <= len(TARGETS) or not self._samples:
            return np.full(step.shape, (minute - 1) % len(TARGETS), np.int64)
        steps, actions, delays, allocations = (
            np.array(values) for values in zip(*self._samples, strict=True)
        )
        costs = costs_of(delays, allocations, self._bound_seconds, actions != NO_ACTION)
        best = median_costs(np.abs(steps - step), actions, costs).argmin(axis=0)
        turn = (minute + np.arange(step.shape[-1])) % EXPLORE_MINUTES == 0
        side = 1 if minute // EXPLORE_MINUTES % 2 == 0 else -1
        neighbour = best + side
        inside = (neighbour >= 0) & (neighbour < len(TARGETS))
        neighbour = np.where(inside, neighbour, best - side)
        chosen: IntArray = np.where(turn, neighbour, best)
        return chosen


def p99_seconds(delays: NDArray[np.float32]) -> FloatArray:
    """Returns the P99 of a minute's delays (600, m, n), over those that are not below 0."""
    kth = range(MINUTE_PERIODS - TOP_PERIODS, MINUTE_PERIODS)
    top = np.partition(delays, kth, axis=0)[-TOP_PERIODS:]
    above = (delays >= 0.0).sum(axis=0) // 100
    value = np.take_along_axis(top, TOP_PERIODS - 1 - above[np.newaxis], axis=0)[0]
    p99: FloatArray = np.maximum(value.astype(np.float64), 0.0)
    return p99


def costs_of(
    delays: FloatArray, allocations: FloatArray, bound_seconds: FloatArray, valid: BoolArray
) -> FloatArray:
    """Returns the cost of each sample (s, m, n); that of one that is not valid means nothing."""
    met = delays <= bound_seconds
    cheap = _scaled(allocations, met & valid)
    late = 2.0 + _scaled(delays, ~met & valid)
    costs: FloatArray = np.where(met, cheap, late)
    return costs


def _scaled(values: FloatArray, among: BoolArray) -> FloatArray:
    """Returns values scaled to 0..1 among some of axis 0; 0.5 where these are all the same."""
    least = np.where(among, values, np.inf).min(axis=0)
    most = np.where(among, values, -np.inf).max(axis=0)
    is_spread = most > least
    base = np.where(is_spread, least, 0.0)
    span = np.where(is_spread, most, 1.0) - base
    scaled: FloatArray = np.where(is_spread, (values - base) / span, 0.5)
    return scaled


def median_costs(distance: IntArray, actions: IntArray, costs: FloatArray) -> FloatArray:
    """Returns each target's median cost at the nearest load, inf where it was never tried.

    Args:
        distance: Of each sample's load to the one in question, in steps, (s, m, n).
        actions: The samples' targets, `NO_ACTION` where one does not count.
        costs: The samples'; at most 3.

    Returns:
        (targets, m, n).
    """
    far = np.iinfo(np.int64).max
    nearest = np.stack(
        [np.where(actions == one, distance, far).min(axis=0) for one in range(len(TARGETS))]
    )
    known = np.maximum(actions, 0)
    counts = (actions >= 0) & (distance == np.take_along_axis(nearest, known, axis=0))
    # One sort for all targets: their samples lie behind one another.
    ranked = np.sort(np.where(counts, 10.0 * actions + costs, np.inf), axis=0)
    count = np.stack([(counts & (actions == one)).sum(axis=0) for one in range(len(TARGETS))])
    first = np.cumsum(count, axis=0) - count
    last_row = ranked.shape[0] - 1
    low = np.take_along_axis(ranked, np.minimum(first + (count - 1) // 2, last_row), axis=0)
    high = np.take_along_axis(ranked, np.minimum(first + count // 2, last_row), axis=0)
    offset = 10.0 * np.arange(len(TARGETS))[:, np.newaxis, np.newaxis]
    medians: FloatArray = np.where(count > 0, (low + high) / 2 - offset, np.inf)
    return medians


TOWER_LITE = Rival(
    name="tower-lite",
    make=TowerLite,
    knob="bound of the P99 delay in seconds",
    default=0.2,
    sweep=(0.05, 0.1, 0.2, 0.5, 1.0),
    source="microsoft/autothrottle, utils.py, VwTower, commit 9801b9f (NSDI 2024), reduced",
)
