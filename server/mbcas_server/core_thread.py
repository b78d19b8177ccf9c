"""The thread that the core works in.

A tick of a thousand nodes takes tens of milliseconds, and whoever asked the server something in
that time would wait for all of it if the event loop did the work. So the core has a thread of its
own, and nothing touches the core but jobs of that thread: one after the other, so that none of them
needs a lock, and each sees the core between two events. The loop waits for a job as it waits for
the network.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from mbcas_server.clock import Clock
from mbcas_server.core import Core

SWITCH_SECONDS = 0.001
"""A thread that wants to run takes the interpreter from another after this. An answer takes it
about eight times, so Python's 5 ms are too many; at 0.1 ms more is lost in handing it over."""
STRETCH_SECONDS = 0.0003
BREATH_SECONDS = 0.0001
LONG_BREATH_SECONDS = 0.001  # For what has time.

Answer = TypeVar("Answer")


class CoreThread:
    """Owns the core. A reader waits for the driver's job; the driver for one reader at most."""

    def __init__(self, core: Core, executor: Executor | None = None) -> None:
        self._core = core
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="core")
        self._reader = asyncio.Semaphore(1)

    async def work(self, job: Callable[[Core], Answer]) -> Answer:
        """Does the driver's job; what it raises is raised here."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, job, self._core)

    async def read(self, question: Callable[[Core], Answer]) -> Answer:
        """Answers a question, which must change nothing and take a few milliseconds at most."""
        async with self._reader:
            return await self.work(question)

    def close(self) -> None:
        """Waits for the job that is being done; takes no other."""
        self._executor.shutdown(cancel_futures=True)


class Breaths:
    """Pauses in a job of many short steps, so that whoever waits for the interpreter gets it.

    Python does not pass it on unless it is asked to for `SWITCH_SECONDS`, each time anew.
    """

    def __init__(self, clock: Clock, *, breath_seconds: float = BREATH_SECONDS) -> None:
        self._clock = clock
        self._breath_seconds = breath_seconds
        self._last_seconds = clock.now_seconds()

    def take(self) -> None:
        """Pauses where the last pause is long ago; to be called between two steps."""
        if self._clock.now_seconds() - self._last_seconds > STRETCH_SECONDS:
            time.sleep(self._breath_seconds)  # noqa: TID251 - no task waits for this thread's time.
            self._last_seconds = self._clock.now_seconds()
