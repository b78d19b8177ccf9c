"""Time, as everything in the server takes it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; tests have one that moves only when told."""

    def now_seconds(self) -> float:
        """Monotonic time."""
        ...

    def unix_seconds(self) -> float:
        """Time of day, for what people and other machines read."""
        ...

    async def sleep_until(self, deadline_seconds: float) -> None:
        """Waits until `now_seconds()` reaches the deadline; returns at once where it is past."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_seconds(self) -> float:
        return time.monotonic()  # noqa: TID251 - the one place that reads it.

    def unix_seconds(self) -> float:
        return time.time()  # noqa: TID251 - the one place that reads it.

    async def sleep_until(self, deadline_seconds: float) -> None:
        await asyncio.sleep(max(0.0, deadline_seconds - self.now_seconds()))
