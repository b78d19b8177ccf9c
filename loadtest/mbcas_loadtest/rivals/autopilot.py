"""Google's Autopilot: limits from histograms of 1 s usage, by a moving window or by an ensemble.

After "Autopilot: workload autoscaling at Google" (EuroSys 2020), sections 3.2.2 and 3.2.3. The
paper was not at hand: its rules are taken from evaluation.md and from notes and re-implementations
by others, which agree. 400 buckets, 1 s samples and 5-minute windows are confirmed there; the
percentile, half-life, margin and the maximum of the last hour are remembered. The weights of the
ensemble were never published: they are ours.

**Time.** Autopilot knows days, a run here lasts an hour. Everything is 12 times as fast: windows
of 25 s for 5 minutes, a half-life of 1 h for 12 h, the last 5 minutes for the last hour.

**Window.** With b[k] the upper end of bucket k and s[k] the samples in it, decayed by half-lives,

    serving:  limit = 1.15 x the percentile of h[k] = b[k] s[k]     (weighted by load)
    batch:    limit = 1.15 x the mean

and what is set is the highest such limit of the last hour.

**Ensemble.** A model has a decay d and a margin M. It keeps, for every limit L, the decayed cost of

    w x share of samples above L (over-run)  +  mean of (L - usage)+ / L (slack),

wants the L of least cost, switches only where that saves more than a change costs, and adds M. Each
model is charged, in each window, what its limit of the window before would have cost; the cheapest
model sets the limit, again with a price on changing model and limit. In the paper the second term
counts samples below L, so both would add up to a constant and any w above 1 would always choose the
highest limit; with the slack there is something to weigh.

**Knob.** The margin of the window, and one that the ensemble gets on top of its models' (0 there):
samples of 1 s do not show what is throttled within 100 ms, so neither the percentile nor w can buy
as little throttling as others have.
"""

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.rivals.one_number import (
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

FASTER = 12
WINDOW_SECONDS = 300 // FASTER
HALF_LIFE_SECONDS = 12 * 3600 / FASTER
PUBLISHED_WINDOWS = 12  # An hour of 5-minute windows.
PERCENTILE = 0.98
MARGIN_RATIO = 0.15  # 10 to 15 %.
OVERRUN_WEIGHT = 10.0
BUCKETS = 400
MAX_MILLICORES = 1_000_000.0
_RATIO = MAX_MILLICORES ** (1 / (BUCKETS - 1))
UPPER_ENDS_MILLICORES: FloatArray = _RATIO ** np.arange(BUCKETS, dtype=np.float64)
"""From 1m to 1000 cores, 3.5 % apart; how the original spaces its buckets is not known."""

DECAYS = (0.02, 0.1, 0.4)
"""Weight of the latest window: memories of about 20 minutes, 4 minutes and 1 minute."""
MARGIN_BUCKETS = (0, 4, 10)
"""Margins of 0, 15 and 41 %."""
COST_DECAY = 0.1
LIMIT_CHANGE_COST = 0.02
MODEL_CHANGE_COST = 0.02


def bucket_of(millicores: FloatArray) -> IntArray:
    """Returns the first bucket whose upper end is no less."""
    exponent = np.log(np.maximum(millicores, 1.0)) / np.log(_RATIO)
    bucket: IntArray = np.minimum(np.ceil(exponent - 1e-9), BUCKETS - 1).astype(np.int64)
    return bucket


class _Windows:
    """Makes the histogram of each window."""

    interval_periods = WINDOW_SECONDS * PERIODS_PER_SECOND
    actuation = Actuation.API

    def __init__(self, declared: Declared) -> None:
        self.shape = declared.request_millicores.shape[0], declared.request_millicores.shape[1]
        self._row = np.arange(np.prod(self.shape)).reshape(self.shape) * BUCKETS

    def samples(self, seen: Seen) -> FloatArray:
        """Returns the mean usage of each second (seconds, m, n) in millicores."""
        seconds = seen.usage_usec.reshape(WINDOW_SECONDS, PERIODS_PER_SECOND, *self.shape)
        samples: FloatArray = seconds.mean(axis=1) / USEC_PER_MILLICORE_PERIOD
        return samples

    def histogram(self, samples_millicores: FloatArray, seen: Seen) -> FloatArray:
        """Returns how many samples fall into each bucket, (m, n, BUCKETS)."""
        places = self._row + bucket_of(samples_millicores)
        counts = np.bincount(places.ravel(), minlength=self._row.size * BUCKETS)
        there = seen.exists[..., np.newaxis]
        histogram: FloatArray = np.where(there, counts.reshape(*self.shape, BUCKETS), 0.0)
        return histogram


class AutopilotWindow(_Windows):
    """The moving window."""

    def __init__(
        self, declared: Declared, margin_ratio: float, *, percentile: float = PERCENTILE
    ) -> None:
        super().__init__(declared)
        self._margin_ratio, self._percentile = margin_ratio, percentile
        self._is_batch = np.array(declared.batch)
        self._histogram = np.zeros((*self.shape, BUCKETS))
        self._usage_sum = np.zeros(self.shape)
        self._declared = declared_millicores(declared)
        self._latest = np.zeros((PUBLISHED_WINDOWS, *self.shape))
        self._next = 0

    def step(self, seen: Seen) -> Settings | None:
        """Adds a window and publishes the highest limit of the last hour."""
        samples = self.samples(seen)
        kept = 2.0 ** (-WINDOW_SECONDS / HALF_LIFE_SECONDS)
        with np.errstate(under="ignore"):  # What is forgotten may vanish.
            self._histogram *= kept
            self._usage_sum *= kept
        self._histogram += self.histogram(samples, seen)
        self._usage_sum += np.where(seen.exists, samples.sum(axis=0), 0.0)
        self._latest[self._next] = self._limit()
        self._next = (self._next + 1) % PUBLISHED_WINDOWS
        highest = self._latest.max(axis=0)
        return one_number(np.where(highest > 0, highest, self._declared))

    def _limit(self) -> FloatArray:
        """Returns what the latest window asks for, 0 where nothing was seen yet."""
        load = np.cumsum(self._histogram * UPPER_ENDS_MILLICORES, axis=-1)
        total = load[..., -1:]
        place = np.count_nonzero(load < self._percentile * total, axis=-1)
        serving = UPPER_ENDS_MILLICORES[np.minimum(place, BUCKETS - 1)]
        count = self._histogram.sum(axis=-1)
        mean = self._usage_sum / np.maximum(count, 1e-9)
        limit = np.where(self._is_batch, mean, serving) * (1 + self._margin_ratio)
        wanted: FloatArray = np.where(count > 0, limit, 0.0)
        return wanted


class AutopilotEnsemble(_Windows):
    """The cheapest of nine models, three decays and three margins each."""

    def __init__(
        self,
        declared: Declared,
        margin_ratio: float,
        *,
        overrun_weight: float = OVERRUN_WEIGHT,
    ) -> None:
        super().__init__(declared)
        self._margin_ratio, self._overrun_weight = margin_ratio, overrun_weight
        decays, margins = len(DECAYS), len(MARGIN_BUCKETS)
        self._declared = declared_millicores(declared)
        start = bucket_of(self._declared)
        self._decay = np.array(DECAYS)[:, np.newaxis, np.newaxis, np.newaxis]
        self._margin = np.array(MARGIN_BUCKETS)[:, np.newaxis, np.newaxis]
        self._cost_of_limit = np.zeros((decays, *self.shape, BUCKETS))
        self._wanted = np.broadcast_to(start, (decays, *self.shape)).copy()
        self._limit_of_model = np.broadcast_to(start, (decays * margins, *self.shape)).copy()
        self._cost_of_model = np.zeros((decays * margins, *self.shape))
        self._windows = np.zeros(self.shape)
        self._model = np.zeros(self.shape, dtype=np.int64)
        self._limit = start

    def step(self, seen: Seen) -> Settings | None:
        """Charges the models for the window, lets them choose, and takes the cheapest."""
        histogram = self.histogram(self.samples(seen), seen)
        cost = _window_cost(histogram / WINDOW_SECONDS, self._overrun_weight)
        self._windows += seen.exists
        # A plain mean at first, or the first windows would count for nothing.
        newest = np.where(seen.exists, 1.0 / np.maximum(self._windows, 1.0), 0.0)
        with np.errstate(under="ignore"):  # What is forgotten may vanish.
            decay = np.where(seen.exists, np.maximum(self._decay[..., 0], newest), 0.0)
            self._cost_of_limit += decay[..., np.newaxis] * (cost - self._cost_of_limit)
            charged = self._charged(cost)
            self._wanted = _cheapest(self._cost_of_limit, self._wanted, LIMIT_CHANGE_COST)
            proposed = self._proposed()
            charged += LIMIT_CHANGE_COST * (proposed != self._limit_of_model)
            weight = np.where(seen.exists, np.maximum(COST_DECAY, newest), 0.0)
            self._cost_of_model += weight * (charged - self._cost_of_model)
        self._limit_of_model = proposed
        self._choose()
        is_new = self._windows == 0
        chosen = UPPER_ENDS_MILLICORES[self._limit] * (1 + self._margin_ratio)
        return one_number(np.where(is_new, self._declared, chosen))

    def _charged(self, cost: FloatArray) -> FloatArray:
        """Returns what each model's limit of the window before cost in this one."""
        places = np.moveaxis(self._limit_of_model, 0, -1)
        charged: FloatArray = np.moveaxis(np.take_along_axis(cost, places, axis=-1), -1, 0).copy()
        return charged

    def _proposed(self) -> IntArray:
        """Returns the limit of each model (models, m, n), as a bucket."""
        with_margin = self._wanted[:, np.newaxis] + self._margin
        proposed: IntArray = np.minimum(with_margin, BUCKETS - 1).reshape(-1, *self.shape)
        return proposed

    def _choose(self) -> None:
        models = np.arange(self._limit_of_model.shape[0])[:, np.newaxis, np.newaxis]
        price = (
            self._cost_of_model
            + MODEL_CHANGE_COST * (models != self._model)
            + LIMIT_CHANGE_COST * (self._limit_of_model != self._limit)
        )
        self._model = price.argmin(axis=0)
        self._limit = np.take_along_axis(self._limit_of_model, self._model[np.newaxis], axis=0)[0]


def _window_cost(share: FloatArray, overrun_weight: float) -> FloatArray:
    """Returns what each limit would cost in a window, from the shares (..., BUCKETS) of samples."""
    below = np.cumsum(share, axis=-1)
    used_below = np.cumsum(share * UPPER_ENDS_MILLICORES, axis=-1)
    slack = below - used_below / UPPER_ENDS_MILLICORES
    cost: FloatArray = overrun_weight * (below[..., -1:] - below) + slack
    return cost


def _cheapest(cost: FloatArray, current: IntArray, change_cost: float) -> IntArray:
    """Returns the place of least cost, or the current one where a change saves too little."""
    best = cost.argmin(axis=-1)
    best_cost = np.take_along_axis(cost, best[..., np.newaxis], axis=-1)[..., 0]
    current_cost = np.take_along_axis(cost, current[..., np.newaxis], axis=-1)[..., 0]
    chosen: IntArray = np.where(best_cost + change_cost < current_cost, best, current)
    return chosen


_PAPER = "Autopilot, EuroSys 2020, section 3.2"

WINDOW = Rival(
    name="autopilot-window",
    make=AutopilotWindow,
    knob="safety margin",
    default=MARGIN_RATIO,
    sweep=(1.5, 1.0, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0),
    source=f"{_PAPER}.2",
)
ENSEMBLE = Rival(
    name="autopilot-ensemble",
    make=AutopilotEnsemble,
    knob="added margin",
    default=0.0,
    sweep=(2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0),
    source=f"{_PAPER}.3",
)
