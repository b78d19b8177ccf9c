import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_loadtest.evaluation.frontier import (
    at,
    frontier,
    gap_closed,
    hypervolume,
    matched_waste,
    reach,
)

POINTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8, unique=True
)


@given(POINTS)
def test_the_frontier_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    throttled, waste = (np.array(axis, np.float64) / 20 for axis in zip(*points, strict=True))

    chosen = frontier(throttled, waste)

    unbeaten = {
        i
        for i, (x, y) in enumerate(points)
        if not any((a <= x and b <= y) and (a, b) != (x, y) for a, b in points)
    }
    assert set(chosen) == unbeaten
    assert list(throttled[chosen]) == sorted(throttled[chosen])


@given(POINTS)
def test_the_hypervolume_is_what_counting_squares_gives(points: list[tuple[int, int]]) -> None:
    throttled, waste = (np.array(axis, np.float64) / 20 for axis in zip(*points, strict=True))

    found = hypervolume(throttled, waste, reference=(0.5, 1.0))

    squares = [(i, j) for i in range(10) for j in range(20)]
    beaten = sum(any(a <= i and b <= j for a, b in points) for i, j in squares)
    assert found == pytest.approx(beaten / len(squares))


@given(POINTS)
def test_waste_at_a_share_is_on_the_lowest_line_through_the_frontier(
    points: list[tuple[int, int]],
) -> None:
    throttled, waste = (np.array(axis, np.float64) / 20 for axis in zip(*points, strict=True))
    share = 0.26

    found = matched_waste(throttled, waste, share=share)

    chosen = frontier(throttled, waste)
    x, y = throttled[chosen], waste[chosen]
    expected = np.nan if x[0] > share else np.interp(share, x, y)
    assert found == pytest.approx(expected, nan_ok=True)


def test_between_two_knobs_every_quantity_is_mixed_alike() -> None:
    throttled, waste = np.array([0.02, 0.10, 0.30]), np.array([0.5, 0.3, 0.2])

    mix = reach(throttled, waste, share=0.05)

    assert mix is not None
    assert at(mix, throttled) == pytest.approx(0.05)
    assert at(mix, np.array([1.0, 9.0, 100.0])) == pytest.approx(4.0)


def test_a_share_that_no_knob_reaches_gives_no_waste() -> None:
    assert np.isnan(matched_waste(np.array([0.2]), np.array([0.1]), share=0.05))


def test_who_throttles_less_than_the_share_at_every_knob_is_taken_at_its_tightest() -> None:
    throttled, waste = np.array([0.0, 0.01]), np.array([0.6, 0.4])

    assert matched_waste(throttled, waste, share=0.05) == 0.4


def test_runs_without_a_value_are_no_points() -> None:
    throttled, waste = np.array([np.nan, 0.01, 0.02]), np.array([0.0, 0.4, np.nan])

    assert list(frontier(throttled, waste)) == [1]
    assert hypervolume(np.array([np.nan]), np.array([0.1]), reference=(0.2, 1.0)) == 0.0


def test_the_gap_is_closed_from_the_base_to_the_oracle() -> None:
    assert gap_closed(0.6, 0.4, 0.2) == pytest.approx(0.5)
    assert gap_closed(0.6, 0.7, 0.2) == pytest.approx(-0.25)
    assert np.isnan(gap_closed(0.2, 0.1, 0.2))
