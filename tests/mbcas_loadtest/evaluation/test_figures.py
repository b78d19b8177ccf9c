import numpy as np
import pytest

from mbcas_loadtest.evaluation.figures import QUANTITIES, figures
from tests.mbcas_loadtest.evaluation.samples import outcome


def test_waste_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    one = outcome(
        (1, 2),
        usage_core_seconds=np.array([[1.0, 90.0]]),
        limit_core_seconds=np.array([[10.0, 100.0]]),
    )

    assert figures(one, batch=(False, False))["waste"] == pytest.approx([1 - 91 / 110])


def test_nobody_waits_for_batch_so_its_throttling_and_delay_do_not_count() -> None:
    one = outcome(
        (1, 2),
        throttled_periods=np.array([[3_600.0, 36_000.0]]),
        delay_p99_seconds=np.array([[0.2, 90.0]]),
    )

    found = figures(one, batch=(False, True))

    assert found["throttled"] == pytest.approx([0.1])
    assert found["p99_seconds"] == pytest.approx([0.2])


def test_a_container_without_requests_has_no_part_in_the_delay() -> None:
    one = outcome((2, 2), delay_p99_seconds=np.array([[0.2, np.nan], [np.nan, np.nan]]))

    found = figures(one, batch=(False, False))["p99_seconds"]

    assert found == pytest.approx([0.2, np.nan], nan_ok=True)


def test_changes_are_counted_for_the_time_that_containers_were_there() -> None:
    one = outcome((1, 2), changes=np.array([[6.0, 3.0]]), seconds=np.array([[3600.0, 1800.0]]))

    assert figures(one, batch=(False, False))["changes_per_hour"] == pytest.approx([6.0])


def test_who_never_settles_is_counted_with_the_whole_run() -> None:
    one = outcome((1, 2), settling_seconds=np.nan)

    assert figures(one, batch=(False, False))["settling_seconds"] == pytest.approx([4200.0])


def test_batch_has_no_part_in_the_throttling_at_the_peak() -> None:
    one = outcome((1, 3), peak_throttled_ratio=np.array([[0.2, 0.9, np.nan]]))

    assert figures(one, batch=(False, True, False))["peak_throttled"] == pytest.approx([0.2])


def test_jains_index_is_1_for_equal_shares_and_one_over_n_for_a_winner_who_takes_all() -> None:
    owed = np.full((2, 4), 10.0)
    denied = np.array([[5.0, 5.0, 5.0, 5.0], [0.0, 10.0, 10.0, 10.0]])

    one = outcome((2, 4), entitled_core_seconds=owed, denied_core_seconds=denied)
    found = figures(one, batch=(False,) * 4)

    assert found["jain"] == pytest.approx([1.0, 0.25])


def test_a_run_in_which_nothing_is_there_gives_no_numbers_and_no_errors() -> None:
    names = ("seconds", "wall_periods", "limit_core_seconds", "entitled_core_seconds")

    found = figures(outcome((1, 2), **dict.fromkeys(names, 0.0)), batch=(False, False))

    assert set(found) == set(QUANTITIES)
    assert np.isnan(found["waste"]).all()
    assert np.isnan(found["throttled"]).all()
