"""A clock that a test moves, and what is due on it."""

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When the clock starts."""


class Timers:
    """Callbacks in the order of their times; nothing happens until `advance`."""

    def __init__(self) -> None:
        self.now_seconds = 0.0
        self._number = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def text(self, *, later_seconds: float = 0.0) -> str:
        """Writes the time as objects' metadata do: whole seconds."""
        now = EPOCH + timedelta(seconds=self.now_seconds + later_seconds)
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls back once so much time has passed."""
        self.at(self.now_seconds + seconds, callback)

    def at(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls back at a time, or at once where it has passed."""
        heapq.heappush(self._due, (seconds, next(self._number), callback))

    def advance(self, seconds: float) -> None:
        """Moves the clock and calls back whoever is due, each at its own time."""
        end = self.now_seconds + seconds
        while self._due and self._due[0][0] <= end:
            due, _, callback = heapq.heappop(self._due)
            self.now_seconds = max(self.now_seconds, due)
            callback()
        self.now_seconds = end
