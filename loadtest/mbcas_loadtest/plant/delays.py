"""Delays of requests, from what arrived and what was served.

Requests of equal work are taken to arrive evenly over their period and to be served in the order
of their arrival. With A(y) the moment of arrival of the request whose last unit of work is the y-th
of the container, and D(y) the moment at which that unit is served, its delay is

    max(D(y) - A(y), work of one request).

Within a period a container is served from the period's start at the rate of its threads as long as
work waits, then as work arrives, until its runtime is used up; what is left waits for the next
period. So the stall of a thread that used up its quota after t is in it: 100 ms - t. Under
contention a container is served evenly over the period. Where no work waits at either end of a
period, what its requests wait for each other comes from the formula of a queue.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, USEC_PER_SECOND, BoolArray, FloatArray, IntArray
from mbcas_loadtest.plant.batch import Periods

SAMPLES = 2
"""Of the requests of a period these many are followed, each for its share of the period's work."""
FLUSH_PERIODS = 600
"""So many are worked out at once: a minute."""
WAITING_MAX = 2_000_000
"""Of an overloaded container's followed requests every second one is dropped beyond this."""
LOAD_MOST = 0.95
"""Beyond it more waits than a queue in balance has; then there is a backlog and it is followed."""
LEAST_SECONDS, MOST_SECONDS = 1e-4, 1e5
STEP_RATIO = 1.05
"""Of a bin's upper to its lower edge."""
_BINS = int(np.log(MOST_SECONDS / LEAST_SECONDS) / np.log(STEP_RATIO)) + 1
_TOLERANCE_USEC = 1e-3  # Sums of floats.
_FADED = 50.0  # exp(-50) of the work is nothing.
# Multiples of these, modulo 1, are spread evenly however many there are: no generator is needed.
_GOLDEN, _PLASTIC, _SAMPLE_STEP = 0.6180339887498949, 0.7548776662466927, 0.31
_LUCK = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class _Waiting:
    """Followed requests that are not served yet, one row each."""

    container: IntArray
    until_usec: FloatArray
    """Served work of its container, counted from the last flush, at which it is done."""
    arrived_usec: FloatArray
    """Since the meter's start."""
    weight_usec: FloatArray

    @staticmethod
    def joined(parts: "list[_Waiting]") -> "_Waiting":
        return _Waiting(
            container=np.concatenate([part.container for part in parts]),
            until_usec=np.concatenate([part.until_usec for part in parts]),
            arrived_usec=np.concatenate([part.arrived_usec for part in parts]),
            weight_usec=np.concatenate([part.weight_usec for part in parts]),
        )

    def take(self, where: BoolArray | slice) -> "_Waiting":
        return _Waiting(
            container=self.container[where],
            until_usec=self.until_usec[where],
            arrived_usec=self.arrived_usec[where],
            weight_usec=self.weight_usec[where],
        )


class _Line:
    """Work of each container that arrived and was served by the end of each period, (k, c)."""

    def __init__(self, backlog: FloatArray, admitted: FloatArray, served: FloatArray) -> None:
        self.arrived_until = backlog + np.cumsum(admitted, axis=0)
        self.served_until = np.cumsum(served, axis=0)
        self.rate: FloatArray = np.ones(())
        """CPUs at work while there is some."""
        self._served = served

    def served_at_usec(self, container: IntArray, until_usec: FloatArray) -> FloatArray:
        """Returns when, from the first period's start, so much work of a container was served."""
        count, containers = self._served.shape
        # The lines of all containers as one that rises, so that one search serves them all.
        apart = float(self.served_until[-1].max()) + 1.0
        line = (self.served_until + apart * np.arange(containers)).T.reshape(-1)
        found = np.searchsorted(line, until_usec - _TOLERANCE_USEC + apart * container)
        period = np.minimum(found - container * count, count - 1)
        in_period = until_usec - (
            self.served_until[period, container] - self._served[period, container]
        )
        moment: FloatArray = period * CPU_PERIOD_USEC + in_period / self.rate[period, container]
        return moment


