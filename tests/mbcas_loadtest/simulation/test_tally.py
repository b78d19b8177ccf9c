"""When a limit counts as settled (milestones.md 1.4), and how throttled a peak was."""

import math

import numpy as np
import pytest

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.simulation.tally import find_peak_throttled_ratio, find_settling_seconds

SECONDS = 900


def by_hand(limit: FloatArray, throttled: FloatArray, tau: float) -> float:
    for start in range(len(limit) - 299):
        window = limit[start : start + 300]
        near = np.all(np.abs(window - window[0]) <= 0.1 * window[0])
        if near and throttled[start : start + 300].mean() <= tau:
            return float(start)
    return math.nan


def limits(name: str) -> FloatArray:
    time = np.arange(SECONDS)
    kinds = {
        "steady": np.full(SECONDS, 100.0),
        "a step": np.where(time < 123, 100.0, 200.0),
        "a ramp that ends": np.minimum(100.0 + time, 400.0),
        "restless": 100.0 + 30.0 * (time // 60 % 2),
        "within the band": 100.0 + 9.0 * (time % 2),
        "late": np.where(time < 700, 100.0 + 50.0 * (time // 50 % 2), 200.0),
        "without": np.full(SECONDS, np.inf),
    }
    chosen: FloatArray = np.asarray(kinds[name], np.float64)
    return chosen


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("steady", 0.0),
        ("a step", 123.0),
        ("a ramp that ends", 264.0),
        ("restless", math.nan),
        ("within the band", 0.0),
        ("late", math.nan),
        ("without", 0.0),
    ],
)
def test_a_limit_has_settled_when_it_stays_within_a_tenth_for_five_minutes(
    name: str, seconds: float
) -> None:
    limit, calm = limits(name), np.zeros(SECONDS)

    found = find_settling_seconds(limit[:, None], calm[:, None], 0.05)

    np.testing.assert_equal(found, [seconds])
    if name != "without":
        np.testing.assert_equal(by_hand(limit, calm, 0.05), seconds)


def test_what_is_throttled_has_not_settled_however_steady_its_limit() -> None:
    limit, throttled = limits("steady"), np.where(np.arange(SECONDS) < 400, 0.1, 0.0)

    found = find_settling_seconds(limit[:, None], throttled[:, None], 0.05)

    assert found[0] == by_hand(limit, throttled, 0.05) == 250.0


def test_what_is_not_there_has_not_settled() -> None:
    limit = limits("steady")
    limit[200:210] = np.nan

    found = find_settling_seconds(limit[:, None], np.zeros((SECONDS, 1)), 0.05)

    assert found[0] == 210.0


def peak_by_hand(demand: FloatArray, throttled: FloatArray, there: BoolArray) -> float:
    seconds = [second for second in range(len(demand)) if there[second]]
    seconds.sort(key=lambda second: -demand[second])
    kept, total = 0, 0.0
    for place, second in enumerate(seconds):
        is_tie = kept > 0 and demand[second] == demand[seconds[place - 1]]
        if place < math.ceil(len(seconds) / 10) or (is_tie and kept == place):
            kept, total = kept + 1, total + throttled[second]
    return total / kept if kept else math.nan


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_the_peak_is_the_tenth_of_the_seconds_with_most_demand_and_what_equals_it(
    levels: int,
) -> None:
    rng = np.random.default_rng(levels)
    shape = (95, 2, 3)
    demand: FloatArray = rng.integers(0, levels, shape).astype(np.float64)
    throttled: FloatArray = rng.random(shape)
    there = rng.random(shape) < 0.8
    there[:, 1, 2] = False

    found = find_peak_throttled_ratio(demand, throttled, there)

    by_hand_each = [
        [
            peak_by_hand(demand[:, node, c], throttled[:, node, c], there[:, node, c])
            for c in range(3)
        ]
        for node in range(2)
    ]
    np.testing.assert_allclose(found, by_hand_each, rtol=1e-12)
    assert np.isnan(found[1, 2])


def test_throttling_outside_the_peak_is_not_the_peaks() -> None:
    time = np.arange(100)
    demand = np.where(time < 10, 5.0, 1.0)[:, None, None]
    throttled = np.where(time < 10, 0.0, 1.0)[:, None, None]

    found = find_peak_throttled_ratio(demand, throttled, np.full(demand.shape, fill_value=True))

    assert found == pytest.approx(0.0)
