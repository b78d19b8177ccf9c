"""Log lines that cannot become a flood."""

import logging

from mbcas_server.clock import Clock

LINES_PER_WINDOW = 10
WINDOW_SECONDS = 60.0
EVENTS_MAX = 200  # Kinds of event remembered; they are fixed texts, so there are few.


class LimitedLog:
    """Logs at most ten lines a minute of each kind of event, and says how many it left out."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def log(self, level: int, event: str, detail: str) -> None:
        """Logs one event.

        Args:
            level: As in `logging`.
            event: A fixed text: the kind.
            detail: ``key=value`` pairs.
        """
        now_seconds = self._clock.now_seconds()
        start_seconds, count = self._windows.get(event, (now_seconds, 0))
        left_out = 0
        if now_seconds - start_seconds >= WINDOW_SECONDS:
            left_out = max(0, count - LINES_PER_WINDOW)
            start_seconds, count = now_seconds, 0
        if event not in self._windows and len(self._windows) >= EVENTS_MAX:
            event = "other event"
        self._windows[event] = (start_seconds, count + 1)
        if left_out:
            self._logger.log(level, "%s left_out=%d", event, left_out)
        if count < LINES_PER_WINDOW:
            self._logger.log(level, "%s %s", event, detail)
