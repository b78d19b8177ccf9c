"""Quotas of pods: the groups above the containers' groups, which throttle all of their children."""

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.plant.recursion import share_by_weight


class Pods:
    """The pods of m nodes, and the runtime that is left in their groups.

    A pod's group has a quota and a burst as a container's has. Where its children want more than
    its runtime, they run side by side until it is used up, each at the rate of its threads.
    """

    def __init__(self, threads: FloatArray, pod: IntArray) -> None:
        """Starts with nothing carried over.

        Args:
            threads: (m, n).
            pod: (n,) number of each container's pod, ascending from 0.
        """
        self._threads = threads
        self._starts = np.flatnonzero(np.diff(pod, prepend=-1))
        self._of = pod
        self._carried_usec = np.zeros((threads.shape[0], len(self._starts)))
        self._quota_usec = self._most_usec = self._burst_usec = self._carried_usec[np.newaxis]
        self._runtime_usec = self._carried_usec

    def set(self, quota_usec: FloatArray, burst_usec: FloatArray | None, *, count: int) -> None:
        """Takes what holds in the next periods, broadcast to (count, m, pods)."""
        shape = (count, *self._carried_usec.shape)
        self._quota_usec = np.broadcast_to(quota_usec, shape)
        burst = np.zeros(()) if burst_usec is None else burst_usec
        self._burst_usec = np.where(np.isfinite(self._quota_usec), burst, 0.0)
        self._most_usec = self._quota_usec + self._burst_usec

    def hold(self, wanted: FloatArray, period: int) -> None:
        """Cuts what containers (m, n) get to what their pods have, in place."""
        self._runtime_usec = np.minimum(
            self._carried_usec + self._quota_usec[period], self._most_usec[period]
        )
        over = np.add.reduceat(wanted, self._starts, axis=-1) > self._runtime_usec
        for number in np.flatnonzero(over.any(axis=0)):
            nodes, members = over[:, number], self._of == number
            here = np.ix_(nodes, members)
            wanted[here] = share_by_weight(
                wanted[here],
                self._threads[here],
                capacity=self._runtime_usec[nodes, number, np.newaxis],
            )

    def settle(self, served: FloatArray, period: int) -> None:
        """Takes what was served off the pods' runtime."""
        left = self._runtime_usec - np.add.reduceat(served, self._starts, axis=-1)
        self._carried_usec = np.clip(left, 0.0, self._burst_usec[period])
