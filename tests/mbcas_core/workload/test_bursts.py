"""Bursts are remembered by their peaks."""

import numpy as np
import pytest

from mbcas_core.parameters import WORKLOAD_CLASSES
from mbcas_core.signals.counters import Seconds
from mbcas_core.workload import bursts, classes
from mbcas_core.workload.bursts import BurstTable

ROW = np.array([0])


def live(usage: list[float], table: BurstTable | None = None) -> BurstTable:
    if table is None:
        table = BurstTable()
        table.grow(1)
    for start in range(0, len(usage), 3):
        part = np.array([usage[start : start + 3]])
        zeros = np.zeros_like(part)
        seconds = Seconds(
            rows=ROW,
            count=np.array([part.size]),
            usage=part,
            demand=part,
            throttled=zeros,
            square=zeros,
        )
        bursts.step(table, seconds)
    return table


def test_a_burst_is_remembered_at_1_3_times_its_peak() -> None:
    table = live([100.0] * 20 + [350.0] * 8 + [100.0])

    assert bursts.remembered_peak(table, ROW) == pytest.approx([455.0])
    assert not bursts.is_bursty(table, ROW)[0]


def test_two_bursts_make_a_bursty_container() -> None:
    table = live(([100.0] * 20 + [350.0] * 8) * 2 + [100.0])

    assert bursts.is_bursty(table, ROW)[0]


def test_what_lasts_longer_than_a_minute_is_a_new_level() -> None:
    table = live([100.0] * 20 + [350.0] * 70 + [360.0] * 20)

    assert bursts.remembered_peak(table, ROW)[0] == 0.0
    assert table.quiet[0] == pytest.approx(350.0, abs=10.0)


def test_what_rises_slowly_is_no_burst() -> None:
    table = live([100.0] * 20 + [220.0 + 30.0 * i for i in range(20)] + [100.0] * 5)

    assert bursts.remembered_peak(table, ROW)[0] == 0.0


def test_a_small_hump_is_no_burst() -> None:
    table = live([30.0] * 20 + [120.0] * 5 + [30.0] * 5)

    assert bursts.remembered_peak(table, ROW)[0] == 0.0


def test_the_third_quartile_of_the_last_sixteen_peaks_counts() -> None:
    peaks = [300.0 + 10.0 * i for i in range(20)]
    table = live([value for peak in peaks for value in [100.0] * 30 + [peak] * 3] + [100.0])

    assert bursts.remembered_peak(table, ROW) == pytest.approx([1.3 * sorted(peaks[-16:])[11]])


def test_a_burst_is_forgotten_after_ten_minutes() -> None:
    table = live([100.0] * 20 + [350.0] * 8 + [100.0] * 599)
    assert bursts.remembered_peak(table, ROW)[0] > 0

    live([100.0] * 3, table)

    assert bursts.remembered_peak(table, ROW)[0] == 0.0


@pytest.mark.parametrize(
    ("base", "variation", "bursty", "name"),
    [
        (5.0, 0.1, False, "idle"),
        (49.0, 0.1, False, "idle"),
        (51.0, 0.1, False, "steady"),
        (51.0, 0.3, False, "unknown"),
        (5.0, 0.1, True, "bursty"),
    ],
)
def test_classes_are_tried_in_order(
    *,
    base: float,
    variation: float,
    bursty: bool,
    name: str,
) -> None:
    found = classes.classify(
        base=np.array([base]),
        variation=np.array([variation]),
        bursty=np.array([bursty]),
        admitted_request=np.array([500]),
    )

    assert WORKLOAD_CLASSES[found[0]] == name
