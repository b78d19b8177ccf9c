r"""How much headroom keeps throttling at its target, from theory alone.

Problem: work arrives in slices of 100 ms, X_1, X_2, ... with mean m and coefficient of variation
c. A quota of l·m serves it; what is left over waits. Which level l throttles a share tau of the
slices?

The backlog is a random walk with reflection (Lindley), B_n = max(0, B_{n-1} + X_n - l·m), and slice
n is throttled exactly when B_n > 0. In the long run B is the maximum of the free walk, and by
Spitzer's identity (Spitzer, Trans. AMS 82, 1956; Asmussen, Applied Probability and Queues, VIII.4)

    P(B = 0) = exp(-sum_{n>=1} P(S_n > n·l·m) / n),        S_n = X_1 + ... + X_n.

For independent Gamma slices with shape k = 1/c², S_n is Gamma with shape n·k, whose tail Wilson
and Hilferty (PNAS 17, 1931) give within a percent or so:

    P(S_n > n·l·m) = Phi(-z),    z = 3·sqrt(a)·(l^(1/3) - 1 + 1/(9a)),    a = n·k.

The sum is cut after 400 terms, and the level where the share is tau is found once per tau on a
grid of c; a row's level is then one interpolation. Worked numbers: c = 0.3 needs a level of 1.56
for tau = 5 % and 1.83 for 1 %; c = 0.1 needs 1.17 and 1.25. (Simulated recursions of 400,000 slices
give shares within 0.2 percentage points of the formula for c from 0.1 to 1.)

Slices of a real load are not independent, so this is where an agent starts, not where a learner
ends.
"""

import functools

import numpy as np

from mbcas_core.units import FloatArray

VARIATIONS: FloatArray = np.concatenate([np.arange(0.02, 0.5, 0.02), np.arange(0.5, 2.05, 0.1)])
"""Grid of c; outside it the nearest end counts."""
LEVELS: FloatArray = 1.0 + np.geomspace(0.01, 9.0, 90)
"""Grid of levels, 1.01 to 10."""
TERMS = 400
TAIL_COEFFICIENTS = (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530)
MAX_Z = 30.0  # The density beyond is below 1e-195.


def throttled_shares(levels: FloatArray, variation: float) -> FloatArray:
    """Long-run share of slices that end with work left, 0 to 1, at each level above 1."""
    n = np.arange(1, TERMS + 1)
    a = n / variation**2
    z = 3.0 * np.sqrt(a) * (np.cbrt(levels)[:, None] - 1.0 + 1.0 / (9.0 * a))
    shares: FloatArray = 1.0 - np.exp(-(_normal_tail(z) / n).sum(axis=1))
    return shares


def _normal_tail(z: FloatArray) -> FloatArray:
    """P(Z > z) for z of at least 0, within 1e-7 (Abramowitz and Stegun, 26.2.17)."""
    t = 1.0 / (1.0 + 0.2316419 * z)
    polynomial = np.polyval(TAIL_COEFFICIENTS, t) * t
    density = np.exp(-0.5 * np.minimum(z, MAX_Z) ** 2) / np.sqrt(2.0 * np.pi)
    tail: FloatArray = density * polynomial
    return tail


@functools.cache
def _shares() -> FloatArray:
    """Shares on the grid, shape (variations, levels); falling along the levels."""
    return np.array([throttled_shares(LEVELS, float(c)) for c in VARIATIONS])


@functools.cache
def _levels(tau: float) -> FloatArray:
    """The level for each variation of the grid at one tau."""
    rising = _shares()[:, ::-1]
    return np.array([np.interp(tau, row, LEVELS[::-1]) for row in rising])


def level(variation: FloatArray, tau: FloatArray) -> FloatArray:
    """Headroom factor over the mean, 1.01 to 10, shape (n,).

    Args:
        variation: Coefficient of variation of the 100 ms slices, at least 0.
        tau: Throttling target as a share of wall time, 0 to 1 (exclusive).
    """
    result = np.empty_like(variation)
    for target in np.unique(tau):  # A handful of classes, not a loop over rows.
        own = tau == target
        result[own] = np.interp(variation[own], VARIATIONS, _levels(float(target)))
    return result
