import csv
import gzip
import json
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.rivals.vpa_histogram import (
    BUCKETS,
    DAY_SECONDS,
    MAX_AMOUNT,
    History,
    Recommendation,
    RecommenderFlags,
    bucket_of,
)
from mbcas_loadtest.workloads.rates import find_traces

ALONE = np.ones(1, np.int64)
GOLDEN = find_traces().parent / "golden" / "vpa-1.8.1.jsonl"


def recommend_after(minutes: int, pattern: list[float]) -> tuple[float, float, float]:
    """Feeds cores, over and over, one sample a minute."""
    history = History((1, 1), half_life_seconds=DAY_SECONDS)
    usage = np.resize(np.array(pattern) * 1000.0, (minutes, 1, 1))
    history.add_many(usage, at_seconds=seconds_of(0, minutes))
    return numbers(history.recommend(RecommenderFlags(), containers_of_pod=ALONE), 0)


def seconds_of(start_minute: int, end_minute: int) -> FloatArray:
    seconds: FloatArray = np.linspace(start_minute, end_minute - 1, end_minute - start_minute)
    seconds *= 60.0
    return seconds


def numbers(found: Recommendation, column: int) -> tuple[float, float, float]:
    at = 0, column
    return float(found.lower[at]), float(found.target[at]), float(found.upper[at])


def test_buckets_are_the_ones_of_the_recommender() -> None:
    assert BUCKETS == 176
    assert bucket_of(np.array([0.0, 0.0099, 0.1, 0.25, 1.0, 5_000.0])).tolist() == [
        0,
        0,
        8,
        16,
        36,
        175,
    ]


@pytest.mark.parametrize(
    ("minutes", "pattern", "expected"),
    [
        (1441, [0.25], (295, 296, 592)),
        (61, [0.25], (282, 296, 7400)),
        (7 * 1440, [1.0], (1167, 1168, 1334)),
        (1441, [1.0] + [0.1] * 19, (125, 126, 2336)),
        (1441, [0.001], (25, 25, 25)),
    ],
    ids=["a day of 0.25", "an hour of 0.25", "a week of 1", "5 % peaks", "idle"],
)
def test_the_table_of_golden_vectors_is_met(
    minutes: int, pattern: list[float], expected: tuple[int, int, int]
) -> None:
    """kubernetes.md D1; c is 7 but for the first minute, which costs the upper bound 1m."""
    found = recommend_after(minutes, pattern)

    assert found == pytest.approx(expected, abs=1)


def test_a_week_of_one_load_gives_way_to_another_as_slowly_as_documented() -> None:
    """kubernetes.md D1, reaction after 7 steady days: 0.1 to 1 core, and back."""
    history = History((1, 2), half_life_seconds=DAY_SECONDS)
    there = np.ones((1, 2), np.bool_)
    found: dict[int, Recommendation] = {}
    week, hour = 7 * 1440, 60
    late = {"up": 218, "up, lower": 23.9 * hour, "down": 79.5 * hour, "down, upper": 103.5 * hour}
    wanted = {round(minutes) + shift for minutes in late.values() for shift in (-20, 20)}
    before, after = np.array([[100.0, 1000.0]]), np.array([[1000.0, 100.0]])
    history.add_many(np.tile(before, (week, 1, 1)), at_seconds=seconds_of(0, week))
    for minute in range(week, week + max(wanted)):
        history.add(after, at_seconds=minute * 60.0, valid=there)
        if minute + 1 - week in wanted:
            at = minute + 1 - week
            found[at] = history.recommend(RecommenderFlags(), containers_of_pod=np.ones(2, int))

    def around(what: str) -> list[Recommendation]:
        return [found[round(late[what]) + shift] for shift in (-20, 20)]

    assert [one.target[0, 0] > 1000 for one in around("up")] == [False, True]
    assert [one.lower[0, 0] > 1000 for one in around("up, lower")] == [False, True]
    assert [one.target[0, 1] < 200 for one in around("down")] == [False, True]
    assert [one.upper[0, 1] < 200 for one in around("down, upper")] == [False, True]


