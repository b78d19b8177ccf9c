"""How many writes something may have."""

from mbcas_server.clock import Clock


class Bucket:
    """So many at once, and so many a second in the long run."""

    def __init__(self, clock: Clock, *, per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_seconds = clock.now_seconds()

    def take(self) -> bool:
        """Takes one where there is one."""
        now_seconds = self._clock.now_seconds()
        earned = (now_seconds - self._filled_seconds) * self._per_second
        self._tokens = min(self._burst, self._tokens + earned)
        self._filled_seconds = now_seconds
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
