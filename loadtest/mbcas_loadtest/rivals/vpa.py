"""The Vertical Pod Autoscaler with in-place updates: one sample a minute, one decision a minute.

kubernetes/autoscaler 1.8.1: recommender as in `vpa_histogram`, updater as in
`pkg/updater/priority/{priority_processor,update_priority_calculator}.go`. A pod is set to its
target

- where the request of one of its containers lies outside of [lower, upper], or
- where the pod is at least 12 hours old and its target differs from its request by 10 % or more;

a new pod of a known container gets the target when it is created (the admission controller). Its
limit keeps its proportion to the request: here both are one number. The target is capped at the
node (`--container-recommendation-max-allowed-cpu`), as what can never fit is never applied.

A sample is the mean of its minute. The real one is a window of about 15 s somewhere in the minute
(the resolution of metrics-server): with more noise, so a little higher at p90. Of two containers
with the same name in replicas the real one makes one history, here each has its own. No OOM.

Variants:
- `vpa`: all flags as shipped, no history.
- `vpa-fast`: half-life 5 minutes, so that it can follow at all within an hour; with it go the
  confidence interval and the age at which a pod may be updated within its bounds.
- `vpa-pretrained`: as shipped, after 24 hours of the same workload (`past`), and the pod is as old.
- `vpa-fast-margin`, `vpa-pretrained-margin`: the same, their knob is the margin. No percentile of
  minute means can replace it: within a minute demand goes far above its mean, and for a steady load
  all percentiles lie in one bucket.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.rivals.one_number import declared_millicores, mean_millicores, one_number
from mbcas_loadtest.rivals.past import past_minutes_millicores
from mbcas_loadtest.rivals.vpa_histogram import (
    DAY_SECONDS,
    History,
    Recommendation,
    RecommenderFlags,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, World

MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdaterFlags:
    """Command-line flags of the updater, by their names there."""

    in_recommendation_bounds_eviction_lifetime_threshold_seconds: float = 12 * 3600.0
    pod_update_threshold: float = 0.1


class Vpa:
    """Recommender and updater for the pods of m nodes."""

    interval_periods = 60 * PERIODS_PER_SECOND
    actuation = Actuation.API

    def __init__(
        self,
        declared: Declared,
        recommender: RecommenderFlags,
        updater: UpdaterFlags | None = None,
        *,
        past_millicores: FloatArray | None = None,
    ) -> None:
        """Starts it; `past_millicores` (minutes, m, n) is what it saw before, NaN for nothing."""
        shape = declared.request_millicores.shape[0], declared.request_millicores.shape[1]
        self._recommender = recommender
        self._updater = UpdaterFlags() if updater is None else updater
        self._cap_millicores = declared.cpus * 1000.0
        self._pod = declared.pod
        self._pod_starts = np.flatnonzero(np.diff(declared.pod, prepend=-1))
        self._containers_of_pod = np.bincount(declared.pod)[declared.pod]
        self._history = History(
            shape, half_life_seconds=recommender.cpu_histogram_decay_half_life_seconds
        )
        self._request_millicores = declared_millicores(declared)
        self._age_seconds = np.zeros(shape)
        if past_millicores is not None:
            self._remember(past_millicores)
        self.recommendation = self._recommend()
        """The latest, lower, target and upper (m, n) in millicores."""

    def step(self, seen: Seen) -> Settings | None:
        """Takes the minute's sample, recommends, and updates the pods that need it."""
        usage = mean_millicores(seen.usage_usec)
        start_seconds = seen.period / PERIODS_PER_SECOND - MINUTE_SECONDS
        is_created = seen.exists & (self._age_seconds == 0) & (start_seconds > 0)
        self._age_seconds = np.where(seen.exists, self._age_seconds + MINUTE_SECONDS, 0.0)
        self._history.add(usage, at_seconds=start_seconds, valid=seen.exists)
        self.recommendation = self._recommend()
        chosen = (self._needs_update() | is_created) & seen.exists
        self._request_millicores = np.where(
            chosen, self.recommendation.target, self._request_millicores
        )
        return one_number(self._request_millicores)

    def _recommend(self) -> Recommendation:
        found = self._history.recommend(
            self._recommender, containers_of_pod=self._containers_of_pod
        )
        return replace(found, target=np.minimum(found.target, self._cap_millicores))

    def _needs_update(self) -> BoolArray:
        """Returns True for every container of a pod that the updater picks."""
        request, found = self._request_millicores, self.recommendation
        is_outside = (request < found.lower) | (request > found.upper)
        is_pod_outside = np.logical_or.reduceat(is_outside, self._pod_starts, axis=1)
        pod_request = np.maximum(np.add.reduceat(request, self._pod_starts, axis=1), 1.0)
        pod_target = np.add.reduceat(found.target, self._pod_starts, axis=1)
        is_far = np.abs(pod_request - pod_target) / pod_request >= (
            self._updater.pod_update_threshold
        )
        is_old = np.maximum.reduceat(self._age_seconds, self._pod_starts, axis=1) >= (
            self._updater.in_recommendation_bounds_eviction_lifetime_threshold_seconds
        )
        needs: BoolArray = (is_pod_outside | (is_old & is_far))[:, self._pod]
        return needs

    def _remember(self, past_millicores: FloatArray) -> None:
        """Lives through the past without deciding anything; the pods were there all the time."""
        minutes = past_millicores.shape[0]
        times = np.arange(-minutes, 0) * MINUTE_SECONDS
        self._history.add_many(past_millicores, at_seconds=times)
        self._age_seconds += minutes * MINUTE_SECONDS


