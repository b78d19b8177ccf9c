"""When a row is lifted, how long, and how the lift sinks."""

import numpy as np
import pytest

from mbcas_core.signals import windows
from mbcas_core.signals.counters import Seconds
from mbcas_core.signals.windows import WindowTable
from mbcas_core.stability import emergency
from mbcas_core.stability.emergency import EmergencyTable

ROW = np.array([0])


class Past:
    """One row's seconds."""

    def __init__(self) -> None:
        self.windows = WindowTable()
        self.windows.grow(1)
        self.table = EmergencyTable()
        self.table.grow(1)
        self.now = 0.0

    def second(self, *, throttled: float = 0.0, usage: float = 100.0) -> None:
        one = np.array([[usage]])
        windows.push(
            self.windows,
            Seconds(
                rows=ROW,
                count=np.array([1]),
                usage=one,
                demand=one,
                throttled=np.array([[throttled]]),
                square=one,
            ),
        )
        self.now += 1.0
        emergency.step(
            self.table,
            self.windows,
            ROW[self.table.active],
            exit_seconds=4,
            decay_seconds=60.0,
            now_seconds=self.now,
        )

    def lift(self, wish: float) -> None:
        emergency.lift(
            self.table,
            ROW,
            wish=np.array([wish]),
            rolled_back=np.array([False]),
            now_seconds=self.now,
        )

    def held(self) -> float:
        found = emergency.held(self.table, ROW, decay_seconds=60.0, now_seconds=self.now)
        return float(found[0])


@pytest.mark.parametrize(
    ("ratios", "tau", "surging"),
    [
        ([0.4, 0.4], 0.05, True),
        ([0.3, 0.4], 0.05, False),
        ([0.5, 0.5], 0.10, False),  # 6 tau.
        ([0.6, 0.6], 0.10, True),
        ([0.2] * 6, 0.05, True),
        ([0.2] * 5, 0.05, False),
        ([0.2] * 5 + [0.15], 0.05, False),  # Each of six seconds, not their mean.
        ([0.3] * 6, 0.10, False),  # 3 tau.
        ([0.31] * 6, 0.10, True),
    ],
)
def test_a_row_surges_at_the_thresholds(*, ratios: list[float], tau: float, surging: bool) -> None:
    past = Past()
    for ratio in ratios:
        past.second(throttled=ratio)

    recent = windows.throttled_ratio(past.windows, ROW, seconds=emergency.SURGE_SECONDS)
    found = emergency.surging(past.windows, ROW, np.array([tau]), recent=recent)
    assert found.tolist() == [surging]


def test_a_lift_is_held_while_use_stays_near_its_peak() -> None:
    past = Past()
    past.lift(800.0)

    for _ in range(14):
        past.second(usage=500.0)

    assert past.held() == 800.0


def test_a_lift_sinks_in_a_straight_line_once_use_fell_for_four_seconds() -> None:
    past = Past()
    past.lift(800.0)
    for _ in range(3):
        past.second(usage=500.0)

    for _ in range(3):
        past.second(usage=100.0)
    assert past.held() == 800.0
    past.second(usage=100.0)
    assert past.held() == 800.0

    for _ in range(30):
        past.second(usage=100.0)
    assert past.held() == pytest.approx(400.0)
    for _ in range(30):
        past.second(usage=100.0)
    assert past.held() == 0.0
    assert not past.table.active[0]


def test_new_throttling_sets_a_sinking_lift_up_again_and_never_lower() -> None:
    past = Past()
    past.lift(800.0)
    for _ in range(40):
        past.second(usage=100.0)
    assert past.held() < 800.0

    past.lift(300.0)

    assert past.held() == 800.0


def test_a_lift_that_is_not_needed_any_more_sinks_even_at_its_peak() -> None:
    past = Past()
    past.lift(800.0)

    for _ in range(16):
        past.second(usage=500.0)

    assert past.held() < 800.0
