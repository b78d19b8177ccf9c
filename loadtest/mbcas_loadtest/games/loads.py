"""What the pods of a game demand: drawn once, the same for every way of playing it.

Each pod has one of four loads, in millicores, by the second:

    steady     mean x exp(autoregressive noise, memory of 50 s, standard deviation 0.15)
    bursty     a quiet level, and bursts of 4 to 20 s at 2 to 5 times that, a minute or so apart
    periodic   mean x (1 + 0.6 sin), periods of 2 to 10 minutes
    drifting   as steady, memory of 10 minutes, standard deviation 0.5

On top of it, the work of each 100 ms is Gamma with a coefficient of variation of the pod's own.
"""

import numpy as np

from mbcas_core.units import SLICES_PER_SECOND, FloatArray

VARIATIONS = (0.1, 0.3, 0.6)
"""Coefficients of variation of the 100 ms slices."""


def draw_paths(
    generator: np.random.Generator, mean_millicores: FloatArray, steps: int, *, step_seconds: float
) -> FloatArray:
    """Draws the demand of each pod at each step, shape (steps, *mean.shape), and its own mean."""
    shape = mean_millicores.shape
    kinds = generator.integers(0, 4, shape)
    paths = np.stack(
        [
            _draw_noise(generator, shape, steps, memory=50 / step_seconds, deviation=0.15),
            _draw_bursts(generator, shape, steps, step_seconds),
            _draw_waves(generator, shape, steps, step_seconds),
            _draw_noise(generator, shape, steps, memory=600 / step_seconds, deviation=0.5),
        ]
    )
    chosen = np.take_along_axis(paths, kinds[None, None], axis=0)[0]
    demand: FloatArray = chosen / chosen.mean(axis=0) * mean_millicores
    return demand


def _draw_noise(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    steps: int,
    *,
    memory: float,
    deviation: float,
) -> FloatArray:
    keep = np.exp(-1.0 / memory)
    shock = generator.normal(0.0, deviation * np.sqrt(1 - keep**2), (steps, *shape))
    level = generator.normal(0.0, deviation, shape)
    path = np.empty((steps, *shape))
    for step in range(steps):
        level = keep * level + shock[step]
        path[step] = level
    return np.exp(path)


def _draw_bursts(
    generator: np.random.Generator, shape: tuple[int, ...], steps: int, step_seconds: float
) -> FloatArray:
    path = np.ones((steps, *shape))
    left = generator.uniform(5.0, 60.0, shape)
    height = np.ones(shape)
    for step in range(steps):
        left -= step_seconds
        over = left <= 0
        rest, burst = generator.uniform(30.0, 90.0, shape), generator.uniform(4.0, 20.0, shape)
        top = generator.uniform(2.0, 5.0, shape)
        begins = over & (height == 1.0)
        height = np.where(over, np.where(begins, top, 1.0), height)
        left = np.where(over, np.where(begins, burst, rest), left)
        path[step] = height
    return path


def _draw_waves(
    generator: np.random.Generator, shape: tuple[int, ...], steps: int, step_seconds: float
) -> FloatArray:
    period = generator.uniform(120.0, 600.0, shape)
    phase = generator.uniform(0.0, 2 * np.pi, shape)
    time = np.arange(steps).reshape(-1, *([1] * len(shape))) * step_seconds
    path: FloatArray = 1.0 + 0.6 * np.sin(2 * np.pi * time / period + phase)
    return path


def draw_slices(
    generator: np.random.Generator, demand_millicores: FloatArray, variation: FloatArray
) -> FloatArray:
    """Draws the work of a second's slices, shape (SLICES_PER_SECOND, *demand.shape), millicores."""
    shape = 1.0 / variation**2
    gamma = generator.gamma(shape, 1.0 / shape, (SLICES_PER_SECOND, *demand_millicores.shape))
    work: FloatArray = gamma * demand_millicores
    return work
