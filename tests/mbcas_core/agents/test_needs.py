"""Two needs from what was measured."""

import numpy as np
import pytest

from mbcas_core.agents import headroom, needs
from mbcas_core.agents.needs import AgentTable
from mbcas_core.fleet import Rows
from mbcas_core.parameters import Parameters
from mbcas_core.signals import windows
from mbcas_core.signals.counters import Seconds
from mbcas_core.signals.windows import WindowTable
from mbcas_core.workload import bursts
from mbcas_core.workload.bursts import BurstTable

ROW = np.array([0])


class OneRow:
    """What is known of one container with tau 5 %."""

    def __init__(self) -> None:
        self.agent, self.rows = AgentTable(), Rows()
        self.windows, self.bursts = WindowTable(), BurstTable()
        for table in (self.agent, self.rows, self.windows, self.bursts):
            table.grow(1)
        self.rows.tau[0] = 0.05
        self.now = 0.0

    def live(self, usage: float, *, seconds: int, hidden: float = 0.0) -> None:
        """Lives through equal seconds with slices of variation 0.3, and estimates."""
        for _ in range(seconds):
            one = np.array([[usage]])
            second = Seconds(
                rows=ROW,
                count=np.array([1]),
                usage=one,
                demand=one + hidden,
                throttled=np.zeros((1, 1)),
                square=one**2 * (1 + 0.3**2),
            )
            windows.push(self.windows, second)
            bursts.step(self.bursts, second)
            self.now += 1.0
        self.estimate()

    def estimate(self) -> None:
        needs.estimate(
            self.agent,
            ROW,
            facts=self.rows,
            windows=self.windows,
            burst_table=self.bursts,
            tau=self.rows.tau[ROW],
            parameters=Parameters(),
            now_seconds=self.now,
        )

    @property
    def ceiling(self) -> int:
        return int(self.agent.ceiling_need[0])

    @property
    def reservation(self) -> int:
        return int(self.agent.reservation_need[0])


LEVEL = float(headroom.level(np.array([0.3]), np.array([0.05]))[0])


def test_the_ceiling_need_is_the_base_times_the_level() -> None:
    row = OneRow()

    row.live(200.0, seconds=30)

    assert row.ceiling == pytest.approx(200 * LEVEL, abs=1.5)
    assert row.reservation == 200


def test_hidden_demand_counts_without_headroom_of_its_own() -> None:
    row = OneRow()

    row.live(200.0, seconds=30, hidden=100.0)

    assert row.ceiling == pytest.approx(300 + 200 * (LEVEL - 1), abs=1.5)


def test_an_idle_container_needs_the_least_that_the_kernel_takes() -> None:
    row = OneRow()

    row.live(0.0, seconds=30)

    assert (row.ceiling, row.reservation) == (10, 10)


def test_a_need_is_remembered_for_one_to_two_windows() -> None:
    row = OneRow()
    row.live(200.0, seconds=15)

    row.live(50.0, seconds=15)
    row.live(50.0, seconds=14)
    assert row.ceiling == pytest.approx(200 * LEVEL, abs=1.5)

    for _ in range(5):
        row.live(50.0, seconds=15)
    assert row.ceiling == pytest.approx(50 * LEVEL, abs=1.5)


def test_the_reservation_keeps_the_ninth_decile_of_the_past() -> None:
    row = OneRow()
    for _ in range(8):
        row.live(300.0, seconds=15)

    for _ in range(30):
        row.live(100.0, seconds=15)

    assert row.reservation == 300

    for _ in range(10):
        row.live(100.0, seconds=15)
    assert row.reservation == 100


def test_a_cut_that_was_taken_back_raises_the_level_for_ten_minutes() -> None:
    row = OneRow()
    row.live(200.0, seconds=30)

    needs.add_caution(row.agent, ROW, now_seconds=row.now)
    row.estimate()
    assert row.agent.level[0] == pytest.approx(1.1 * LEVEL)

    row.now += 601.0
    row.estimate()
    assert row.agent.level[0] == pytest.approx(LEVEL)
    for _ in range(20):
        needs.add_caution(row.agent, ROW, now_seconds=row.now)
    row.estimate()
    assert row.agent.level[0] == pytest.approx(1.5 * LEVEL)


def test_a_remembered_burst_is_needed_before_it_comes_again() -> None:
    row = OneRow()
    row.live(100.0, seconds=30)
    row.live(500.0, seconds=5)

    for _ in range(8):
        row.live(100.0, seconds=15)

    assert row.ceiling == pytest.approx(650, abs=1)
