"""From a profile to arrivals: the work of each period of 100 ms.

Two kinds. *Gamma work*: each period's work is Gamma distributed around the profile with the given
coefficient of variation, independent of the others; this is the noise of evaluation.md's table.
*Poisson requests*: a Poisson number of requests arrives, each costs a Gamma amount of CPU; the
work of N requests with shape k each is Gamma with shape N k, so a period costs two draws. The
coefficient of variation then follows from the grain, CV^2 = (1 + 1/k) cost / mean work, and grows
where the load is low, as it does for real services.
"""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import CPU_PERIOD_USEC, MILLICORES_PER_CORE
from mbcas_loadtest.workloads.loads import Profile

USEC_PER_MILLICORE = CPU_PERIOD_USEC / MILLICORES_PER_CORE
"""Work of a period that is one millicore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaWork:
    """Independent Gamma work a period."""

    cv: float
    """Standard deviation over mean of the work of 100 ms; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonRequests:
    """Requests at a Poisson rate, of `request_usec` CPU time in the mean."""

    request_usec: float
    cost_cv: float
    """Standard deviation over mean of what a request costs, above 0; 1 is exponential."""


Noise = GammaWork | PoissonRequests


def draw_arrivals(
    noise: Noise, profile: Profile, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Returns the work of each period in CPU microseconds, (periods,)."""
    match noise:
        case GammaWork():
            return _gamma_work(noise.cv, profile, generator)
        case PoissonRequests():
            return _poisson_requests(noise, profile, generator)
        case _:
            assert_never(noise)


def grain_usec(mean_millicores: float, cv: float, cost_cv: float) -> float:
    """Returns what a request costs where Poisson requests around this mean vary by `cv`."""
    return cv**2 * mean_millicores * USEC_PER_MILLICORE / (1.0 + cost_cv**2)


def _gamma_work(cv: float, profile: Profile, generator: np.random.Generator) -> NDArray[np.float32]:
    mean = profile * np.float32(USEC_PER_MILLICORE)
    if cv == 0.0:
        return mean
    work = generator.standard_gamma(1.0 / cv**2, profile.size, dtype=np.float32)
    work *= np.float32(cv**2)
    work *= mean
    return work


def _poisson_requests(
    noise: PoissonRequests, profile: Profile, generator: np.random.Generator
) -> NDArray[np.float32]:
    # Counts and costs are drawn from streams of their own: a shorter run is then the beginning.
    counts, costs = generator.spawn(2)
    mean_count = profile * (USEC_PER_MILLICORE / noise.request_usec)
    shape = 1.0 / noise.cost_cv**2
    work = costs.standard_gamma(counts.poisson(mean_count) * shape)
    arrivals: NDArray[np.float32] = (work * (noise.request_usec / shape)).astype(np.float32)
    return arrivals
