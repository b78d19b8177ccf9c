"""Requests in a queue, first come first served: from served CPU time to delays."""

import numpy as np

from mbcas_core.units import USEC_PER_SECOND, FloatArray
from mbcas_loadtest.node.scenario import Arrivals


class FifoQueue:
    """The requests of one container in the order of their arrival."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrival_seconds = arrivals.arrival_seconds
        self._work_until = np.concatenate([[0.0], np.cumsum(arrivals.work_seconds)])
        self._served_seconds = 0.0
        self._done_count = 0
        self._last_done_seconds = 0.0

    def arriving_usec(self, start_seconds: float, stop_seconds: float) -> float:
        """Returns the work that arrives from start to before stop."""
        first, last = np.searchsorted(self._arrival_seconds, (start_seconds, stop_seconds))
        return float(self._work_until[last] - self._work_until[first]) * USEC_PER_SECOND

    def serve(self, start_seconds: float, served_usec: float) -> FloatArray:
        """Serves CPU time from a period's start on and returns when the requests it ends are done.

        A request is done when all work up to it is: work starts at its arrival, at the end of the
        request before it, or, where it was carried into this period, at the period's start.
        """
        before = self._served_seconds
        self._served_seconds += served_usec / USEC_PER_SECOND
        # A nanosecond of tolerance: sums of floats.
        limit = self._served_seconds + 1e-9
        done_count = int(np.searchsorted(self._work_until[1:], limit, side="right"))
        first, self._done_count = self._done_count, max(done_count, self._done_count)
        until = self._work_until[first + 1 : self._done_count + 1]
        if not len(until):
            return until
        # Completion = work up to here + the latest "start minus work before it" so far.
        lead = (
            self._arrival_seconds[first : self._done_count]
            - self._work_until[first : self._done_count]
        )
        lead[0] = max(lead[0], self._last_done_seconds - self._work_until[first])
        done: FloatArray = until + np.maximum.accumulate(np.maximum(lead, start_seconds - before))
        self._last_done_seconds = float(done[-1])
        return done
