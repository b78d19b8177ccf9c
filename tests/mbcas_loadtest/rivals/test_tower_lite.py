import statistics

import numpy as np
import pytest

from mbcas_loadtest.rivals.captain import TARGETS
from mbcas_loadtest.rivals.tower_lite import TowerLite, costs_of, median_costs, p99_seconds
from tests.mbcas_loadtest.rivals.little_worlds import declare, see

BOUND = np.array([0.2])


def test_among_minutes_within_the_bound_the_cheaper_costs_less_and_all_others_cost_more() -> None:
    delays = np.array([0.1, 0.15, 0.6, 0.4]).reshape(4, 1, 1)
    allocations = np.array([700.0, 500.0, 400.0, 100.0]).reshape(4, 1, 1)

    costs = costs_of(delays, allocations, BOUND, np.ones((4, 1, 1), np.bool_))

    assert costs.ravel().tolist() == pytest.approx([1.0, 0.0, 3.0, 2.0])


def test_a_cost_with_nothing_to_compare_it_with_is_in_the_middle() -> None:
    delays = np.array([0.1, 0.9]).reshape(2, 1, 1)
    allocations = np.array([700.0, 700.0]).reshape(2, 1, 1)

    costs = costs_of(delays, allocations, BOUND, np.ones((2, 1, 1), np.bool_))

    assert costs.ravel().tolist() == [0.5, 2.5]


def test_median_costs_are_those_of_the_nearest_load_in_plain_python_too() -> None:
    generator = np.random.default_rng(2)
    shape = (40, 2, 3)
    actions = generator.integers(-1, len(TARGETS) - 1, shape)  # The last target is never tried.
    distance = generator.integers(0, 4, shape)
    costs = generator.uniform(0.0, 3.0, shape)

    medians = median_costs(distance, actions, costs)

    for i in range(2):
        for j in range(3):
            for action in range(len(TARGETS)):
                own = [
                    (int(distance[s, i, j]), float(costs[s, i, j]))
                    for s in range(40)
                    if actions[s, i, j] == action
                ]
                nearest = [cost for away, cost in own if away == min(own)[0]]
                want = statistics.median(nearest) if nearest else np.inf
                assert medians[action, i, j] == pytest.approx(want)


@pytest.mark.parametrize("periods", [0, 1, 99, 100, 250, 600])
def test_the_p99_is_over_the_periods_in_which_work_came(periods: int) -> None:
    generator = np.random.default_rng(periods)
    delays = np.full((600, 1, 1), -1.0, np.float32)
    own = generator.permutation(600)[:periods]
    delays[own, 0, 0] = generator.gamma(1.0, 0.1, periods)

    found = p99_seconds(delays).item()

    ranked = sorted((float(value) for value in delays[own, 0, 0]), reverse=True)
    assert found == pytest.approx(ranked[periods // 100] if ranked else 0.0)


def live(tower: TowerLite, minute: int, usage_millicores: float, backlog_usec: float) -> None:
    """Lives through the minute before this one; nothing is ever throttled."""
    usage = np.full((1, 1, 1), usage_millicores)
    for period in range(600 * (minute - 1) + 1, 600 * minute + 1):
        tower.step(
            see(
                period,
                usage,
                np.zeros((1, 1, 1), np.bool_),
                np.array([[1000.0]]),
                backlog_usec=np.full((1, 1, 1), backlog_usec),
            )
        )


def test_each_target_has_its_turn_then_the_best_is_held_but_for_a_neighbours_turn() -> None:
    tower = TowerLite(declare([1000]), 0.2)
    held = []

    for minute in range(1, 13):
        # Under the target of number 3, work waits for 10 ms; under the others, 300 ms and more.
        action = tower.action.item()
        live(tower, minute, 300.0, 10_000.0 if action == 3 else 300_000.0 + 1_000.0 * action)
        held.append(tower.action.item())

    assert held == [*range(9), 2, 3, 3]
