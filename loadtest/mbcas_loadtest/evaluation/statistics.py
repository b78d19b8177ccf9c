"""Paired comparisons of two systems, and what many of them at once are worth.

The unit is the seed, never the tick: ticks of one run are not independent. All systems meet the
same arrivals, so differences are taken seed by seed, which removes what makes one draw harder than
another. Reported are the mean difference, its t interval, a bootstrap interval that assumes no
normal distribution (BCa: Efron, Better Bootstrap Confidence Intervals, JASA 1987), and two effect
sizes: d_z = mean / sd of the differences, and Hedges' g, whose yardstick is the spread between
seeds (Hedges 1981; factor J = 1 - 3 / (4 df - 1), 0.958 for 10 seeds). In a simulation d_z is large
by construction: read the difference itself first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped] # It comes without types.

from mbcas_core.units import FloatArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
LEAST_SEEDS = 3
"""Below this nothing can be said about spread."""
LEAST_SYSTEMS = 3
"""Friedman's test compares three or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One quantity of a system minus that of a rival, over the seeds that both have."""

    seeds: int
    mean_difference: float
    t_interval: tuple[float, float] | None = None
    """Two-sided, 95 %; None for fewer than three seeds, as all that follows."""
    bca_interval: tuple[float, float] | None = None
    """Two-sided, 95 %, seeds resampled."""
    lower_bound: float | None = None
    """One-sided, 95 %: it is at least this."""
    upper_bound: float | None = None
    """One-sided, 95 %: it is at most this. Below a margin: not inferior."""
    d_z: float | None = None
    """None also where all differences are the same."""
    hedges_g: float | None = None
    p_value: float | None = None
    """Paired t-test, two-sided."""
    p_welch: float | None = None
    """As if the seeds were not paired: shows how much rests on pairing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Several systems on the same seeds: whether any of them differs."""

    chi_square: float
    p_value: float
    partial_eta_squared: float
    """Of a repeated-measures analysis of variance: share of what is not between seeds."""


def compare(system: FloatArray, rival: FloatArray) -> Paired:
    """Compares two systems seed by seed.

    Args:
        system: (n,) one number for each seed; not finite where there is none.
        rival: (n,) of the same seeds in the same order.
    """
    assert system.shape == rival.shape, "one value of each for every seed"
    both = np.isfinite(system) & np.isfinite(rival)
    first, second = system[both], rival[both]
    count = len(first)
    if count == 0:
        return Paired(seeds=0, mean_difference=np.nan)
    differences = first - second
    mean = float(differences.mean())
    if count < LEAST_SEEDS:
        return Paired(seeds=count, mean_difference=mean)
    error = float(stats.sem(differences))
    two_sided, one_sided = stats.t.ppf([(1 + CONFIDENCE) / 2, CONFIDENCE], count - 1) * error
    return Paired(
        seeds=count,
        mean_difference=mean,
        t_interval=(mean - two_sided, mean + two_sided),
        bca_interval=bca_interval(differences),
        lower_bound=mean - one_sided,
        upper_bound=mean + one_sided,
        d_z=None if _is_constant(differences) else mean / float(differences.std(ddof=1)),
        hedges_g=hedges_g(first, second),
        p_value=_p_value(differences),
        p_welch=_p_welch(first, second),
    )


def bca_interval(values: FloatArray) -> tuple[float, float]:
    """Returns the 95 % interval of the mean, by bootstrap with bias and skew corrected."""
    if _is_constant(values):
        return float(values[0]), float(values[0])
    with np.errstate(all="ignore"):  # Rare resamples are constant; scipy handles them.
        found = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        ).confidence_interval
    return float(found.low), float(found.high)


def hedges_g(first: FloatArray, second: FloatArray) -> float | None:
    """Returns the difference of two means in pooled standard deviations, corrected for few seeds.

    None where neither has any spread.
    """
    pooled = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    if _is_constant(first) and _is_constant(second):
        return None
    freedom = len(first) + len(second) - 2
    return float((first.mean() - second.mean()) / pooled * (1 - 3 / (4 * freedom - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for their number (Holm 1979): each is to be below alpha.

    The i-th smallest of k is multiplied by k - i + 1, and is at least the one before it.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def rank_systems(values: FloatArray) -> Ranking | None:
    """Asks whether any of k systems differs on n seeds (Friedman 1937).

    Args:
        values: (n, k); seeds with a value that is not finite are left out.

    Returns:
        None where there are fewer than three systems or seeds, or no differences at all.
    """
    whole = values[np.isfinite(values).all(axis=1)]
    if whole.shape[0] < LEAST_SEEDS or whole.shape[1] < LEAST_SYSTEMS:
        return None
    if all(_is_constant(row) for row in whole):
        return None
    between = whole.mean(axis=0, keepdims=True) - whole.mean()
    residual = whole - whole.mean(axis=1, keepdims=True) - between
    among, left = float((between**2).sum() * len(whole)), float((residual**2).sum())
    chi_square, p_value = stats.friedmanchisquare(*whole.T)
    return Ranking(
        chi_square=float(chi_square),
        p_value=float(p_value),
        partial_eta_squared=among / (among + left),
    )


def _p_value(differences: FloatArray) -> float:
    if _is_constant(differences):
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _p_welch(first: FloatArray, second: FloatArray) -> float:
    if _is_constant(first) and _is_constant(second):
        return 1.0 if first[0] == second[0] else 0.0
    one, other = ((side.mean(), side.std(ddof=1), side.size) for side in (first, second))
    # From the moments: from the values scipy warns where one side alone is constant.
    found = stats.ttest_ind_from_stats(*one, *other, equal_var=False)
    return float(found.pvalue)


def _is_constant(values: FloatArray) -> bool:
    """Whether the spread is nothing but the last bits of floats."""
    spread = float(np.ptp(values))
    return spread <= 1e-12 * max(1.0, float(np.abs(values).max()))
