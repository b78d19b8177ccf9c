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

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mbcas_core.units import CPU_PERIOD_USEC, BoolArray, FloatArray, IntArray
from mbcas_loadtest.compiled import compiled, inlined
from mbcas_loadtest.plant.kernels import Periods

SAMPLES = 2
"""Of the requests of a period these many are followed, each for its share of the period's work."""
WINDOW_PERIODS = 600
"""Requests that wait for each other alone are counted by their load in a minute."""
FOLLOWED_MAX = 512
"""Of a container's requests that wait. Where it would be more, every second one is let go, and of
those that come every second one is followed, each for twice the work."""
LOAD_MOST = 0.95
"""Beyond it more waits than a queue in balance has; then there is a backlog and it is followed."""
LEAST_SECONDS, MOST_SECONDS = 1e-4, 1e5
STEP_RATIO = 1.05
"""Of a bin's upper to its lower edge."""
_BINS = int(np.log(MOST_SECONDS / LEAST_SECONDS) / np.log(STEP_RATIO)) + 1
_LEAST_USEC = LEAST_SECONDS * 1e6
_LOG_STEP = float(np.log(STEP_RATIO))
_PERIOD_USEC = float(CPU_PERIOD_USEC)
_TOLERANCE_USEC = 1e-3  # Sums of floats.
_FADED = 1e-12  # Less of the work is nothing.
# Multiples of these, modulo 1, are spread evenly however many there are: no generator is needed.
_GOLDEN, _PLASTIC, _SAMPLE_STEP = 0.6180339887498949, 0.7548776662466927, 0.31
_LUCK = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])


class _Books(NamedTuple):
    """What is known of each of c containers, (c,) each unless said otherwise."""

    threads: FloatArray
    request_usec: FloatArray
    weight_usec: FloatArray
    """(c, bins) work by its delay."""
    backlog_usec: FloatArray
    """At the end of the last period."""
    served_usec: FloatArray
    """In all."""
    alone_usec: FloatArray
    """Work of this window whose requests wait for each other alone."""
    alone_square: FloatArray
    """Sum of squares of the same, by period."""
    until_usec: FloatArray
    """(c, FOLLOWED_MAX) of followed requests, in a ring: all served work at which they are done."""
    arrived_usec: FloatArray
    """(c, FOLLOWED_MAX) since the meter's start."""
    carries_usec: FloatArray
    """(c, FOLLOWED_MAX) the work for which they stand."""
    first: IntArray
    waiting: IntArray
    """Of those that wait."""
    stride: IntArray
    """One of so many is followed."""
    passed: IntArray
    """Of these many are past, without being followed, and stand behind the next one."""
    passed_usec: FloatArray


@compiled
def _place(delay_usec: float) -> int:
    """Returns the bin of a delay."""
    return min(int(np.log(max(delay_usec, _LEAST_USEC) / _LEAST_USEC) / _LOG_STEP), _BINS - 1)


@compiled
def _thin(books: _Books, c: int) -> None:
    """Lets every second request go; the other stands for its work, too."""
    kept = 0
    for i in range(0, books.waiting[c] - 1, 2):
        one, other = (books.first[c] + i) % FOLLOWED_MAX, (books.first[c] + i + 1) % FOLLOWED_MAX
        to = (books.first[c] + kept) % FOLLOWED_MAX
        carries = books.carries_usec[c, one] + books.carries_usec[c, other]
        books.until_usec[c, to] = books.until_usec[c, other]
        books.arrived_usec[c, to] = books.arrived_usec[c, other]
        books.carries_usec[c, to] = carries
        kept += 1
    books.waiting[c] = kept
    books.stride[c] *= 2


