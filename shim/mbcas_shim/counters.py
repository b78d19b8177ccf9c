"""Counts failures and says each kind at most once a minute.

The shim has no metrics port of its own; the counts are logged in one line at its end.
"""

import logging
import threading

from mbcas_shim.clock import Clock

REPEAT_AFTER_SECONDS = 60.0  # Often enough to be seen in a log, too seldom to flood it.

_log = logging.getLogger(__name__)


class Counters:
    """Named counts of what went wrong; the names are literals, so there are few of them.

    Any thread may count.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._said_seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def count(self, name: str, detail: object = "", *, by: int = 1) -> None:
        """Adds to a count, and logs it unless that was done less than a minute ago."""
        now = self._clock.now_seconds()
        with self._lock:
            self._counts[name] = total = self._counts.get(name, 0) + by
            said_seconds = self._said_seconds.get(name, -REPEAT_AFTER_SECONDS)
            is_due = now - said_seconds >= REPEAT_AFTER_SECONDS
            if is_due:
                self._said_seconds[name] = now
        if is_due:
            _log.warning("trouble kind=%s total=%d detail=%s", name, total, detail)

    def value(self, name: str) -> int:
        return self._counts.get(name, 0)

    def summary(self) -> str:
        return " ".join(f"{name}={total}" for name, total in sorted(self._counts.items()))
