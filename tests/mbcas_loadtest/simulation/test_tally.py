"""When a limit counts as settled (milestones.md 1.4)."""

import math

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.simulation.tally import find_settling_seconds

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
