"""Counters become seconds of usage, throttling and demand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.signals.counters import MAX_SECONDS
from tests.mbcas_core.signals.readings import OneRow, Reading


def test_the_first_sample_is_only_a_starting_point() -> None:
    row = OneRow()

    assert row.take(Reading(10.0, usage_usec=10**12)).rows.size == 0

    seconds = row.take(Reading(11.0, usage_usec=10**12 + 300_000))
    assert seconds.usage.tolist() == [[300.0]]


@pytest.mark.parametrize(
    ("second", "counted"),
    [
        (Reading(11.0, usage_usec=-1), "sample_absurd"),
        (Reading(11.0, usage_usec=1 << 62), "sample_absurd"),
        (Reading(11.0, usage_usec=5000, period_usec=0), "sample_absurd"),
        (Reading(11.0, usage_usec=5000, quota_usec=1 << 59), "sample_absurd"),
        (Reading(float("nan"), usage_usec=5000), "sample_absurd"),
        (Reading(float("inf"), usage_usec=5000), "sample_absurd"),
        (Reading(1e300, usage_usec=5000), "sample_absurd"),
        (Reading(10.0, usage_usec=5000), "sample_old"),
        (Reading(8.0, usage_usec=5000), "sample_old"),
        (Reading(11.0, usage_usec=999), "interval_implausible"),
        (Reading(11.0, usage_usec=1000, nr_throttled=60), "interval_implausible"),
        (Reading(11.0, usage_usec=8_000_000), "interval_implausible"),
        (Reading(400.0, usage_usec=5000), "interval_implausible"),
        (Reading(-400.0, usage_usec=5000), "interval_implausible"),
    ],
)
def test_what_cannot_be_makes_no_interval_and_is_counted(second: Reading, counted: str) -> None:
    row = OneRow()
    row.take(Reading(10.0, usage_usec=1000))

    seconds = row.take(second)

    assert seconds.rows.size == 0
    assert {name for name, count in row.dropped.items() if count} == {counted}


@pytest.mark.parametrize("jump", [-1000.0, 1000.0, 9e9])
def test_a_clock_that_jumped_costs_one_interval(jump: float) -> None:
    row = OneRow()
    row.take(Reading(2000.0, usage_usec=0))

    row.take(Reading(2000.0 + jump, usage_usec=100_000))

    back = row.take(Reading(2001.0 + jump, usage_usec=300_000))
    assert back.usage[0, -1] == pytest.approx(200.0, rel=1e-6)


def test_an_absurd_sample_does_not_spoil_the_next_interval() -> None:
    row = OneRow()
    row.take(Reading(10.0, usage_usec=1000))
    row.take(Reading(11.0, usage_usec=-7))

    seconds = row.take(Reading(12.0, usage_usec=401_000))

    assert seconds.usage.tolist() == [[200.0, 200.0]]


def test_a_repeated_sample_counts_once() -> None:
    row = OneRow()
    row.take(Reading(10.0))
    reading = Reading(11.0, usage_usec=100_000)

    assert row.take(reading, reading).usage.tolist() == [[100.0]]
    assert row.take(reading).rows.size == 0


def test_a_counter_that_starts_anew_starts_a_new_interval() -> None:
    row = OneRow()
    row.take(Reading(10.0, usage_usec=5_000_000))

    assert row.take(Reading(11.0, usage_usec=50_000)).rows.size == 0

    assert row.take(Reading(12.0, usage_usec=150_000)).usage.tolist() == [[100.0]]


@given(
    interval=st.sampled_from([1, 2, 5]),
    lost=st.integers(0, 2),
    seconds=st.lists(st.lists(st.integers(0, 4000), min_size=10, max_size=10), min_size=15),
)
def test_a_lost_message_loses_slices_and_no_usage(
    interval: int, lost: int, seconds: list[list[int]]
) -> None:
    row = OneRow()
    row.take(Reading(100.0))
    elapsed = interval * (1 + lost)
    lived = seconds[:elapsed]
    used = sum(sum(slices) * 100 for slices in lived)

    # Only the last message arrives, with the detail of its own seconds.
    got = row.take(Reading(100.0 + elapsed, usage_usec=used, slices=lived[-interval:]))

    assert got.count.tolist() == [min(elapsed, MAX_SECONDS)]
    assert got.usage.sum() == pytest.approx(used / 1000, abs=1e-6)
    means = [np.mean(slices) for slices in lived[-interval:]]
    assert got.usage[0, -interval:] == pytest.approx(means)
    assert np.isnan(got.square[0, :-interval]).all()


def test_detail_that_reaches_further_back_than_the_interval_is_aligned_at_its_end() -> None:
    row = OneRow()
    row.take(Reading(10.0))

    got = row.take(
        Reading(
            12.0,
            usage_usec=500_000,
            slices=[[900] * 10, [200] * 10, [300] * 10],
            throttled=[9, 0, 4],
        )
    )

    assert got.usage.tolist() == [[200.0, 300.0]]
    assert got.throttled.tolist() == [[0.0, 0.4]]


def test_throttling_that_the_detail_leaves_over_falls_into_the_seconds_before_it() -> None:
    row = OneRow()
    row.take(Reading(10.0))

    got = row.take(
        Reading(13.0, usage_usec=300_000, nr_throttled=9, slices=[[100] * 10], throttled=[1])
    )

    assert got.throttled[0] == pytest.approx([0.4, 0.4, 0.1])


def test_a_long_gap_keeps_the_rate_of_use() -> None:
    row = OneRow()
    row.take(Reading(10.0))

    got = row.take(Reading(70.0, usage_usec=6_000_000))

    assert got.usage[0] == pytest.approx([100.0] * MAX_SECONDS)


def test_demand_is_put_back_only_where_use_reached_the_quota() -> None:
    row = OneRow()
    row.take(Reading(10.0))
    calm = replace(Reading(11.0), usage_usec=400_000, nr_throttled=4)
    full = replace(Reading(12.0), usage_usec=890_000, nr_throttled=8)

    assert row.take(calm).demand.tolist() == [[400.0]]

    assert row.take(full).demand[0] == pytest.approx([700.0])


def test_a_second_in_which_the_quota_changed_counts_the_larger_one() -> None:
    row = OneRow()
    row.take(Reading(10.0, quota_usec=80_000))

    got = row.take(Reading(11.0, usage_usec=480_000, nr_throttled=5, quota_usec=50_000))

    assert got.demand.tolist() == [[480.0]]


def test_without_a_quota_nothing_is_hidden() -> None:
    row = OneRow()
    row.take(Reading(10.0, quota_usec=0))

    got = row.take(Reading(11.0, usage_usec=3_000_000, quota_usec=0))

    assert got.demand.tolist() == [[3000.0]]
    assert np.isnan(row.table.quota[0])
