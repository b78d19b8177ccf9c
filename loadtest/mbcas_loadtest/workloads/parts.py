"""What most scenarios draw in the same way."""

import numpy as np

from mbcas_loadtest.workloads.noise import grain_usec

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
