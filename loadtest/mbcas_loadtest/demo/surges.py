"""How soon a throttled container gets more: surges found in counters, one at a time.

A surge begins when a container that was not throttled for a second is throttled. It counts where at
least 60 % of the periods of the second that follows are throttled (up to the raise, if that comes
within the second). Its reaction time runs from the end of its first throttled period, which is when
the kernel counts it, to the next raise of the quota in the kernel. A surge is over without an
answer when the container is no longer throttled for a second, or the watching ends.
"""

from dataclasses import dataclass

from mbcas_core.units import CPU_PERIOD_SECONDS

QUIET_SECONDS = 1.0
WINDOW_SECONDS = 1.0
THROTTLED_SHARE = 0.6
THROTTLED_LEAST = 3
"""Periods: a raise that comes earlier is chance, not an answer."""


@dataclass(slots=True)
class _Surge:
    start_seconds: float
    nr_throttled: int
    """Its first period is counted in it."""
    quota_before: float
    last_throttled_seconds: float
    is_full: bool = False
    """Throttled in 60 % of the periods of its first second."""


class SurgeWatch:
    """Watches one container; feed it often, at least every 100 ms."""

    def __init__(self) -> None:
        self.reactions_seconds: list[float] = []
        self.unanswered_count = 0
        self._surge: _Surge | None = None
        self._nr_throttled: int | None = None
        self._last_throttled_seconds: float | None = None
        self._first_seconds = 0.0

    def feed(self, now_seconds: float, nr_throttled: int, quota_millicores: float) -> None:
        """Takes in the counters of one moment."""
        if self._nr_throttled is None:
            self._nr_throttled, self._first_seconds = nr_throttled, now_seconds
            return
        before, self._nr_throttled = self._nr_throttled, nr_throttled
        if nr_throttled > before:
            self._take_throttled(now_seconds, nr_throttled, quota_millicores)
        if self._surge is not None:
            self._advance(self._surge, now_seconds, nr_throttled, quota_millicores)

    def finish(self) -> None:
        """Ends the watch: a surge that still runs stays without an answer."""
        if self._surge is not None and self._surge.is_full:
            self.unanswered_count += 1
        self._surge = None

    def _take_throttled(
        self, now_seconds: float, nr_throttled: int, quota_millicores: float
    ) -> None:
        quiet_since = self._last_throttled_seconds or self._first_seconds
        self._last_throttled_seconds = now_seconds
        if self._surge is not None:
            self._surge.last_throttled_seconds = now_seconds
        elif now_seconds - quiet_since >= QUIET_SECONDS:
            self._surge = _Surge(now_seconds, nr_throttled, quota_millicores, now_seconds)

    def _advance(
        self, surge: _Surge, now_seconds: float, nr_throttled: int, quota_millicores: float
    ) -> None:
        age_seconds = now_seconds - surge.start_seconds
        is_young = age_seconds <= WINDOW_SECONDS
        throttled = nr_throttled - surge.nr_throttled
        if is_young:
            surge.is_full = throttled >= THROTTLED_SHARE * WINDOW_SECONDS / CPU_PERIOD_SECONDS
        if quota_millicores > surge.quota_before:
            share = throttled / max(age_seconds / CPU_PERIOD_SECONDS, 1.0)
            is_early = is_young and throttled >= THROTTLED_LEAST and share >= THROTTLED_SHARE
            if surge.is_full or is_early:
                self.reactions_seconds.append(age_seconds)
            self._surge = None
        elif now_seconds - surge.last_throttled_seconds >= QUIET_SECONDS:
            self.unanswered_count += surge.is_full
            self._surge = None
        else:
            # A cut in the surge does not make its undoing a raise.
            surge.quota_before = max(surge.quota_before, quota_millicores)
