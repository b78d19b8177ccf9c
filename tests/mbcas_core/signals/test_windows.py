"""Rings of seconds and of 15 s means agree with lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.signals import windows
from mbcas_core.signals.counters import Seconds
from mbcas_core.signals.windows import WindowTable

ROWS = np.arange(2)
SECOND = st.tuples(st.integers(0, 4000), st.integers(0, 10), st.booleans())
INTERVALS = st.lists(st.lists(SECOND, min_size=1, max_size=5), max_size=60)


def seconds_of(intervals: list[list[tuple[int, int, bool]]]) -> Seconds:
    """One interval of each row; use is demand less 1, slices all equal."""
    k = max(len(interval) for interval in intervals)
    shape = (len(intervals), k)
    usage, demand, square = (np.full(shape, np.nan) for _ in range(3))
    throttled = np.zeros(shape)
    for i, interval in enumerate(intervals):
        for j, (value, periods, measured) in enumerate(interval, start=k - len(interval)):
            usage[i, j] = value
            demand[i, j] = value + 1
            throttled[i, j] = periods / 10
            square[i, j] = value**2 if measured else np.nan
    return Seconds(
        rows=ROWS[: len(intervals)],
        count=np.array([len(interval) for interval in intervals]),
        usage=usage,
        demand=demand,
        throttled=throttled,
        square=square,
    )


def table_of(*pushes: list[list[tuple[int, int, bool]]]) -> WindowTable:
    table = WindowTable()
    table.grow(2)
    for push in pushes:
        windows.push(table, seconds_of(push))
    return table


@given(INTERVALS, st.sampled_from([2, 6, 15, 30]))
def test_readers_agree_with_lists(intervals: list[list[tuple[int, int, bool]]], back: int) -> None:
    # The second row lives through two seconds at a time, to be out of step with the first.
    table = table_of(*([interval, [(7, 1, True)] * 2] for interval in intervals))
    past = [second for interval in intervals for second in interval]
    last = past[-back:]

    assert windows.throttled_ratio(table, ROWS, seconds=back)[0] == pytest.approx(
        sum(periods for _, periods, _ in last) / 10 / back, abs=1e-6
    )
    least = min(periods for _, periods, _ in last) / 10 if len(last) == back else 0.0
    assert windows.least_throttled_ratio(table, ROWS, seconds=back)[0] == pytest.approx(least)
    peak = max((value for value, _, _ in last), default=0)
    assert windows.peak_usage(table, ROWS, seconds=back)[0] == peak
    mean = sum(value for value, _, _ in last) / max(len(last), 1)
    assert windows.mean_usage(table, ROWS, seconds=back)[0] == pytest.approx(mean)
    more = 1.0 if last else 0.0
    assert windows.mean_demand(table, ROWS, seconds=back)[0] == pytest.approx(mean + more)
    means = [
        sum(value + 1 for value, _, _ in past[i : i + 15]) / 15
        for i in range(0, len(past) - 14, 15)
    ]
    kept = sorted(means[-windows.MEANS :])
    p90 = kept[-(-9 * len(kept) // 10) - 1] if kept else 0.0
    median = kept[-(-len(kept) // 2) - 1] if kept else 0.0
    found = windows.mean_quantiles(table, ROWS, (0.5, 0.9))[0]
    assert found == pytest.approx([median, p90], rel=1e-6)


def test_variation_is_that_of_the_slices_and_not_of_a_ramp() -> None:
    random = np.random.default_rng(5)
    table = WindowTable()
    table.grow(2)
    for second in range(30):
        noisy = random.gamma(4.0, 100.0, 10)
        ramp = np.full(10, 100.0 + 40.0 * second)
        slices = np.stack([noisy, ramp])
        usage = slices.mean(axis=1, keepdims=True)
        windows.push(
            table,
            Seconds(
                rows=ROWS,
                count=np.array([1, 1]),
                usage=usage,
                demand=usage,
                throttled=np.zeros((2, 1)),
                square=(slices**2).mean(axis=1, keepdims=True),
            ),
        )

    found = windows.variation(table, ROWS, seconds=20, unknown=0.7)

    assert found[0] == pytest.approx(0.5, abs=0.08)  # Gamma of shape 4.
    assert found[1] < 0.05


def test_variation_is_unknown_before_three_measured_seconds() -> None:
    table = table_of([[(100, 0, True), (100, 0, False), (100, 0, True)]])

    assert windows.variation(table, ROWS, seconds=20, unknown=0.7).tolist() == [0.7, 0.7]