@inlined
def _follow(books: _Books, c: int, number: int, work: float, samples: int) -> None:
    """Begins to follow requests of a period's work.

    Of N requests that arrive at random in a period, the one at share x of its work arrives, on
    average, at m = (x N + 1/2) / (N + 1) of it, with variance m (1 - m) / (N + 2).
    """
    request = books.request_usec[c]
    before = books.served_usec[c] + books.backlog_usec[c]
    requests = max(work / max(request, 1.0), 1.0)
    place = (number * _GOLDEN + c * _PLASTIC) % 1.0
    for sample in range(samples):
        books.passed[c] += 1
        books.passed_usec[c] += work / samples
        if books.passed[c] < books.stride[c]:
            continue
        share = (sample + place) / samples
        luck = _LUCK[int((number + sample * _SAMPLE_STEP) * _PLASTIC % 1.0 * _LUCK.size)]
        mean = (share * requests + 0.5) / (requests + 1)
        moment = mean + luck * np.sqrt(mean * (1 - mean) / (requests + 2))
        if books.waiting[c] == FOLLOWED_MAX:
            _thin(books, c)
        to = (books.first[c] + books.waiting[c]) % FOLLOWED_MAX
        books.until_usec[c, to] = before + min(share * work + request / 2, work)
        books.arrived_usec[c, to] = (number + min(max(moment, 0.0), 1.0)) * _PERIOD_USEC
        books.carries_usec[c, to] = books.passed_usec[c]
        books.waiting[c] += 1
        books.passed[c], books.passed_usec[c] = 0, 0.0


@inlined
def _finish(books: _Books, c: int, start_usec: float, until_now: float, rate: float) -> None:
    """Counts the requests that are done once so much is served."""
    while books.waiting[c] > 0:
        at = books.first[c]
        until = books.until_usec[c, at]
        if until > until_now + _TOLERANCE_USEC:
            break
        moment = start_usec + max(until - books.served_usec[c], 0.0) / rate
        delay = max(moment - books.arrived_usec[c, at], books.request_usec[c])
        books.weight_usec[c, _place(delay)] += books.carries_usec[c, at]
        books.first[c] = (at + 1) % FOLLOWED_MAX
        books.waiting[c] -= 1
    if books.waiting[c] == 0:
        books.stride[c] = 1


@compiled
def _spread(books: _Books, c: int, weight_usec: FloatArray) -> None:
    """Adds the work of a window's requests that queue among themselves.

    They arrive at random, so they find all of c threads busy with probability
    load^(sqrt(2 (c + 1)) - 1), as Sakasegawa has it (1977), and then wait for
    request / (2 c (1 - load)) on average.
    """
    total, threads, request = books.alone_usec[c], books.threads[c], books.request_usec[c]
    load = min(books.alone_square[c] / max(total, 1.0) / (threads * _PERIOD_USEC), LOAD_MOST)
    busy = load ** (np.sqrt(2 * (threads + 1)) - 1)
    mean = max(request, 1.0) / (2 * threads * (1 - load))
    below = 0.0
    for place in range(max(_place(request) - 1, 0), _BINS):
        waited = _LEAST_USEC * STEP_RATIO ** (place + 1) - request
        beyond = busy * np.exp(-waited / mean)
        if waited >= 0:
            weight_usec[c, place] += total * (1 - beyond - below)
            below = 1 - beyond
            if beyond < _FADED:
                break


@inlined
def _end_window(books: _Books, c: int) -> None:
    if books.alone_usec[c] > 0:
        _spread(books, c, books.weight_usec)
    books.alone_usec[c] = books.alone_square[c] = 0.0