def _flags(percentile: float) -> RecommenderFlags:
    """Returns the flags as shipped for another target percentile, and bounds around it."""
    shipped = RecommenderFlags()
    lower = shipped.recommendation_lower_bound_cpu_percentile
    upper = shipped.recommendation_upper_bound_cpu_percentile
    return replace(
        shipped,
        target_cpu_percentile=percentile,
        # A target out of its own bounds would be set anew every minute.
        recommendation_lower_bound_cpu_percentile=min(lower, percentile),
        recommendation_upper_bound_cpu_percentile=max(upper, (1.0 + percentile) / 2),
    )


def _default(declared: Declared, knob: float) -> Vpa:
    return Vpa(declared, _flags(knob))


FAST_HALF_LIFE_SECONDS = 300.0


def _fast(declared: Declared, knob: float) -> Vpa:
    return _fast_with(declared, _flags(knob))


def _fast_margin(declared: Declared, knob: float) -> Vpa:
    return _fast_with(declared, replace(RecommenderFlags(), recommendation_margin_fraction=knob))


def _fast_with(declared: Declared, flags: RecommenderFlags) -> Vpa:
    recommender = replace(
        flags,
        cpu_histogram_decay_half_life_seconds=FAST_HALF_LIFE_SECONDS,
        confidence_interval_cpu_seconds=FAST_HALF_LIFE_SECONDS,
    )
    updater = UpdaterFlags(
        in_recommendation_bounds_eviction_lifetime_threshold_seconds=FAST_HALF_LIFE_SECONDS
    )
    return Vpa(declared, recommender, updater)


def _pretrained(world: World, knob: float) -> Vpa:
    past = past_minutes_millicores(world, seconds=DAY_SECONDS)
    return Vpa(world.declared, _flags(knob), past_millicores=past)


def _pretrained_margin(world: World, knob: float) -> Vpa:
    flags = replace(RecommenderFlags(), recommendation_margin_fraction=knob)
    past = past_minutes_millicores(world, seconds=DAY_SECONDS)
    return Vpa(world.declared, flags, past_millicores=past)


_SOURCE = "kubernetes/autoscaler, vertical-pod-autoscaler/pkg, 1.8.1"
_PERCENTILES = (1.0, 0.99, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
_PERCENTILE = "target-cpu-percentile"
_MARGINS = (2.0, 1.4, 1.0, 0.7, 0.5, 0.3, 0.15, 0.05, 0.0)
_MARGIN = "recommendation-margin-fraction"

VPA = Rival(
    name="vpa",
    make=_default,
    knob=_PERCENTILE,
    default=0.9,
    sweep=_PERCENTILES,
    source=_SOURCE,
)
VPA_FAST = Rival(
    name="vpa-fast",
    make=_fast,
    knob=_PERCENTILE,
    default=0.9,
    sweep=_PERCENTILES,
    source=f"{_SOURCE}, half-life 5 minutes",
)
VPA_FAST_MARGIN = Rival(
    name="vpa-fast-margin",
    make=_fast_margin,
    knob=_MARGIN,
    default=0.15,
    sweep=_MARGINS,
    source=f"{_SOURCE}, half-life 5 minutes",
)
VPA_PRETRAINED = Rival(
    name="vpa-pretrained",
    make_with_truth=_pretrained,
    knob=_PERCENTILE,
    default=0.9,
    sweep=_PERCENTILES,
    source=f"{_SOURCE}, after 24 h of the same workload",
)
VPA_PRETRAINED_MARGIN = Rival(
    name="vpa-pretrained-margin",
    make_with_truth=_pretrained_margin,
    knob=_MARGIN,
    default=0.15,
    sweep=_MARGINS,
    source=f"{_SOURCE}, after 24 h of the same workload",
)
