"""Watches the containers' counters twenty times a second and adds up what they say.

It measures from outside: from the kernel's own files, never from what MBCAS reports, except for a
reservation that the kernel cannot tell (cgroup v2's weight is too coarse).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mbcas_core.units import CPU_PERIOD_SECONDS, MILLICORES_PER_CORE
from mbcas_loadtest.clock import monotonic_seconds
from mbcas_loadtest.demo.surges import SurgeWatch
from mbcas_loadtest.node.cgroups import Counters

SAMPLE_SECONDS = 0.05  # Half a period: no throttled period is dated wrong by more than this.


@dataclass(slots=True)
class Totals:
    """One container since a moment."""

    seconds: float = 0.0
    usage_core_seconds: float = 0.0
    reserved_core_seconds: float = 0.0
    ceiling_core_seconds: float = 0.0
    throttled_periods: int = 0

    @property
    def throttled_ratio(self) -> float:
        """Throttled periods over periods of wall time."""
        return min(1.0, self.throttled_periods * CPU_PERIOD_SECONDS / max(self.seconds, 1e-9))


@dataclass(slots=True)
class Track:
    """What is known of one container; `counted` starts when the warm-up is over."""

    counted: Totals = field(default_factory=Totals)
    recent: Totals = field(default_factory=Totals)
    """Since the last time it was taken."""
    surges: SurgeWatch = field(default_factory=SurgeWatch)
    reservation_millicores: float = 0.0
    ceiling_millicores: float | None = None
    last: Counters | None = None


class Observer:
    """A thread that reads; what it adds up is taken by another thread under a lock."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        read: Callable[[str], Counters],
        reservation: Callable[[str, Counters], float],
        node_millicores: int,
    ) -> None:
        self._read = read
        self._reservation = reservation
        self._node_millicores = node_millicores
        self._tracks = {name: Track() for name in names}
        self._is_counting = False
        self._last_seconds: float | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: Exception | None = None

    def start(self) -> None:
        """Starts to read."""
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def start_counting(self) -> None:
        """Ends the warm-up."""
        with self._lock:
            self.sample(monotonic_seconds())
            self._is_counting = True

    def take_recent(self) -> dict[str, Track]:
        """Returns a picture of every container, with what happened since the last one."""
        with self._lock:
            pictures = {
                name: Track(
                    counted=track.counted,
                    recent=track.recent,
                    surges=track.surges,
                    reservation_millicores=track.reservation_millicores,
                    ceiling_millicores=track.ceiling_millicores,
                    last=track.last,
                )
                for name, track in self._tracks.items()
            }
            for track in self._tracks.values():
                track.recent = Totals()
            return pictures

    def stop(self) -> dict[str, Track]:
        """Reads a last time and returns what was found. May be called again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self.failure is None:
                self.sample(monotonic_seconds())
            for track in self._tracks.values():
                track.surges.finish()
        return self._tracks

    def sample(self, now_seconds: float) -> None:
        """Reads every container once; the time since the last reading had the values found then."""
        elapsed = 0.0 if self._last_seconds is None else now_seconds - self._last_seconds
        self._last_seconds = now_seconds
        for name, track in self._tracks.items():
            counters = self._read(name)
            if track.last is not None:
                self._add(track, track.last, counters, elapsed)
            track.last = counters
            track.reservation_millicores = self._reservation(name, counters)
            track.ceiling_millicores = counters.quota_millicores
            # Without a quota nothing but the node bounds it.
            quota = counters.quota_millicores or self._node_millicores
            track.surges.feed(now_seconds, counters.nr_throttled, quota)

    def _add(self, track: Track, before: Counters, after: Counters, elapsed: float) -> None:
        core_seconds = elapsed / MILLICORES_PER_CORE
        ceiling = (
            self._node_millicores
            if track.ceiling_millicores is None
            else (track.ceiling_millicores)
        )
        for totals in (track.recent, track.counted) if self._is_counting else (track.recent,):
            totals.seconds += elapsed
            totals.usage_core_seconds += (after.usage_usec - before.usage_usec) / 1e6
            totals.reserved_core_seconds += track.reservation_millicores * core_seconds
            totals.ceiling_core_seconds += ceiling * core_seconds
            totals.throttled_periods += after.nr_throttled - before.nr_throttled

    def _run(self) -> None:
        try:
            while not self._stop.wait(SAMPLE_SECONDS):
                with self._lock:
                    self.sample(monotonic_seconds())
        except (OSError, ValueError) as error:
            self.failure = error  # The main thread looks for it every second.
