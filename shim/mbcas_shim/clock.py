"""The only source of time: everything else is given a clock."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock and a way to wait on it."""

    def now_seconds(self) -> float: ...

    async def sleep_until(self, deadline_seconds: float) -> None: ...


class MonotonicClock:
    """The node's CLOCK_MONOTONIC, which is also the event loop's clock on Linux."""

    def now_seconds(self) -> float:
        return time.monotonic()  # noqa: TID251  # This is the clock that others take.

    async def sleep_until(self, deadline_seconds: float) -> None:
        await asyncio.sleep(max(0.0, deadline_seconds - self.now_seconds()))