def test_without_history_the_bounds_exclude_nothing() -> None:
    history = History((1, 1), half_life_seconds=DAY_SECONDS)

    before = numbers(history.recommend(RecommenderFlags(), containers_of_pod=ALONE), 0)
    history.add(np.full((1, 1), 500.0), at_seconds=0.0, valid=np.ones((1, 1), np.bool_))
    after = numbers(history.recommend(RecommenderFlags(), containers_of_pod=ALONE), 0)

    assert before == pytest.approx((25, 25, MAX_AMOUNT))
    assert after == pytest.approx((25, 587, MAX_AMOUNT))


def test_containers_of_a_pod_share_its_floor() -> None:
    history = History((1, 3), half_life_seconds=DAY_SECONDS)
    history.add(np.zeros((1, 3)), at_seconds=0.0, valid=np.ones((1, 3), np.bool_))

    found = history.recommend(RecommenderFlags(), containers_of_pod=np.array([1, 2, 2]))

    assert found.target.tolist() == [[25.0, 12.0, 12.0]]


class PlainHistogram:
    """The same for one container, with loops, as the original is written."""

    def __init__(self, half_life_seconds: float) -> None:
        self.half_life_seconds = half_life_seconds
        self.starts = [0.01 * (1.05**i - 1) / 0.05 for i in range(BUCKETS)]
        self.weights = [0.0] * BUCKETS
        self.total = 0.0
        self.low, self.high = BUCKETS - 1, 0
        self.reference: float | None = None

    def add(self, cores: float, at_seconds: float) -> None:
        weight = 0.1 * self.growth(at_seconds)
        grown = cores * (1.05 - 1) / 0.01 + 1
        bucket = 0 if cores < 0.01 else min(int(math.log(grown) / math.log(1.05)), BUCKETS - 1)
        self.weights[bucket] += weight
        self.total += weight
        if self.weights[bucket] >= 1e-4:
            self.low, self.high = min(self.low, bucket), max(self.high, bucket)

    def growth(self, at_seconds: float) -> float:
        if self.reference is None or at_seconds > self.reference + 100 * self.half_life_seconds:
            rounded = math.floor(at_seconds / self.half_life_seconds + 0.5) * self.half_life_seconds
            if self.reference is not None:
                self.scale(2.0 ** round((self.reference - rounded) / self.half_life_seconds))
            self.reference = rounded
        return float(2.0 ** ((at_seconds - self.reference) / self.half_life_seconds))

    def scale(self, factor: float) -> None:
        self.weights = [weight * factor for weight in self.weights]
        self.total *= factor
        self.low, self.high = 0, BUCKETS - 1
        while self.low < BUCKETS - 1 and self.weights[self.low] < 1e-4:
            self.low += 1
        while self.high > 0 and self.weights[self.high] < 1e-4:
            self.high -= 1

    def percentile(self, rank: float) -> float:
        running, bucket = 0.0, self.low
        while bucket < self.high:
            running += self.weights[bucket]
            if running >= rank * self.total:
                break
            bucket += 1
        return self.starts[min(bucket + 1, BUCKETS - 1)]


def test_the_histogram_agrees_with_a_loop_over_one_container_also_when_weights_are_scaled() -> None:
    generator = np.random.default_rng(3)
    shape, minutes, half_life = (2, 3), 1_300, 300.0  # 260 half-lives: scaled twice.
    usage = generator.lognormal(5.0, 1.5, (minutes, *shape)).round()
    there: BoolArray = generator.random((minutes, *shape)) < 0.9
    there[:, 1, 2] = False  # Never seen.
    ranks = (0.0, 0.5, 0.9, 0.95, 1.0)
    history = History(shape, half_life_seconds=half_life)
    plain = {place: PlainHistogram(half_life) for place in np.ndindex(shape)}
    for minute in range(minutes):
        history.add(usage[minute], at_seconds=minute * 60.0, valid=there[minute])
        for place, one in plain.items():
            one.growth(minute * 60.0)  # The reference is everybody's.
            if there[minute][place]:
                one.add(usage[minute][place] / 1000, minute * 60.0)
        if minute % 50 == 0 or minute % 500 < 10:
            found = history.percentiles(ranks)
            for place, one in plain.items():
                expected = [one.percentile(rank) if one.total > 0 else 0.0 for rank in ranks]
                assert [part[place] for part in found] == pytest.approx(expected)


