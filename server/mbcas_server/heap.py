"""Keeps the garbage collector away from what stays.

A full collection goes through every object: 0.15 s with 30,000 containers, in which no thread runs.
What the server knows of a container stays for hours, has no cycles and is freed without a collector
when the container goes. So as the number of containers grows, what is there is frozen: collections
no longer see it, and what is new is little. Of that, too, nearly all is freed by its last reference
within a tick, so the young are looked through less often than by default.
"""

import gc
import math

THRESHOLDS = (5_000, 20, 20)  # A tick makes some thousand objects; 700 would be a few per report.
CONTAINERS_MIN = 1_000  # Below, a collection takes a few milliseconds.
GROWTH = 1.05  # A twentieth more: not each new pod, and what is not frozen stays a small part.
SPACING_SECONDS = 10.0  # After a restart all nodes come within seconds, and are frozen together.


class Heap:
    """Freezes what is there each time that the containers have grown in number."""

    def __init__(self) -> None:
        self._frozen_count = CONTAINERS_MIN / GROWTH
        self._frozen_seconds = -math.inf

    def settle(self, container_count: int, *, now_seconds: float) -> None:
        """Freezes, where it is worth it."""
        if container_count < GROWTH * self._frozen_count:
            return
        if now_seconds < self._frozen_seconds + SPACING_SECONDS:
            return
        self._frozen_count, self._frozen_seconds = container_count, now_seconds
        gc.collect()  # What is garbage now would never be collected.
        gc.freeze()
