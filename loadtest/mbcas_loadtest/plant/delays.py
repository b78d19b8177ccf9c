"""Delays of requests, from what arrived and what was served."""

from mbcas_core.units import FloatArray
from mbcas_loadtest.plant.batch import Periods


class DelayMeter:
    """Delays of work, weighted by work, as one histogram for each container of (m, n).

    A unit of work is done when all work that came before it is; it waits from its arrival until
    then. The resolution is a tenth of the delay or better.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        threads: FloatArray | float = 1.0,
        request_usec: FloatArray | float = 0.0,
    ) -> None:
        """Starts without work.

        Args:
            shape: (m, n).
            threads: As the plant's.
            request_usec: Mean CPU time of a request, which is part of its delay.
        """
        raise NotImplementedError

    def add(self, periods: Periods) -> None:
        """Takes the next k periods in."""
        raise NotImplementedError

    def quantile_seconds(self, share: float) -> FloatArray:
        """Returns the delay (m, n) that this share of the work does not exceed; NaN: no work."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forgets the delays so far, as after a warm-up; what waits goes on waiting."""
        raise NotImplementedError
