"""Captain of Autothrottle: a limit that holds a container at a share of throttled periods.

**Rule** (microsoft/autothrottle, worker-daemon.py, class CaptainScaler, commit d237d7f; NSDI 2024).
Every 100 ms a period's throttling and usage are taken in. Every second, with `ratio` the share of
its periods that were throttled and `target` the knob:

    margin = max(0, margin + ratio - target)                       from 3
    ratio > 3 target:  limit = limit (1 + ratio - 3 target)
    otherwise:         proposal = peak + margin x deviation        of the last 50 periods
                       proposal <= 0.9 limit:  limit = max(limit / 2, proposal), a cut

In any period of the second after a cut, if ratio > 3 target by then (ten periods count, throttled
or not yet over), the cut is undone and repaid: limit = 2 x the limit before the cut - limit, margin
grows by ratio - target, and the second's count starts anew. The deviation is the sample's (n - 1),
over periods before the container's first too, which count as unused. Least limit: 10m.

**Ours.** A container starts from what was declared (there: 1 core, in its experiments all 32), and
no limit exceeds the node, where it would change nothing but the waste. `captain` writes as at its
home. `captain-api` gets the same ten periods once a second, as MBCAS's shim reports them, and sends
what it wants through the API. It starts each step from the limit in force, and may find a cut wrong
in the two steps after that came into force. The next PATCH of a pod goes out 3 s after the one that
brought the cut, so the undoing stays wanted until it is in force, for 5 s at most; until then
nothing else is wanted of that container, but its margin goes on with every second. (Taking each
wish for granted, it cut on from limits that were never tried: on bursts it wasted several points
more at the same throttling.)

**Example.** Target 0.1, limit 1000m, a first second at 200m, nothing throttled: margin 2.9,
deviation 80.8m (of 40 zeros and ten times 200m), proposal 434m, so limit 500m. Four of the next ten
periods throttled: 0.4 > 0.3 at the fourth, limit 2 x 1000 - 500 = 1500m, margin 3.2.
"""

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.rivals.kernels import Watched, watch_periods
from mbcas_loadtest.rivals.one_number import (
    FLOOR_MILLICORES,
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

TARGETS = (0.0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3)
"""evaluation.py, `tower_targets`."""
HISTORY_PERIODS = 50
FIRST_MARGIN = 3.0
CUT_RATIO = 0.9
"""A proposal above this share of the limit is left alone."""
LEAST_RATIO = 0.5
"""No cut leaves less than this share of the limit."""
ALARM_FACTOR = 3.0
WATCH_STEPS = 2
"""Through the API: the second in which a cut came into force, and the one after it."""
UNDO_STEPS = 5
"""Through the API: for so long an undoing stays wanted that is not in force."""


class Captain:
    """Captains of all containers."""

    interval_periods = 1
    actuation = Actuation.DIRECT

    def __init__(self, declared: Declared, target_ratio: float) -> None:
        self._first_millicores = declared_millicores(declared)
        self._most_millicores = max(declared.cpus * 1000.0, FLOOR_MILLICORES)
        shape = self._first_millicores.shape
        self.target_ratio: FloatArray = np.full(shape, target_ratio)
        """May be set at any time."""
        self.limit_millicores = self._first_millicores
        self._before_millicores = self.limit_millicores
        """Before the cut that may have to be undone."""
        self.margin: FloatArray = np.full(shape, FIRST_MARGIN)
        self._is_cut: BoolArray = np.zeros(shape, np.bool_)
        self._throttled: IntArray = np.zeros(shape, np.int64)
        """Periods, of this second or since a rollback in it."""
        self._usage_usec: FloatArray = np.zeros((HISTORY_PERIODS, *shape))
        self._next = 0
        """Where the next usage goes."""

    def step(self, seen: Seen) -> Settings | None:
        is_changed = self._take_in(seen)
        if is_changed:
            self._roll_back()
        if seen.period % PERIODS_PER_SECOND == 0:
            self._decide()
            is_changed = True
        if not seen.exists.all():
            self._forget(~seen.exists)
            is_changed = True
        return one_number(self.limit_millicores, is_whole=False) if is_changed else None

    def _take_in(self, seen: Seen) -> bool:
        """Returns True where somebody's cut is to be undone."""
        watched = Watched(
            usage_usec=self._usage_usec,
            throttled=self._throttled,
            is_cut=self._is_cut,
            alarm_ratio=ALARM_FACTOR * self.target_ratio,
        )
        is_alarming = watch_periods(watched, seen.usage_usec, seen.throttled, self._next)
        self._next = (self._next + len(seen.usage_usec)) % HISTORY_PERIODS
        return is_alarming

    def _roll_back(self) -> BoolArray | None:
        """Returns whose cut is undone, None: nobody's."""
        ratio = self._throttled / PERIODS_PER_SECOND
        bad = self._is_cut & (ratio > ALARM_FACTOR * self.target_ratio)
        if not bad.any():
            return None
        repaid = 2.0 * self._before_millicores - self.limit_millicores
        self.limit_millicores = np.where(bad, self._within(repaid), self.limit_millicores)
        self.margin = np.where(bad, self.margin + (ratio - self.target_ratio), self.margin)
        self._throttled[bad] = 0
        self._is_cut = self._is_cut & ~bad
        return bad

    def _decide(self) -> None:
        ratio = self._throttled / PERIODS_PER_SECOND
        limit = self.limit_millicores
        self.margin = np.maximum(0.0, self.margin + (ratio - self.target_ratio))
        excess = ratio - ALARM_FACTOR * self.target_ratio
        used = self._usage_usec
        proposal = used.max(axis=0) + used.std(axis=0, ddof=1) * self.margin
        proposal /= USEC_PER_MILLICORE_PERIOD
        is_alarm = excess > 0.0
        self._is_cut = ~is_alarm & (proposal <= CUT_RATIO * limit)
        cut = np.where(self._is_cut, np.maximum(LEAST_RATIO * limit, proposal), limit)
        wanted = np.where(is_alarm, limit * (1.0 + np.maximum(excess, 0.0)), cut)
        self._before_millicores = limit
        self.limit_millicores = self._within(wanted)
        self._throttled[...] = 0

    def _forget(self, gone: BoolArray) -> None:
        """Whoever comes next in these places starts anew."""
        self.limit_millicores = np.where(gone, self._first_millicores, self.limit_millicores)
        self.margin = np.where(gone, FIRST_MARGIN, self.margin)
        self._is_cut = self._is_cut & ~gone
        self._throttled[gone] = 0
        self._usage_usec[:, gone] = 0.0

    def _within(self, millicores: FloatArray) -> FloatArray:
        within: FloatArray = np.clip(millicores, FLOOR_MILLICORES, self._most_millicores)
        return within


class CaptainApi(Captain):
    """The same through the API, where a wish comes true later, or not at all."""

    interval_periods = PERIODS_PER_SECOND
    actuation = Actuation.API

    def __init__(self, declared: Declared, target_ratio: float) -> None:
        super().__init__(declared, target_ratio)
        self._in_force_millicores = self.limit_millicores
        self._watch_steps: IntArray = np.zeros(self.margin.shape, np.int64)
        """How many more steps a cut that came into force may be undone in."""
        self._undo_millicores = self.limit_millicores
        self._undo_steps: IntArray = np.zeros(self.margin.shape, np.int64)
        """How many more steps that is wanted in, this one included; 0: nothing is to be undone."""

    def step(self, seen: Seen) -> Settings | None:
        self._take_in(seen)
        self._find_cuts(seen)
        before = self._before_millicores
        self._keep_undoing(self._roll_back())
        self._decide()
        self._before_millicores = before  # A cut counts from when it is in force.
        is_undoing = self._undo_steps > 0
        self.limit_millicores = np.where(is_undoing, self._undo_millicores, self.limit_millicores)
        if not seen.exists.all():
            self._forget(~seen.exists)
            self._undo_steps[~seen.exists] = 0
        return one_number(self.limit_millicores)

    def _keep_undoing(self, undone: BoolArray | None) -> None:
        """Notes whose cut is undone now, and who need not be waited for any more."""
        is_met = self._in_force_millicores == one_number(self._undo_millicores).limit_millicores
        self._undo_steps = np.where(is_met, 0, np.maximum(self._undo_steps - 1, 0))
        if undone is not None:
            self._undo_millicores = np.where(undone, self.limit_millicores, self._undo_millicores)
            self._undo_steps[undone] = UNDO_STEPS
            self._watch_steps[undone] = 0

    def _find_cuts(self, seen: Seen) -> None:
        """Takes what is in force for the limit, and what fell since the last step for cuts."""
        applied = seen.applied.limit_millicores
        now = np.where(np.isfinite(applied), applied, self.limit_millicores)
        before = self._in_force_millicores
        fell = now < before
        self._before_millicores = np.where(fell, before, self._before_millicores)
        left = np.where(now == before, np.maximum(self._watch_steps - 1, 0), 0)
        self._watch_steps = np.where(fell, WATCH_STEPS, left)
        self._is_cut = self._watch_steps > 0
        self._in_force_millicores = self.limit_millicores = now


_SOURCE = "microsoft/autothrottle, worker-daemon.py, CaptainScaler, commit d237d7f (NSDI 2024)"
CAPTAIN = Rival(
    name="captain",
    make=Captain,
    knob="throttle target",
    default=0.06,
    sweep=TARGETS,
    source=_SOURCE,
)
CAPTAIN_API = Rival(
    name="captain-api",
    make=CaptainApi,
    knob="throttle target",
    default=0.06,
    sweep=TARGETS,
    source=f"{_SOURCE}; through the Kubernetes API with one report a second",
)
