"""SHOWAR's vertical rule: the mean and three standard deviations of recent usage.

    limit = mean + 3 x standard deviation of the last 5 minutes, 1 s samples

set where that is more than 15 % off the limit. After SHOWAR (SoCC 2021). The paper was not at hand:
the rule is as quoted in evaluation.md, window and threshold are marked there as remembered, samples
of 1 s and a step every 15 s are ours.
"""

import numpy as np

from mbcas_loadtest.rivals.one_number import (
    USEC_PER_MILLICORE_PERIOD,
    declared_millicores,
    one_number,
)
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared

WINDOW_SECONDS = 300
STEP_SECONDS = 15
THRESHOLD_RATIO = 0.15


class ThreeSigma:
    """Keeps the samples of the window and sets a limit above them."""

    interval_periods = STEP_SECONDS * PERIODS_PER_SECOND
    actuation = Actuation.API

    def __init__(self, declared: Declared, sigmas: float) -> None:
        shape = (WINDOW_SECONDS, *declared.request_millicores.shape)
        self._sigmas = sigmas
        self._samples_millicores = np.zeros(shape)
        self._is_sample = np.zeros(shape, dtype=np.bool_)
        self._next = 0
        self._limit_millicores = declared_millicores(declared)

    def step(self, seen: Seen) -> Settings | None:
        """Adds the samples since the last step and returns the limits."""
        window = slice(self._next, self._next + STEP_SECONDS)
        usage = seen.usage_usec.reshape(STEP_SECONDS, PERIODS_PER_SECOND, *seen.exists.shape)
        self._samples_millicores[window] = usage.mean(axis=1) / USEC_PER_MILLICORE_PERIOD
        self._is_sample[window] = seen.exists
        self._next = (self._next + STEP_SECONDS) % WINDOW_SECONDS

        count = np.maximum(self._is_sample.sum(axis=0), 1)
        kept = np.where(self._is_sample, self._samples_millicores, 0.0)
        mean = kept.sum(axis=0) / count
        variance = np.where(self._is_sample, (kept - mean) ** 2, 0.0).sum(axis=0) / count
        wanted = mean + self._sigmas * np.sqrt(variance)
        is_off = np.abs(wanted - self._limit_millicores) > THRESHOLD_RATIO * self._limit_millicores
        self._limit_millicores = np.where(
            is_off & seen.exists, one_number(wanted).limit_millicores, self._limit_millicores
        )
        return one_number(self._limit_millicores)


RIVAL = Rival(
    name="three-sigma",
    make=ThreeSigma,
    knob="standard deviations",
    default=3.0,
    sweep=(12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0),
    source="SHOWAR, SoCC 2021, as quoted in evaluation.md",
)
