"""Names the kind of load a container has, for people and for the agent's burst memory."""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.parameters import WORKLOAD_CLASSES
from mbcas_core.units import BoolArray, FloatArray, IntArray

UNKNOWN, IDLE, BURSTY, STEADY = range(len(WORKLOAD_CLASSES))
IDLE_RATIO = 0.1
IDLE_MILLICORES = 20.0
STEADY_VARIATION = 0.2


def classify(
    *, base: FloatArray, variation: FloatArray, bursty: BoolArray, admitted_request: IntArray
) -> NDArray[np.int8]:
    """Index into WORKLOAD_CLASSES for each row: bursty before idle before steady, else unknown.

    Args:
        base: Forecast demand in millicores.
        variation: Coefficient of variation of the 100 ms slices.
        bursty: True where bursts come again.
        admitted_request: In millicores.
    """
    idle = (base < IDLE_RATIO * admitted_request) | (base < IDLE_MILLICORES)
    calm = np.where(variation < STEADY_VARIATION, STEADY, UNKNOWN)
    return np.where(bursty, BURSTY, np.where(idle, IDLE, calm)).astype(np.int8)
