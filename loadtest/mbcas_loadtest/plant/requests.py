"""The plant request by request: one container, exact in time, for validation and small studies.

Requests arrive when they arrive; each runs on one thread, and the next one starts where a thread is
free. Runtime goes the kernel's way (sched/fair.c): a refill fills the group's pool; a CPU that has
used up its own share draws a slice from it; a CPU that falls idle gives back what it has above a
millisecond, and the pool is lost at the next refill but for the burst. A thread whose CPU and whose
pool have nothing stands still until the next refill, the start of a period or a write of the quota;
a period at whose end a thread stands still is throttled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray
from mbcas_loadtest.plant.kernels import KEPT_USEC, SLICE_USEC

_TOLERANCE_USEC = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A quota that is written; the first one holds from the start."""

    at_usec: float
    quota_usec: float
    burst_usec: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Outcome:
    """What became of the requests, and of each whole period."""

    done_usec: FloatArray
    usage_usec: FloatArray
    throttled: BoolArray
    throttled_usec: FloatArray


@dataclass(slots=True)
class _Thread:
    """A thread on a CPU of its own."""

    request: int | None = None
    left_usec: float = 0.0
    """Of its request."""
    runtime_usec: float = 0.0
    """Its CPU's share of the group's runtime."""
    idle_since_usec: float = -1.0


@dataclass(slots=True)
class _Container:
    """At one moment."""

    threads: list[_Thread]
    kept_usec: float
    quota_usec: float
    burst_usec: float
    pool_usec: float
    now_usec: float = 0.0
    used_usec: float = 0.0
    lost_usec: float = 0.0
    done: list[int] = field(default_factory=list)
    """Requests that were done at this moment."""

    def refill(self) -> None:
        most = self.quota_usec + self.burst_usec
        self.pool_usec = min(self.pool_usec + self.quota_usec, most)
        for thread in self._busy():
            self._draw(thread)

    def start(self, request: int, work_usec: float) -> None:
        """Gives a request to the thread that has been idle for longest."""
        thread = min(
            (thread for thread in self.threads if thread.request is None),
            key=lambda thread: thread.idle_since_usec,
        )
        thread.request, thread.left_usec = request, work_usec
        self._draw(thread)

    @property
    def is_full(self) -> bool:
        return all(thread.request is not None for thread in self.threads)

    @property
    def is_busy(self) -> bool:
        return any(thread.request is not None for thread in self.threads)

    @property
    def is_throttled(self) -> bool:
        return any(thread.runtime_usec <= _TOLERANCE_USEC for thread in self._busy())

    def next_usec(self) -> float:
        """When, if nothing happens, a request is done or a CPU's runtime is used up."""
        return self.now_usec + min(
            (
                min(thread.left_usec, thread.runtime_usec)
                for thread in self._busy()
                if thread.runtime_usec > _TOLERANCE_USEC
            ),
            default=np.inf,
        )

    def pass_until(self, moment_usec: float) -> None:
        """Lets time pass, at most until `next_usec`."""
        passed = moment_usec - self.now_usec
        self.now_usec = moment_usec
        self.done = []
        for thread in self._busy():
            if thread.runtime_usec <= _TOLERANCE_USEC:
                self.lost_usec += passed
                continue
            self.used_usec += passed
            thread.runtime_usec -= passed
            thread.left_usec -= passed
            if thread.left_usec <= _TOLERANCE_USEC:
                assert thread.request is not None
                self.done.append(thread.request)
                thread.request, thread.idle_since_usec = None, moment_usec
            elif thread.runtime_usec <= _TOLERANCE_USEC:
                self._draw(thread)

    def settle(self) -> None:
        """Lets CPUs that stayed idle give back what they do not keep."""
        for thread in self.threads:
            if thread.request is None and thread.runtime_usec > self.kept_usec:
                self.pool_usec += thread.runtime_usec - self.kept_usec
                thread.runtime_usec = self.kept_usec

    def _busy(self) -> Iterable[_Thread]:
        return (thread for thread in self.threads if thread.request is not None)

    def _draw(self, thread: _Thread) -> None:
        if thread.runtime_usec <= _TOLERANCE_USEC:
            drawn = min(SLICE_USEC, self.pool_usec)
            self.pool_usec -= drawn
            thread.runtime_usec += drawn


def serve_requests(
    arrival_usec: FloatArray,
    work_usec: FloatArray,
    writes: Sequence[Write],
    *,
    threads: int,
    count: int,
    kept_usec: float = KEPT_USEC,
) -> Outcome:
    """Serves requests in the order of their arrival.

    Args:
        arrival_usec: Rising, from 0.
        work_usec: Above 0.
        writes: In the order of their moments.
        threads: Of the container, each on a CPU of its own.
        count: How many periods are wanted; the first one starts at 0.
        kept_usec: Runtime that an idle CPU keeps.
    """
    first = writes[0]
    has = _Container(
        threads=[_Thread() for _ in range(threads)],
        kept_usec=kept_usec,
        quota_usec=first.quota_usec,
        burst_usec=first.burst_usec,
        pool_usec=first.quota_usec + first.burst_usec,
    )
    done = np.full(len(arrival_usec), np.nan)
    periods: list[tuple[float, bool, float]] = []
    next_request, next_write = 0, 1
    start, lost_before, used_before = 0.0, 0.0, 0.0
    while next_request < len(arrival_usec) or has.is_busy or len(periods) <= count:
        arrival = np.inf
        if next_request < len(arrival_usec) and not has.is_full:
            arrival = max(float(arrival_usec[next_request]), has.now_usec)
        write = writes[next_write].at_usec if next_write < len(writes) else np.inf
        moment = min(arrival, write, start, has.next_usec())
        has.pass_until(moment)
        done[has.done] = moment
        if moment == start:
            periods.append(
                (has.used_usec - used_before, has.is_throttled, has.lost_usec - lost_before)
            )
            used_before, lost_before = has.used_usec, has.lost_usec
            has.refill()
            start += CPU_PERIOD_USEC
        if moment == write:
            has.quota_usec = writes[next_write].quota_usec
            has.burst_usec = writes[next_write].burst_usec
            for _ in range(2 if has.burst_usec else 1):  # The burst is a write of its own.
                has.refill()
            next_write += 1
        while (
            next_request < len(arrival_usec)
            and arrival_usec[next_request] <= moment
            and not has.is_full
        ):
            has.start(next_request, float(work_usec[next_request]))
            next_request += 1
        has.settle()
    usage, throttled, lost = zip(*periods[1 : count + 1], strict=True)
    return Outcome(
        done_usec=done,
        usage_usec=np.array(usage),
        throttled=np.array(throttled),
        throttled_usec=np.array(lost),
    )
