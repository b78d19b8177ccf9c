"""How long a PATCH takes to the cgroup, as measured on a real node, and what else is chance.

Source: kubernetes.md, section 5 (Kubernetes 1.35, one node). What counts most is how long ago the
pod was patched before: three seconds later it takes 40 ms, sooner the kubelet is still busy. A
distribution is given by few of its quantiles, linear in between.

Chance is drawn for each node from its own seed and looked up by second and pod, so that two systems
meet the same luck at the same time, however often each of them tries.
"""

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import BoolArray, FloatArray, IntArray

SPACED_SECONDS = 3.0
SPACED = ((0.0, 0.5, 0.9, 1.0), (0.018, 0.038, 0.060, 0.188))
"""Quantiles of the delay, and delays in seconds; 105 PATCHes, all cases pooled."""
HURRIED: tuple[tuple[float, tuple[float, float, float]], ...] = (
    (0.25, (0.048, 1.064, 1.829)),
    (0.5, (1.362, 1.425, 1.991)),
    (1.0, (1.484, 1.600, 1.678)),
    (1.5, (0.685, 1.386, 1.983)),
    (2.0, (0.472, 0.548, 0.603)),
)
"""Seconds since the PATCH before, and least, median and most of the delay, 16 to 24 PATCHes each;
what lies between two intervals is taken from the longer one."""
_INTERVALS = np.array([interval for interval, _ in HURRIED])
_STREAM = 6  # Tells these draws from others that a seed gives.


class Draws:
    """What is left to chance, uniform from 0 to 1: (m, seconds, pods) each, or (m, seconds)."""

    def __init__(self, seeds: tuple[int, ...], *, seconds: int, pods: int) -> None:
        streams = [np.random.default_rng([_STREAM, seed]) for seed in seeds]
        by_node = [stream.random((seconds, pods, 3), np.float32) for stream in streams]
        self._of_patches: NDArray[np.float32] = np.stack(by_node)
        self.of_reports: NDArray[np.float32] = np.stack(
            [stream.random(seconds, np.float32) for stream in streams]
        )

    def of_patches(self, second: int, node: IntArray, pod: IntArray) -> NDArray[np.float32]:
        """Returns three draws for each of k PATCHes in this second, (k, 3)."""
        last = self._of_patches.shape[1] - 1
        own: NDArray[np.float32] = self._of_patches[node, min(second, last), pod]
        return own


def find_delay_seconds(draw: NDArray[np.floating], since_seconds: FloatArray) -> FloatArray:
    """Returns the delay of each of k PATCHes.

    Args:
        draw: Uniform from 0 to 1.
        since_seconds: How long before the pod was patched the last time; inf where never.
    """
    delay: FloatArray = np.interp(draw, *SPACED)
    hurried: BoolArray = since_seconds < SPACED_SECONDS
    if hurried.any():
        place = np.minimum(np.searchsorted(_INTERVALS, since_seconds[hurried]), len(HURRIED) - 1)
        bounds = np.array([row for _, row in HURRIED])[place]
        least, median, most = bounds.T
        share = draw[hurried]
        lower = least + (median - least) * share * 2.0
        upper = median + (most - median) * (share * 2.0 - 1.0)
        delay[hurried] = np.where(share < 0.5, lower, upper)  # noqa: PLR2004 - the median.
    return delay
