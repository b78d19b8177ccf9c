"""How many orders may be sent: API writes are the scarce good of a large cluster.

Two token buckets of equal rate. Orders draw from the first; emergencies draw from both, so half of
the budget is theirs alone. Only orders that end in an API write draw at all. What does not get a
token is not queued: the next round decides anew.
"""

import math
from dataclasses import dataclass

BUCKET_SECONDS = 5.0
"""A bucket holds what accrues in this time."""


def cluster_rate(nodes: int) -> float:
    """Writes a second that so many nodes bear: max(10, 0.02 x nodes), at most 100."""
    return min(100.0, max(10.0, 0.02 * nodes))


@dataclass(slots=True)
class ResizeBudget:
    """The tokens there are."""

    shared: float = 0.0
    emergency: float = 0.0
    time_seconds: float | None = None
    paused_until: float = -math.inf

    def refill(self, *, rate_per_second: float, now_seconds: float) -> None:
        """Adds what accrued since the last call; the first call fills the buckets."""
        half = rate_per_second / 2
        elapsed = math.inf if self.time_seconds is None else now_seconds - self.time_seconds
        self.time_seconds = now_seconds
        full = max(half * BUCKET_SECONDS, 1.0)  # A slow bucket must come to a whole token too.
        self.shared = min(full, self.shared + half * max(elapsed, 0.0))
        self.emergency = min(full, self.emergency + half * max(elapsed, 0.0))

    def pause(self, *, until_seconds: float) -> None:
        """Gives nothing out until then: the API server asked for it."""
        self.paused_until = max(self.paused_until, until_seconds)

    def available(self, *, emergency: bool) -> int:
        """Whole tokens that may be taken now."""
        if self.time_seconds is not None and self.time_seconds < self.paused_until:
            return 0
        return int(self.shared) + (int(self.emergency) if emergency else 0)

    def take(self, count: int, *, emergency: bool) -> None:
        """Takes tokens, at most as many as are available, from the shared ones first."""
        assert count <= self.available(emergency=emergency), "no more tokens than there are"
        shared = min(count, int(self.shared))
        self.shared -= shared
        self.emergency -= count - shared