@pytest.mark.parametrize("half_life", [300.0, DAY_SECONDS])
def test_samples_added_in_one_go_count_as_if_they_had_come_one_by_one(half_life: float) -> None:
    generator = np.random.default_rng(4)
    shape, minutes = (2, 3), 700
    usage = generator.lognormal(5.0, 1.5, (minutes, *shape)).round()
    usage[generator.random(usage.shape) < 0.1] = np.nan
    usage[:, 1, 2] = np.nan
    times = seconds_of(-minutes, 0)
    together, apart = (History(shape, half_life_seconds=half_life) for _ in range(2))
    together.add_many(usage, at_seconds=times)
    for sample, time in zip(usage, times.tolist(), strict=True):
        apart.add(np.nan_to_num(sample), at_seconds=time, valid=~np.isnan(sample))

    for later in (0.0, 60.0):
        one, other = (
            history.recommend(RecommenderFlags(), containers_of_pod=np.ones(3, int))
            for history in (together, apart)
        )
        assert np.array_equal(one.lower, other.lower)
        assert np.array_equal(one.target, other.target)
        assert np.array_equal(one.upper, other.upper)
        for history in (together, apart):
            history.add(np.full(shape, 5_000.0), at_seconds=later, valid=np.ones(shape, np.bool_))


def test_every_golden_line_of_the_real_recommender_is_met() -> None:
    """All series side by side: each is a column that has no sample once it ended."""
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not there: golden vectors are no part of the repository")
    wanted: dict[str, dict[int, Any]] = defaultdict(dict)
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        golden = json.loads(line)
        wanted[golden["id"]][golden["samples"]] = golden
    names = sorted(wanted)
    usage = read_minutes({name: max(wanted[name]) for name in names})
    history = History((1, len(names)), half_life_seconds=DAY_SECONDS)
    alone = np.ones(len(names), np.int64)
    met = 0
    for minute in range(usage.shape[0]):
        there = ~np.isnan(usage[minute : minute + 1])
        sample = np.nan_to_num(usage[minute : minute + 1])
        history.add(sample, at_seconds=minute * 60.0, valid=there)
        due = [name for name in names if minute + 1 in wanted[name]]
        if not due:
            continue
        found = history.recommend(RecommenderFlags(), containers_of_pod=alone)
        for name in due:
            golden = wanted[name][minute + 1]
            lower, target, upper = numbers(found, names.index(name))
            assert lower == pytest.approx(golden["lower"], abs=1), golden
            assert target == pytest.approx(golden["target"], abs=1), golden
            assert upper == pytest.approx(golden["upper"], rel=1e-3, abs=1), golden
            met += 1
    assert met == sum(len(lines) for lines in wanted.values())


def read_minutes(lengths: dict[str, int]) -> FloatArray:
    """Returns minute means (minutes, series) as golden/README.md says they were fed, then NaN."""
    with (find_traces() / "series.csv").open(encoding="utf-8", newline="") as index:
        files = {row["file"] for row in csv.DictReader(index) if row["series_id"] in lengths}
    samples: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name in files:
        with gzip.open(find_traces() / name, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            assert next(rows) == ["series_id", "t_seconds", "cpu_millicores"]
            for series_id, seconds, millicores in rows:
                if series_id in lengths:
                    samples[series_id].append((int(float(seconds)) // 60, float(millicores)))
    usage = np.full((max(lengths.values()), len(lengths)), np.nan)
    for column, name in enumerate(sorted(lengths)):
        minute, value = (np.array(part) for part in zip(*samples[name], strict=True))
        starts = np.flatnonzero(np.diff(minute, prepend=-1))
        means = np.add.reduceat(value, starts) / np.diff(starts, append=minute.size)
        usage[: lengths[name], column] = means[: lengths[name]]
    return usage
