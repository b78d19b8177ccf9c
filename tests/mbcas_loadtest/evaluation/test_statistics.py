"""Golden values by hand, from textbooks or by enumeration; never from the code under test."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_loadtest.evaluation import statistics
from mbcas_loadtest.evaluation.statistics import compare, hedges_g, holm, rank_systems

# Student's own ten patients (Biometrika 6, 1908, p. 20): hours of sleep gained under two drugs.
DEXTRO = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
LAEVO = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_students_sleep_data_give_his_difference_and_t() -> None:
    found = compare(LAEVO, DEXTRO)

    # R's documentation of t.test(sleep): t = 4.0621, p = 0.002833, interval 0.70 to 2.46; Welch's
    # p = 0.07939.
    assert found.seeds == 10
    assert found.mean_difference == pytest.approx(1.58)
    assert found.t_interval == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert found.p_welch == pytest.approx(0.07939, abs=1e-5)
    assert found.d_z == pytest.approx(4.0621 / math.sqrt(10), abs=1e-4)


def test_one_sided_bounds_lie_inside_the_two_sided_interval() -> None:
    found = compare(LAEVO, DEXTRO)

    # 1.833113: 95 % quantile of t with 9 degrees of freedom, from any table.
    error = 1.58 / 4.0621
    assert found.lower_bound == pytest.approx(1.58 - 1.833113 * error, abs=1e-4)
    assert found.upper_bound == pytest.approx(1.58 + 1.833113 * error, abs=1e-4)


def test_hedges_g_is_cohens_d_times_0_958_for_ten_seeds() -> None:
    first = np.array([2.0, 4.0] * 5)
    second = np.array([1.0, 3.0] * 5)

    # Both variances are 10/9, so d = 1 / sqrt(10/9).
    assert hedges_g(first, second) == pytest.approx(0.958 * math.sqrt(0.9), abs=5e-4)


def test_a_difference_without_spread_is_certain_and_has_no_effect_size() -> None:
    found = compare(np.array([0.3, 0.4, 0.5]), np.array([0.1, 0.2, 0.3]))

    assert found.bca_interval == pytest.approx((0.2, 0.2))
    assert found.d_z is None
    assert found.p_value == 0.0


def test_equal_systems_do_not_differ() -> None:
    found = compare(DEXTRO, DEXTRO)

    assert (found.mean_difference, found.p_value, found.p_welch) == (0.0, 1.0, 1.0)


def test_one_side_alone_may_be_constant() -> None:
    """All of one side at a bound; a warning would fail this test."""
    found = compare(np.full(4, 0.5), np.array([0.6, 0.7, 0.55, 0.65]))

    assert found.p_welch == pytest.approx(0.0305, abs=1e-3)


def test_seeds_without_a_value_take_no_part() -> None:
    whole = compare(LAEVO[2:], DEXTRO[2:])

    found = compare(np.array([np.nan, 1.0, *LAEVO[2:]]), np.array([1.0, np.inf, *DEXTRO[2:]]))

    assert found == whole


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_fewer_than_three_seeds_no_spread_is_claimed(count: int) -> None:
    found = compare(LAEVO[:count], DEXTRO[:count])

    assert found.seeds == count
    assert found.t_interval is None
    assert found.p_value is None


def test_holm_gives_the_adjusted_values_of_a_hand_worked_case() -> None:
    # Sorted: .005 x 4, .01 x 3, .03 x 2, .04 x 1, each at least the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_rejects_what_its_step_down_rule_rejects(p_values: list[float]) -> None:
    alpha = 0.05

    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - rank) > alpha:
            break
        rejected.add(index)

    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_friedman_gives_the_statistic_of_a_hand_worked_case() -> None:
    # Ranks 1, 2, 3 in each of 4 seeds: 12 / (4*3*4) * (16 + 64 + 144) - 3*4*4 = 8.
    values = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [1.0, 4.0, 5.0], [0.0, 1.0, 9.0]])

    found = rank_systems(values)

    assert found is not None
    assert found.chi_square == pytest.approx(8.0)
    assert found.p_value == pytest.approx(math.exp(-4.0))  # Chi-square with 2 degrees of freedom.


def test_partial_eta_squared_is_the_share_of_what_is_not_between_seeds() -> None:
    # Column means 2, 3, 7 around 4 with 3 seeds: 3 * (4 + 1 + 9) = 42 among systems; residuals
    # by hand 0,0,0 / 1,0,-1 / -1,0,1: 4 are left.
    rows = [[2.0, 3.0, 7.0], [4.0, 4.0, 7.0], [0.0, 2.0, 7.0]]

    found = rank_systems(np.array(rows))

    assert found is not None
    assert found.partial_eta_squared == pytest.approx(42 / 46)


def test_systems_that_never_differ_are_not_ranked() -> None:
    assert rank_systems(np.ones((5, 4))) is None
    assert rank_systems(np.arange(10.0).reshape(5, 2)) is None


def test_the_bootstrap_interval_is_that_of_all_resamples() -> None:
    values = np.array([0.0, 1.0, 1.0, 5.0])

    low, high = statistics.bca_interval(values)

    assert (low, high) == pytest.approx(_exhaustive_bca(values), abs=0.15)


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    trials = 60

    covered = sum(
        low <= 1.0 <= high
        for low, high in (
            statistics.bca_interval(generator.exponential(1.0, size=30)) for _ in range(trials)
        )
    )

    # BCa of a skewed mean with 30 values covers about 0.92; 0.8 is 3.4 standard errors below, and
    # an interval of half the width would cover 0.65.
    assert 0.8 <= covered / trials < 1.0


def _exhaustive_bca(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Computes Efron's interval (1987, eq. 2.3) from every resample there is, in plain Python."""
    count, mean = len(values), float(np.mean(values))
    means = sorted(sum(pick) / count for pick in itertools.product(values, repeat=count))
    below = sum(one < mean for one in means) / len(means)
    ties = sum(one == mean for one in means) / len(means)
    bias = _quantile(below + ties / 2)
    left_out = [(sum(values) - value) / (count - 1) for value in values]
    centre = sum(left_out) / count
    cubes = sum((centre - one) ** 3 for one in left_out)
    squares = sum((centre - one) ** 2 for one in left_out)
    skew = cubes / (6 * squares**1.5)
    ends = []
    for share in (0.025, 0.975):
        shifted = bias + _quantile(share)
        z = bias + shifted / (1 - skew * shifted)
        level = 0.5 * math.erfc(-z / math.sqrt(2))
        ends.append(means[min(len(means) - 1, int(level * len(means)))])
    return ends[0], ends[1]


def _quantile(share: float) -> float:
    """Inverts the normal distribution by bisection."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / 2**0.5) < share else (low, middle)
    return low
