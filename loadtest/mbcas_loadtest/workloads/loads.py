"""What a container wants, over time: the mean of its demand in each period of 100 ms.

A load is a handful of numbers; its profile is drawn from a generator in the order of time, so a
shorter run is the beginning of a longer one. The noise of single periods comes on top (`noise`).
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_SECONDS, BoolArray, FloatArray
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND

Profile = NDArray[np.float32]
"""(periods,) of mean demand in millicores."""


class Load(Protocol):
    """A kind of load with its numbers."""

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        """Returns the mean demand of every period of a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Always the same mean."""

    mean_millicores: float

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        return np.full(periods, self.mean_millicores, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """Grows (or falls) along a line and stays."""

    from_millicores: float
    to_millicores: float
    start_seconds: float
    rise_seconds: float
    fall_start_seconds: float = np.inf
    """From here on back to the first level, as fast."""

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        times = _times(periods)
        up = np.clip((times - self.start_seconds) / self.rise_seconds, 0.0, 1.0)
        down = np.clip((times - self.fall_start_seconds) / self.rise_seconds, 0.0, 1.0)
        span = self.to_millicores - self.from_millicores
        profile: Profile = (self.from_millicores + span * (up - down)).astype(np.float32)
        return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A peak in every period."""

    low_millicores: float
    high_millicores: float
    period_seconds: float
    peak_seconds: float
    phase_seconds: float
    """When the first peak starts."""

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        into = (_times(periods) - self.phase_seconds) % self.period_seconds
        return _two_levels(into < self.peak_seconds, self.low_millicores, self.high_millicores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Quiet, with bursts of one height; they begin at exponentially distributed distances."""

    low_millicores: float
    high_millicores: float
    shortest_seconds: float
    longest_seconds: float
    """A burst's length is uniform between the two."""
    gap_mean_seconds: float
    """From the end of one burst to the start of the next."""

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        is_high = np.zeros(periods, np.bool_)
        at = generator.exponential(self.gap_mean_seconds)
        while (first := round(at * PERIODS_PER_SECOND)) < periods:
            lasts = generator.uniform(self.shortest_seconds, self.longest_seconds)
            is_high[first : round((at + lasts) * PERIODS_PER_SECOND)] = True
            at += lasts + generator.exponential(self.gap_mean_seconds)
        return _two_levels(is_high, self.low_millicores, self.high_millicores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Stays at a level for a while, then at another, log-normal around the mean."""

    mean_millicores: float
    spread: float
    """Standard deviation of the level's logarithm."""
    shortest_seconds: float
    longest_seconds: float

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        profile = np.empty(periods, np.float32)
        first = 0
        while first < periods:
            lasts = generator.uniform(self.shortest_seconds, self.longest_seconds)
            # The mean of a log-normal is above its median by half the variance.
            level = np.exp(self.spread * generator.standard_normal() - self.spread**2 / 2.0)
            after = first + max(1, round(lasts * PERIODS_PER_SECOND))
            profile[first:after] = self.mean_millicores * level
            first = after
        return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Starts hot and cools to its steady level: a JVM that loads classes and compiles."""

    steady_millicores: float
    hot_millicores: float
    """At the start, above the steady level; falls by half each `half_life_seconds`."""
    half_life_seconds: float
    starts_seconds: tuple[float, ...]

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        times, starts = _times(periods), np.asarray(self.starts_seconds)
        last = np.searchsorted(starts, times, side="right") - 1
        age = times - starts[np.maximum(last, 0)]
        halvings = np.clip(age / self.half_life_seconds, 0.0, 60.0)
        extra = (self.hot_millicores - self.steady_millicores) * 0.5**halvings
        running = np.where(last >= 0, self.steady_millicores + extra, 0.0)
        profile: Profile = running.astype(np.float32)
        return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Given levels from given times on."""

    from_seconds: tuple[float, ...]
    """Ascending, the first 0."""
    millicores: tuple[float, ...]

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        at = np.searchsorted(self.from_seconds, _times(periods), side="right") - 1
        return np.asarray(self.millicores, np.float32)[at]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A sine around the mean."""

    mean_millicores: float
    amplitude: float
    """Share of the mean, below 1."""
    period_seconds: float
    phase_seconds: float

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        angle = 2.0 * np.pi * (_times(periods) + self.phase_seconds) / self.period_seconds
        profile: Profile = (self.mean_millicores * (1.0 + self.amplitude * np.sin(angle))).astype(
            np.float32
        )
        return profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """Wanders around the mean, a value a second: a slow autoregressive part and a white one."""

    mean_millicores: float
    slow_spread: float
    """Standard deviation over the mean of the slow part."""
    slow_seconds: float
    """In this time its autocorrelation falls to 1/e."""
    white_spread: float
    least_ratio: float
    """Over the mean; values are clipped to these bounds."""
    most_ratio: float

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        seconds = -(-periods // PERIODS_PER_SECOND)
        keeps = np.exp(-1.0 / self.slow_seconds)
        # Both draws of a second come one after the other: a shorter run is the beginning.
        shocks = generator.standard_normal((seconds, 2))
        moves = shocks[:, 0] * np.sqrt(1.0 - keeps**2)
        moves[0] = shocks[0, 0]  # It starts as it goes on.
        slow = accumulate(moves.tolist(), lambda last, move: keeps * last + move)
        ratio = 1.0 + self.slow_spread * np.fromiter(slow, np.float64, seconds)
        ratio += self.white_spread * shocks[:, 1]
        held = np.clip(ratio, self.least_ratio, self.most_ratio) * self.mean_millicores
        return np.repeat(held.astype(np.float32), PERIODS_PER_SECOND)[:periods]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Samples:
    """Means that were measured, each held until the next."""

    millicores: FloatArray
    sample_seconds: float
    """A multiple of the period."""

    def draw(self, generator: np.random.Generator, periods: int) -> Profile:
        del generator
        held = round(self.sample_seconds * PERIODS_PER_SECOND)
        return np.repeat(self.millicores.astype(np.float32), held)[:periods]


def _times(periods: int) -> FloatArray:
    """Returns the middle of each period, in seconds: no step falls on one by rounding."""
    times: FloatArray = (np.arange(periods, dtype=np.float64) + 0.5) * CPU_PERIOD_SECONDS
    return times


def _two_levels(is_high: BoolArray, low_millicores: float, high_millicores: float) -> Profile:
    return np.where(is_high, np.float32(high_millicores), np.float32(low_millicores))
