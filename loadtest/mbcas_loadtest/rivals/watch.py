"""Throttling held against a target over a window, for rules that step up or down.

Ten periods of a second say little about a target of 5 %, so a verdict needs a window of 15 s. It is
passed as soon as it is certain: a container that has been throttled more often than the whole
window allows is *over* at once, however little of the window has gone by; one is *under* only when
the window is over. Whatever a verdict leads to, the container's window starts anew, so that nobody
answers twice to the same throttling.
"""

import numpy as np

from mbcas_core.units import BoolArray, IntArray

WINDOW_PERIODS = 150
TOLERANCE_PERIODS = 1e-6
"""0.8 x 0.05 x 150 is above 6 as a float."""


class ThrottleWatch:
    """Windows of the containers (m, n) of all nodes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._periods: IntArray = np.zeros(shape, np.int64)
        self._throttled: IntArray = np.zeros(shape, np.int64)

    def add(self, throttled: BoolArray) -> None:
        """Takes in k periods, (k, m, n)."""
        self._periods += throttled.shape[0]
        self._throttled += throttled.sum(axis=0)

    def verdicts(self, over_ratio: float, under_ratio: float) -> tuple[BoolArray, BoolArray]:
        """Returns who is over and who is under, and starts every judged window anew.

        Args:
            over_ratio: Throttled share of the window above which a container is over.
            under_ratio: Below which it is under; in between the verdict is that all is well.
        """
        over = self._throttled > over_ratio * WINDOW_PERIODS + TOLERANCE_PERIODS
        done = self._periods >= WINDOW_PERIODS
        least = under_ratio * WINDOW_PERIODS - TOLERANCE_PERIODS
        under = done & ~over & (self._throttled < least)
        self.forget(over | done)
        return over, under

    def forget(self, gone: BoolArray) -> None:
        """Starts these windows (m, n) anew."""
        np.copyto(self._periods, 0, where=gone)
        np.copyto(self._throttled, 0, where=gone)
