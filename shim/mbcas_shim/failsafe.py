"""Gives back admitted values, without burst credit, when the server was silent for too long."""

import logging
from collections.abc import Callable

from mbcas_shim.clock import Clock
from mbcas_shim.counters import Counters
from mbcas_shim.enforce import Enforcer

RETRY_SECONDS = 30.0  # While the server stays silent, whether all is still given back.
_BACKOFF_FIRST_SECONDS = 5.0  # What could not be given back is tried again sooner at first ...
_BACKOFF_MAX_SECONDS = 60.0  # ... and then as often as an API server that is down can bear.

_log = logging.getLogger(__name__)


class Failsafe:
    """Watches for silence. A word from the server ends it; orders then bring rows where they go."""

    def __init__(
        self,
        *,
        clock: Clock,
        enforcer: Enforcer,
        counters: Counters,
        uniform: Callable[[], float],
        after_seconds: float,
    ) -> None:
        self.after_seconds = after_seconds
        """How long silence may last. The settings directive replaces it."""
        self.spread_seconds = 0.0
        """The longest random wait after that; the same."""
        self.spread_max_seconds = 0.0
        """The most that the server may make of it. It spreads API writes of many nodes, so where
        files are written instead it stays 0."""
        self.is_active = False
        self._clock = clock
        self._enforcer = enforcer
        self._counters = counters
        self._uniform = uniform
        self._heard_seconds = clock.now_seconds()

    def heard(self) -> None:
        """Notes that the server spoke."""
        self._heard_seconds = self._clock.now_seconds()
        if self.is_active:
            self.is_active = False
            _log.warning("fail-safe left: the server speaks again")

    async def run(self) -> None:
        """Watches for ever."""
        while True:
            await self._wait_for_silence()
            await self._hold()

    async def _wait_for_silence(self) -> None:
        """Returns once silence has lasted, and the random wait after it was silent too."""
        while not self._is_silent():
            while not self._is_silent():
                # The settings may shorten it meanwhile: look again at least every second.
                await self._sleep(min(self.after_seconds - self._silent_seconds(), 1.0))
            await self._sleep(min(self.spread_seconds, self.spread_max_seconds) * self._uniform())

    async def _hold(self) -> None:
        self.is_active = True
        self._counters.count(
            "failsafe_entered", f"no word from the server for {self._silent_seconds():.0f} s"
        )
        _log.warning("fail-safe entered: admitted values come back, burst credit goes")
        backoff_seconds = _BACKOFF_FIRST_SECONDS
        while self._is_silent():
            failed = await self._enforcer.zero_bursts()
            failed += await self._enforcer.restore(self._is_silent)
            wait_seconds = RETRY_SECONDS
            if failed:
                _log.warning("fail-safe could not give back all failed=%d", failed)
                wait_seconds = backoff_seconds * (1 - self._uniform() / 2)
                backoff_seconds = min(backoff_seconds * 2, _BACKOFF_MAX_SECONDS)
            else:
                backoff_seconds = _BACKOFF_FIRST_SECONDS
            retry_seconds = self._clock.now_seconds() + wait_seconds
            while self._is_silent() and self._clock.now_seconds() < retry_seconds:
                await self._sleep(1.0)
        self.is_active = False

    def _silent_seconds(self) -> float:
        return self._clock.now_seconds() - self._heard_seconds

    def _is_silent(self) -> bool:
        return self._silent_seconds() >= self.after_seconds

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now_seconds() + seconds)