class DelayMeter:
    """Delays of work, weighted by work, as one histogram for each container of (m, n)."""

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        threads: FloatArray | float = 1.0,
        request_usec: FloatArray | float = 0.0,
        samples: int = SAMPLES,
    ) -> None:
        """Starts without work.

        Args:
            shape: (m, n).
            threads: As the plant's.
            request_usec: Mean CPU time of a request, which is part of its delay.
            samples: Requests followed of each period; more where there are few periods.
        """
        self._samples = samples
        self._shape = shape
        self._threads = _flat(threads, shape)
        self._request_usec = _flat(request_usec, shape)
        self._count = len(self._threads)
        self._weight_usec = np.zeros((self._count, _BINS))
        self._backlog_usec = np.zeros(self._count)
        self._now_usec = 0.0
        self._kept: list[Periods] = []
        self._kept_count = 0
        nothing = np.zeros(0)
        self._waiting = _Waiting(
            container=np.zeros(0, np.int64),
            until_usec=nothing,
            arrived_usec=nothing,
            weight_usec=nothing,
        )

    def add(self, periods: Periods) -> None:
        """Takes the next k periods in."""
        self._kept.append(periods)
        self._kept_count += len(periods.usage_usec)
        if self._kept_count >= FLUSH_PERIODS:
            self._flush()

    def quantile_seconds(self, share: float) -> FloatArray:
        """Returns the delay (m, n) that this share of the work does not exceed; NaN: no work.

        Work that still waits counts with the time that it has waited so far.
        """
        self._flush()
        weight = self._weight_usec + self._binned(
            self._waiting, self._now_usec - self._waiting.arrived_usec
        )
        total = np.cumsum(weight, axis=1)
        bins = np.argmax(total >= share * total[:, -1:], axis=1)
        # The middle of the bin.
        seconds = LEAST_SECONDS * STEP_RATIO ** (bins + 0.5)
        return np.where(total[:, -1] > 0, seconds, np.nan).reshape(self._shape)

    def clear(self) -> None:
        """Forgets the delays so far, as after a warm-up; what waits goes on waiting."""
        self._flush()
        self._weight_usec[:] = 0.0

    def forget(self, gone: BoolArray) -> None:
        """Drops the work that waits in containers (m, n) that are gone."""
        self._flush()
        self._backlog_usec[gone.reshape(-1)] = 0.0
        self._waiting = self._waiting.take(~gone.reshape(-1)[self._waiting.container])

    def _flush(self) -> None:
        if not self._kept:
            return
        kept, self._kept, self._kept_count = self._kept, [], 0
        admitted, served, backlog, throttled = (
            np.concatenate([getattr(one, name) for one in kept]).reshape(-1, self._count)
            for name in ("admitted_usec", "usage_usec", "backlog_usec", "throttled")
        )
        before = np.concatenate([self._backlog_usec[np.newaxis], backlog[:-1]])
        line = _Line(self._backlog_usec, admitted, served)
        # Where nothing waits before or after a period, its requests wait for each other alone.
        waits = (before > 0) | (backlog > 0)
        rate = np.broadcast_to(self._threads, served.shape)
        is_contended = (backlog > 0) & ~throttled & (served < rate * CPU_PERIOD_USEC)
        line.rate = np.where(is_contended, np.maximum(served, 1.0) / CPU_PERIOD_USEC, rate)
        # Container by container, so that the search for what is served finds its way in the cache.
        container, period = np.nonzero((waits & (admitted > 0)).T)
        fresh = self._follow(period, container, admitted, line)
        done, done_usec = self._finish(fresh, line)
        self._weight_usec += self._binned(done, done_usec - done.arrived_usec)
        self._weight_usec += self._queued(np.where(waits, 0.0, admitted))
        self._now_usec += len(served) * CPU_PERIOD_USEC
        self._backlog_usec = backlog[-1].copy()

    def _follow(
        self, period: IntArray, container: IntArray, admitted: FloatArray, line: "_Line"
    ) -> _Waiting:
        """Returns requests of these periods and containers, and when their work is served.

        Of N requests that arrive at random in a period, the one at share x of its work arrives, on
        average, at m = (x N + 1/2) / (N + 1) of it, with variance m (1 - m) / (N + 2).
        """
        work = admitted[period, container]
        start = self._now_usec + period * CPU_PERIOD_USEC
        before = line.arrived_until[period, container] - work
        half = self._request_usec[container] / 2
        count = np.maximum(work / np.maximum(self._request_usec[container], 1.0), 1.0)
        number = self._now_usec / CPU_PERIOD_USEC + np.arange(len(admitted))
        place = (number * _GOLDEN)[period] + (np.arange(self._count) * _PLASTIC)[container]
        place -= np.floor(place)
        rows = []
        for sample in range(self._samples):
            share = (sample + place) / self._samples
            drawn = (number + sample * _SAMPLE_STEP) * _PLASTIC % 1 * len(_LUCK)
            luck = _LUCK[drawn.astype(np.int64)][period]
            mean = (share * count + 0.5) / (count + 1)
            arrived = mean + luck * np.sqrt(mean * (1 - mean) / (count + 2))
            np.maximum(arrived, 0.0, out=arrived)
            np.minimum(arrived, 1.0, out=arrived)
            rows.append(
                _Waiting(
                    container=container,
                    until_usec=before + np.minimum(share * work + half, work),
                    arrived_usec=start + arrived * CPU_PERIOD_USEC,
                    weight_usec=work / self._samples,
                )
            )
        return _Waiting.joined(rows)

    def _finish(self, fresh: _Waiting, line: "_Line") -> tuple[_Waiting, FloatArray]:
        """Returns what is done by now and when it was; keeps what still waits."""
        waiting = _Waiting.joined([self._waiting, fresh]) if len(self._waiting.container) else fresh
        total = line.served_until[-1]
        is_done = waiting.until_usec <= total[waiting.container] + _TOLERANCE_USEC
        done, waiting = waiting.take(is_done), waiting.take(~is_done)
        done_usec = self._now_usec + line.served_at_usec(done.container, done.until_usec)
        if len(waiting.container) > WAITING_MAX:
            waiting = waiting.take(slice(None, None, 2))
            waiting.weight_usec[:] *= 2
        self._waiting = replace(waiting, until_usec=waiting.until_usec - total[waiting.container])
        return done, done_usec

    def _queued(self, work_usec: FloatArray) -> FloatArray:
        """Returns the work (k, c) by container and delay of requests that queue among themselves.

        They arrive at random, so they find all of c threads busy with probability
        load^(sqrt(2 (c + 1)) - 1), as Sakasegawa has it (1977), and then wait for
        request / (2 c (1 - load)) on average.
        """
        total = work_usec.sum(axis=0)
        mean_square = np.einsum("kc,kc->c", work_usec, work_usec) / np.maximum(total, 1.0)
        load = np.minimum(mean_square / (self._threads * CPU_PERIOD_USEC), LOAD_MOST)
        busy = load ** (np.sqrt(2 * (self._threads + 1)) - 1)
        mean = np.maximum(self._request_usec, 1.0) / (2 * self._threads * (1 - load))
        edges = LEAST_SECONDS * USEC_PER_SECOND * STEP_RATIO ** np.arange(_BINS + 1)
        waited = edges - self._request_usec[:, np.newaxis]
        beyond = busy[:, np.newaxis] * np.exp(-np.clip(waited / mean[:, np.newaxis], 0.0, _FADED))
        below = np.where(waited >= 0, 1 - beyond, 0.0)
        below[:, 0] = 0.0
        spread: FloatArray = total[:, np.newaxis] * np.diff(below, axis=1)
        return spread

    def _binned(self, rows: _Waiting, delay_usec: FloatArray) -> FloatArray:
        """Returns the work of the rows by container and delay, (containers, bins)."""
        delay = np.maximum(delay_usec, self._request_usec[rows.container]) / USEC_PER_SECOND
        place = np.log(np.maximum(delay, LEAST_SECONDS) / LEAST_SECONDS) / np.log(STEP_RATIO)
        index = rows.container * _BINS + np.minimum(place.astype(np.int64), _BINS - 1)
        weight: FloatArray = np.zeros(self._count * _BINS)
        weight += np.bincount(index, weights=rows.weight_usec, minlength=len(weight))
        return weight.reshape(self._count, _BINS)


def _flat(values: FloatArray | float, shape: tuple[int, int]) -> FloatArray:
    return np.broadcast_to(np.asarray(values, np.float64), shape).reshape(-1).copy()
