"""What most scenarios draw in the same way."""

import numpy as np

from mbcas_loadtest.workloads.loads import Load
from mbcas_loadtest.workloads.noise import GammaWork, PoissonRequests, grain_usec
from mbcas_loadtest.workloads.scenario import Container

CVS = (0.1, 0.3, 0.5)
"""Coefficients of variation of 100 ms of work, evaluation.md F.1."""
REQUEST_USEC_MIN = 100.0


def draw_cv(generator: np.random.Generator) -> float:
    """Returns one of the three coefficients of variation."""
    return CVS[generator.integers(len(CVS))]


def draw_request_usec(generator: np.random.Generator, mean_millicores: float, cv: float) -> float:
    """Returns the CPU time of one request.

    Independent requests of exponential cost that vary as drawn would have a grain of CV^2 x mean
    work / 2; where requests come in clumps they are smaller than that, down to a quarter of it.
    """
    most = grain_usec(mean_millicores, cv, cost_cv=1.0)
    return max(REQUEST_USEC_MIN, most * float(0.25 ** generator.uniform()))


def draw_service(
    generator: np.random.Generator,
    name: str,
    load: Load,
    *,
    mean_millicores: float,
    declared_millicores: float,
    threads: int = 4,
) -> Container:
    """Returns a container with Gamma work and a drawn grain.

    Args:
        generator: Of the container.
        name: Of the container.
        load: What it wants over time.
        mean_millicores: Where the grain of its requests is as drawn.
        declared_millicores: Its request and its limit.
        threads: As many CPUs as its peaks need, and not many more: each may keep some runtime
            beyond a period (plant), so idle threads would soften the quota.
    """
    cv = draw_cv(generator)
    return Container(
        name=name,
        load=load,
        noise=GammaWork(cv=cv),
        request_millicores=declared_millicores,
        limit_millicores=declared_millicores,
        threads=threads,
        request_usec=draw_request_usec(generator, mean_millicores, cv),
    )


def draw_requests(generator: np.random.Generator, mean_millicores: float) -> PoissonRequests:
    """Returns Poisson requests that vary as drawn where the load is at this mean."""
    cv, cost_cv = draw_cv(generator), generator.uniform(0.5, 1.5)
    return PoissonRequests(
        request_usec=max(REQUEST_USEC_MIN, grain_usec(mean_millicores, cv, cost_cv)),
        cost_cv=cost_cv,
    )
