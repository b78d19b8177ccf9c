"""Settings of systems that have one number for a container: request and limit are the same."""

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.world import Declared

USEC_PER_MILLICORE_PERIOD = 100.0
"""What one millicore can use in a period of 100 ms."""
FLOOR_MILLICORES = 10.0  # Smaller limits act as this much: kubernetes.md, row 53.


def one_number(millicores: FloatArray, *, is_whole: bool = True) -> Settings:
    """Returns request = limit, at least what the kernel takes; no burst.

    Whole millicores are what the API takes; a cgroup counts in microseconds.
    """
    number = np.maximum(millicores, FLOOR_MILLICORES)
    number = np.ceil(number) if is_whole else number
    return Settings(
        request_millicores=number,
        limit_millicores=number,
        burst_millicores=np.zeros(number.shape),
    )


def declared_millicores(declared: Declared) -> FloatArray:
    """Returns the one number that manifests say: the limit, or the request where there is none."""
    limit: IntArray = declared.limit_millicores
    number: FloatArray = np.where(limit > 0, limit, declared.request_millicores).astype(np.float64)
    return number


def mean_millicores(usage_usec: FloatArray) -> FloatArray:
    """Returns the mean usage (m, n) of periods (k, m, n)."""
    mean: FloatArray = usage_usec.mean(axis=0) / USEC_PER_MILLICORE_PERIOD
    return mean
