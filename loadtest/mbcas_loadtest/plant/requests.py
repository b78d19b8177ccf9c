"""The plant request by request: one container, exact in time, for validation and small studies.

The same arithmetic as `recursion.step`, but with requests that arrive when they arrive: each runs
on one thread, the next one starts where a thread is free, and runtime is used while threads run.
A thread that used up the runtime stands still until the next refill, the start of a period or a
write of the quota, and the period in which it stands still at the end is throttled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray
from mbcas_loadtest.plant.recursion import KEPT_USEC

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
class _Container:
    """At one moment."""

    threads: int
    kept_usec: float
    quota_usec: float
    burst_usec: float
    runtime_usec: float
    now_usec: float = 0.0
    running: list[tuple[int, float]] = field(default_factory=list)
    """Number and work left, of at most `threads` requests."""
    used_usec: float = 0.0
    lost_usec: float = 0.0

    @property
    def is_throttled(self) -> bool:
        return bool(self.running) and self.runtime_usec <= _TOLERANCE_USEC

    def refill(self) -> None:
        most = self.quota_usec + self.burst_usec + self.kept_usec
        self.runtime_usec = min(self.runtime_usec + self.quota_usec, most)

    def next_usec(self) -> float:
        """When, if nothing happens, a request is done or the runtime is used up."""
        if not self.running or self.is_throttled:
            return np.inf
        least = min(left for _, left in self.running)
        return self.now_usec + min(least, self.runtime_usec / len(self.running))

    def pass_until(self, moment_usec: float) -> list[int]:
        """Lets time pass, at most until `next_usec`; returns which requests are done."""
        passed = moment_usec - self.now_usec
        self.now_usec = moment_usec
        if self.is_throttled:
            self.lost_usec += passed * len(self.running)
            return []
        self.runtime_usec -= passed * len(self.running)
        self.used_usec += passed * len(self.running)
        left = [(number, work - passed) for number, work in self.running]
        self.running = [(number, work) for number, work in left if work > _TOLERANCE_USEC]
        return [number for number, work in left if work <= _TOLERANCE_USEC]


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
        kept_usec: Runtime that each thread's CPU keeps beyond the period.
    """
    first = writes[0]
    has = _Container(
        threads=threads,
        kept_usec=kept_usec * threads,
        quota_usec=first.quota_usec,
        burst_usec=first.burst_usec,
        runtime_usec=first.quota_usec + first.burst_usec,
    )
    done = np.full(len(arrival_usec), np.nan)
    periods: list[tuple[float, bool, float]] = []
    next_request, next_write = 0, 1
    start, lost_before, used_before = 0.0, 0.0, 0.0
    while next_request < len(arrival_usec) or has.running or len(periods) <= count:
        arrival = np.inf
        if next_request < len(arrival_usec) and len(has.running) < threads:
            arrival = max(float(arrival_usec[next_request]), has.now_usec)
        write = writes[next_write].at_usec if next_write < len(writes) else np.inf
        moment = min(arrival, write, start, has.next_usec())
        for number in has.pass_until(moment):
            done[number] = moment
        if moment == arrival:
            has.running.append((next_request, float(work_usec[next_request])))
            next_request += 1
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
    usage, throttled, lost = zip(*periods[1 : count + 1], strict=True)
    return Outcome(
        done_usec=done,
        usage_usec=np.array(usage),
        throttled=np.array(throttled),
        throttled_usec=np.array(lost),
    )
