"""Profiles against their plain words."""

import numpy as np
import pytest

from mbcas_loadtest.workloads import loads
from mbcas_loadtest.workloads.noise import PoissonRequests, draw_arrivals, grain_usec


def _draw(load: loads.Load, seconds: int) -> list[float]:
    profile = load.draw(np.random.default_rng(0), seconds * 10)
    assert profile.dtype == np.float32
    return [float(value) for value in profile[5::10]]


def test_a_ramp_rises_and_falls_along_a_line() -> None:
    load = loads.Ramp(
        from_millicores=100,
        to_millicores=200,
        start_seconds=2,
        rise_seconds=4,
        fall_start_seconds=8,
    )

    rising = [113.75, 138.75, 163.75, 188.75]
    expected = [100, 100, *rising, 200, 200, *(300 - up for up in rising), 100, 100]
    assert _draw(load, 14) == pytest.approx(expected)


def test_a_peak_comes_once_in_every_period() -> None:
    load = loads.Periodic(
        low_millicores=1, high_millicores=9, period_seconds=5, peak_seconds=2, phase_seconds=4
    )

    assert _draw(load, 12) == [9, 1, 1, 1, 9, 9, 1, 1, 1, 9, 9, 1]


def test_steps_hold_until_the_next() -> None:
    load = loads.Steps(from_seconds=(0, 2, 3), millicores=(5, 7, 1))

    assert _draw(load, 5) == [5, 5, 7, 1, 1]


def test_a_restart_heats_up_again_and_nothing_runs_before_the_first_start() -> None:
    load = loads.Warmup(
        steady_millicores=100,
        hot_millicores=500,
        half_life_seconds=1,
        starts_seconds=(1.0, 4.0),
    )

    profile = load.draw(np.random.default_rng(0), 60)
    assert profile[:10].tolist() == [0] * 10
    assert profile[10] == pytest.approx(100 + 400 * 0.5**0.05)
    assert profile[20] == pytest.approx(100 + 400 * 0.5**1.05)
    assert profile[40] == pytest.approx(profile[10])


def test_levels_have_their_mean() -> None:
    load = loads.Levels(
        mean_millicores=1_000, spread=0.4, shortest_seconds=0.5, longest_seconds=1.5
    )

    profile = load.draw(np.random.default_rng(0), 200_000)

    assert profile.mean() == pytest.approx(1_000, rel=0.02)


def test_poisson_requests_are_sums_of_requests() -> None:
    """The vectorised draw has mean and variance of a plain sum over requests."""
    noise = PoissonRequests(request_usec=8_000, cost_cv=0.7)
    work = draw_arrivals(noise, np.full(50_000, 600, np.float32), np.random.default_rng(0))
    generator = np.random.default_rng(1)
    plain = [
        sum(generator.gamma(1 / 0.49, 8_000 * 0.49, generator.poisson(60_000 / 8_000)))
        for _ in range(5_000)
    ]

    assert work.mean() == pytest.approx(60_000, rel=0.01)
    assert np.mean(plain) == pytest.approx(60_000, rel=0.02)
    assert work.std() == pytest.approx(np.std(plain), rel=0.04)
    assert grain_usec(600, work.std() / work.mean(), 0.7) == pytest.approx(8_000, rel=0.04)
