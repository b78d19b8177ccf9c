"""The level keeps throttling at its target."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mbcas_core.agents import headroom

if TYPE_CHECKING:
    from mbcas_core.units import FloatArray


def simulate(level: float, variation: float, *, slices: int = 400_000) -> float:
    """Share of slices that end with work left, by the recursion itself."""
    shape = variation**-2
    random = np.random.default_rng(7)
    steps = random.gamma(shape, 1.0 / shape, slices) - level
    walk = np.cumsum(steps)
    backlog: FloatArray = walk - np.minimum(np.minimum.accumulate(walk), 0.0)
    return float((backlog > 0).mean())


@pytest.mark.parametrize("variation", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("tau", [0.01, 0.05, 0.10])
def test_the_level_throttles_tau_of_the_slices(variation: float, tau: float) -> None:
    level = headroom.level(np.array([variation]), np.array([tau]))[0]

    assert simulate(float(level), variation) == pytest.approx(tau, abs=0.004)


def test_the_worked_numbers_hold() -> None:
    levels = headroom.level(np.array([0.3, 0.3, 0.1, 0.1]), np.array([0.05, 0.01, 0.05, 0.01]))

    assert levels == pytest.approx([1.56, 1.83, 1.17, 1.25], abs=0.01)


@pytest.mark.parametrize("tau", [0.001, 0.01, 0.05, 0.10, 0.5])
def test_more_variation_needs_a_higher_level(tau: float) -> None:
    variations = np.linspace(0.0, 3.0, 200)

    levels = headroom.level(variations, np.full(200, tau))

    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 1.01
    assert levels.max() <= 10.0


def test_a_lower_target_needs_a_higher_level() -> None:
    variation = np.repeat([0.05, 0.3, 1.0, 2.0], 4)
    tau = np.tile([0.2, 0.1, 0.05, 0.01], 4)

    levels = headroom.level(variation, tau).reshape(4, 4)

    assert (np.diff(levels, axis=1) > 0).all()
