"""The decaying histogram of the Vertical Pod Autoscaler's recommender, and what it recommends.

After `vertical-pod-autoscaler/pkg/recommender` of kubernetes/autoscaler 1.8.1: `util/histogram.go`,
`util/decaying_histogram.go`, `model/aggregations_config.go`, `logic/estimator.go` and
`logic/recommender.go`. Here all containers, (m, n), are rows of one array of weights.

Usage falls into buckets that grow by 5 %, the first one 0.01 core wide, up to 1000 cores. A sample
of time t weighs 0.1 x 2^((t - reference) / half-life): old samples are not made lighter, new ones
are made heavier, and when that has gone on for 100 half-lives all weights are scaled down at once.
A percentile is the upper end of the bucket in which the running sum reaches its share of the total.

With c = days of history, or samples a day if those are fewer:

    target = 1.15 x p90,    lower = 1.15 x p50 x (1 + 0.001/c)^-2,    upper = 1.15 x p95 x (1 + 1/c)

in whole millicores, truncated at each step as there, and at least 25m a pod.

Worked: usage of 0.25 core falls into bucket 16, which ends at 0.258404; after a day of it the
target is 258 + 38 = 296m, the upper bound 592m.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray

FIRST_BUCKET_CORES = 0.01
BUCKET_RATIO = 1.05
MAX_CORES = 1000.0
BUCKETS = (
    int(
        np.ceil(
            np.log(MAX_CORES * (BUCKET_RATIO - 1) / FIRST_BUCKET_CORES + 1) / np.log(BUCKET_RATIO)
        )
    )
    + 1
)
"""176."""
SAMPLE_WEIGHT = 0.1
EMPTY_WEIGHT = 1e-4
"""A bucket of less is empty: where the sums begin and end, they leave it out."""
MAX_HALF_LIVES = 100
MAX_AMOUNT = 1e14
"""The greatest amount of a resource that the recommender knows."""
SAMPLES_PER_DAY = 24 * 60
DAY_SECONDS = 86_400.0

_STARTS: FloatArray = (
    FIRST_BUCKET_CORES * (np.power(BUCKET_RATIO, np.arange(BUCKETS)) - 1.0) / (BUCKET_RATIO - 1)
).astype(np.float64)
_ENDS: FloatArray = np.append(_STARTS[1:], _STARTS[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommenderFlags:
    """Command-line flags of the recommender, by their names there."""

    target_cpu_percentile: float = 0.9
    recommendation_lower_bound_cpu_percentile: float = 0.5
    recommendation_upper_bound_cpu_percentile: float = 0.95
    recommendation_margin_fraction: float = 0.15
    pod_recommendation_min_cpu_millicores: float = 25.0
    cpu_histogram_decay_half_life_seconds: float = DAY_SECONDS
    confidence_interval_cpu_seconds: float = DAY_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Recommendation:
    """Whole millicores, (m, n) each."""

    lower: FloatArray
    target: FloatArray
    upper: FloatArray


def bucket_of(cores: FloatArray) -> IntArray:
    """Returns the bucket that a usage of at least 0 falls into."""
    grown = np.maximum(cores, FIRST_BUCKET_CORES) * (BUCKET_RATIO - 1) / FIRST_BUCKET_CORES + 1
    index = np.floor(np.log(grown) / np.log(BUCKET_RATIO)).astype(np.int64)
    bucket: IntArray = np.where(cores < FIRST_BUCKET_CORES, 0, np.minimum(index, BUCKETS - 1))
    return bucket


def truncated_millicores(cores: FloatArray) -> FloatArray:
    """Returns whole millicores, as the recommender turns cores into amounts."""
    millicores: FloatArray = np.trunc(np.minimum(cores * 1000.0, MAX_AMOUNT))
    return millicores


class History:
    """What the recommender remembers of the CPU usage of each container."""

    def __init__(self, shape: tuple[int, int], *, half_life_seconds: float) -> None:
        self._half_life_seconds = half_life_seconds
        self._reference_seconds: float | None = None
        self._weight = np.zeros((*shape, BUCKETS))
        self._total = np.zeros(shape)
        self._low = np.full(shape, BUCKETS - 1)
        self._high = np.zeros(shape, dtype=np.int64)
        self._first_seconds = np.full(shape, np.nan)
        self._last_seconds = np.full(shape, np.nan)
        self._samples = np.zeros(shape)

    def add(self, millicores: FloatArray, *, at_seconds: float, valid: BoolArray) -> None:
        """Adds one sample a container where `valid`; times never go back."""
        weight = SAMPLE_WEIGHT * self._growth(at_seconds)
        bucket = bucket_of(truncated_millicores(millicores / 1000.0) / 1000.0)
        node, container = np.nonzero(valid)
        index = bucket[node, container]
        self._weight[node, container, index] += weight
        self._total += np.where(valid, weight, 0.0)
        counted = np.zeros(valid.shape, dtype=np.bool_)
        counted[node, container] = self._weight[node, container, index] >= EMPTY_WEIGHT
        self._low = np.where(counted, np.minimum(self._low, bucket), self._low)
        self._high = np.where(counted, np.maximum(self._high, bucket), self._high)
        fresh = valid & np.isnan(self._first_seconds)
        self._first_seconds = np.where(fresh, at_seconds, self._first_seconds)
        self._last_seconds = np.where(valid, at_seconds, self._last_seconds)
        self._samples += valid

    def add_many(self, millicores: FloatArray, *, at_seconds: FloatArray) -> None:
        """Adds samples (k, m, n) of times (k,) in one go, NaN for none; the same as one by one."""
        if at_seconds[-1] - at_seconds[0] > (MAX_HALF_LIVES - 1) * self._half_life_seconds:
            for usage, time in zip(millicores, at_seconds.tolist(), strict=True):
                self.add(np.nan_to_num(usage), at_seconds=time, valid=~np.isnan(usage))
            return
        assert self._reference_seconds is None, "its weights may have to be scaled on the way"
        # No weight is below an empty bucket's: the reference is half a half-life away at most.
        start_growth = self._growth(float(at_seconds[0]))
        passed = (at_seconds - at_seconds[0]) / self._half_life_seconds
        minute, node, container = np.nonzero(~np.isnan(millicores))
        weight = (SAMPLE_WEIGHT * start_growth * 2.0**passed)[minute]
        cores = truncated_millicores(millicores[minute, node, container] / 1000.0) / 1000.0
        bucket = bucket_of(cores)
        row = node * self._total.shape[1] + container
        size = self._total.size
        sums = np.bincount(row * BUCKETS + bucket, weight, minlength=size * BUCKETS)
        self._weight += sums.reshape(self._weight.shape)
        self._total += np.bincount(row, weight, minlength=size).reshape(self._total.shape)
        np.minimum.at(self._low, (node, container), bucket)
        np.maximum.at(self._high, (node, container), bucket)
        there = ~np.isnan(millicores)
        seen = there.any(axis=0)
        first, last = there.argmax(axis=0), there[::-1].argmax(axis=0)
        self._first_seconds = np.where(seen, at_seconds[first], np.nan)
        self._last_seconds = np.where(seen, at_seconds[::-1][last], np.nan)
        self._samples += there.sum(axis=0)

    def recommend(self, flags: RecommenderFlags, *, containers_of_pod: IntArray) -> Recommendation:
        """Recommends from what was added so far.

        Args:
            flags: How it is started.
            containers_of_pod: (n,) how many containers the pod of each has: they share its floor.
        """
        ranks = (
            flags.recommendation_lower_bound_cpu_percentile,
            flags.target_cpu_percentile,
            flags.recommendation_upper_bound_cpu_percentile,
        )
        lower, target, upper = (
            _with_margin(truncated_millicores(cores), flags.recommendation_margin_fraction)
            for cores in self.percentiles(ranks)
        )
        confidence = self._confidence(flags.confidence_interval_cpu_seconds)
        sure = np.maximum(confidence, 1e-9)  # Divides nothing by 0; without history see below.
        lower = np.where(confidence > 0, np.trunc(lower * (1 + 0.001 / sure) ** -2), 0.0)
        widened = np.trunc(np.minimum(upper * (1 + 1 / sure), MAX_AMOUNT))
        upper = np.where(confidence > 0, widened, MAX_AMOUNT)
        floor = np.trunc(flags.pod_recommendation_min_cpu_millicores / containers_of_pod)
        return Recommendation(
            lower=np.maximum(lower, floor),
            target=np.maximum(target, floor),
            upper=np.maximum(upper, floor),
        )

    def percentiles(self, ranks: tuple[float, ...]) -> list[FloatArray]:
        """Returns, for each rank from 0 to 1, cores (m, n); 0 for a container without samples."""
        # Outside of what any container uses, all is empty; most loads use a few buckets. The
        # original also leaves out what scaling made empty below the first bucket: less than 0.1 %
        # of a new sample.
        end = int(self._high.max()) + 1
        first = min(int(self._low.min()), end - 1)
        running = np.cumsum(self._weight[..., first:end], axis=-1)
        found = []
        for rank in ranks:
            short = running < (rank * self._total)[..., np.newaxis]
            index = np.clip(np.count_nonzero(short, axis=-1) + first, self._low, self._high)
            found.append(np.where(self._samples > 0, _ENDS[index], 0.0))
        return found

    def _confidence(self, interval_seconds: float) -> FloatArray:
        """Returns the length of the history in intervals; 0 without any."""
        lifespan = np.nan_to_num(self._last_seconds - self._first_seconds) / interval_seconds
        samples = self._samples * 60.0 / interval_seconds
        confidence: FloatArray = np.minimum(lifespan, samples)
        return confidence

    def _growth(self, at_seconds: float) -> float:
        """Returns how much heavier a sample of now is than one of the reference time."""
        half_life = self._half_life_seconds
        reference = self._reference_seconds
        if reference is None or at_seconds > reference + MAX_HALF_LIVES * half_life:
            rounded = np.floor(at_seconds / half_life + 0.5) * half_life
            if reference is not None:
                self._scale(2.0 ** float(np.round((reference - rounded) / half_life)))
            self._reference_seconds = reference = float(rounded)
        growth: float = 2.0 ** ((at_seconds - reference) / half_life)
        return growth

    def _scale(self, factor: float) -> None:
        with np.errstate(under="ignore"):  # What is lost is far below an empty bucket.
            self._weight *= factor
            self._total *= factor
        filled = self._weight >= EMPTY_WEIGHT
        any_filled = filled.any(axis=-1)
        self._low = np.where(any_filled, filled.argmax(axis=-1), BUCKETS - 1)
        last = BUCKETS - 1 - filled[..., ::-1].argmax(axis=-1)
        self._high = np.where(any_filled, last, 0)


def _with_margin(millicores: FloatArray, fraction: float) -> FloatArray:
    margined: FloatArray = millicores + np.trunc(millicores * fraction)
    return margined