@compiled
def _add(books: _Books, periods: Periods, number: int, samples: int) -> None:
    """Takes periods in, whose arrays are (k, c) here; the first is the meter's `number`-th."""
    count, containers = periods.usage_usec.shape
    for c in range(containers):  # One after the other: what waits in one fits the cache.
        for i in range(count):
            work, served = periods.admitted_usec[i, c], periods.usage_usec[i, c]
            backlog = periods.backlog_usec[i, c]
            if books.backlog_usec[c] <= 0 and backlog <= 0:
                # Its requests wait for each other alone.
                books.alone_usec[c] += work
                books.alone_square[c] += work * work
            elif work > 0:
                _follow(books, c, number + i, work, samples)
            rate = books.threads[c]
            if backlog > 0 and not periods.throttled[i, c] and served < rate * _PERIOD_USEC:
                rate = max(served, 1.0) / _PERIOD_USEC  # Evenly, beside others.
            if books.waiting[c] > 0:
                _finish(books, c, (number + i) * _PERIOD_USEC, books.served_usec[c] + served, rate)
            books.served_usec[c] += served
            books.backlog_usec[c] = backlog
            if (number + i + 1) % WINDOW_PERIODS == 0:
                _end_window(books, c)


@compiled
def _count_open(books: _Books, now_usec: float, weight_usec: FloatArray) -> None:
    """Adds what is not counted yet: what waits, with its age, and the window that is not over."""
    for c in range(books.waiting.size):
        for i in range(books.waiting[c]):
            at = (books.first[c] + i) % FOLLOWED_MAX
            delay = max(now_usec - books.arrived_usec[c, at], books.request_usec[c])
            weight_usec[c, _place(delay)] += books.carries_usec[c, at]
        if books.alone_usec[c] > 0:
            _spread(books, c, weight_usec)


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
        self._periods = 0
        count = shape[0] * shape[1]
        self._books = _Books(
            threads=_flat(threads, shape),
            request_usec=_flat(request_usec, shape),
            weight_usec=np.zeros((count, _BINS)),
            backlog_usec=np.zeros(count),
            served_usec=np.zeros(count),
            alone_usec=np.zeros(count),
            alone_square=np.zeros(count),
            until_usec=np.zeros((count, FOLLOWED_MAX)),
            arrived_usec=np.zeros((count, FOLLOWED_MAX)),
            carries_usec=np.zeros((count, FOLLOWED_MAX)),
            first=np.zeros(count, np.int64),
            waiting=np.zeros(count, np.int64),
            stride=np.ones(count, np.int64),
            passed=np.zeros(count, np.int64),
            passed_usec=np.zeros(count),
        )

    def add(self, periods: Periods) -> None:
        """Takes the next k periods in."""
        shape = (-1, len(self._books.first))
        flat = Periods(**{name: each.reshape(shape) for name, each in periods._asdict().items()})
        _add(self._books, flat, self._periods, self._samples)
        self._periods += len(flat.usage_usec)

    def quantile_seconds(self, share: float) -> FloatArray:
        """Returns the delay (m, n) that this share of the work does not exceed; NaN: no work.

        Work that still waits counts with the time that it has waited so far.
        """
        weight = self._books.weight_usec.copy()
        _count_open(self._books, self._periods * _PERIOD_USEC, weight)
        total = np.cumsum(weight, axis=1)
        bins = np.argmax(total >= share * total[:, -1:], axis=1)
        # The middle of the bin.
        seconds = LEAST_SECONDS * STEP_RATIO ** (bins + 0.5)
        return np.where(total[:, -1] > 0, seconds, np.nan).reshape(self._shape)

    def clear(self) -> None:
        """Forgets the delays so far, as after a warm-up; what waits goes on waiting."""
        for forgotten in (
            self._books.weight_usec,
            self._books.alone_usec,
            self._books.alone_square,
        ):
            forgotten[...] = 0.0

    def forget(self, gone: BoolArray) -> None:
        """Drops the work that waits in containers (m, n) that are gone."""
        books, flat = self._books, gone.reshape(-1)
        books.backlog_usec[flat] = books.passed_usec[flat] = 0.0
        books.waiting[flat] = books.passed[flat] = 0
        books.stride[flat] = 1


def _flat(values: FloatArray | float, shape: tuple[int, int]) -> FloatArray:
    return np.broadcast_to(np.asarray(values, np.float64), shape).reshape(-1).copy()
