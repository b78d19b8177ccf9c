"""Tokens for API writes, half of them for emergencies alone."""

import pytest

from mbcas_core.stability.resize_budget import ResizeBudget, cluster_rate


@pytest.mark.parametrize(
    ("nodes", "rate"), [(1, 10), (60, 10), (600, 12), (5000, 100), (9000, 100)]
)
def test_the_rate_follows_the_cluster(nodes: int, rate: float) -> None:
    assert cluster_rate(nodes) == pytest.approx(rate)


def test_half_of_the_budget_is_for_emergencies_alone() -> None:
    budget = ResizeBudget()
    budget.refill(rate_per_second=10, now_seconds=0.0)
    assert budget.available(emergency=True) == 50

    budget.take(25, emergency=False)

    assert budget.available(emergency=False) == 0
    assert budget.available(emergency=True) == 25


def test_the_slowest_budget_still_comes_to_a_whole_token() -> None:
    budget = ResizeBudget()
    for second in range(0, 60, 5):
        budget.refill(rate_per_second=0.05, now_seconds=float(second))
        budget.take(budget.available(emergency=False), emergency=False)
        if second:
            continue
        assert budget.available(emergency=False) == 0

    budget.refill(rate_per_second=0.05, now_seconds=200.0)

    assert budget.available(emergency=False) == 1


def test_an_emergency_spares_its_own_half_as_long_as_it_can() -> None:
    budget = ResizeBudget()
    budget.refill(rate_per_second=10, now_seconds=0.0)

    budget.take(30, emergency=True)

    assert budget.available(emergency=False) == 0
    assert budget.available(emergency=True) == 20


def test_tokens_accrue_at_the_rate_and_no_further_than_the_bucket() -> None:
    budget = ResizeBudget()
    budget.refill(rate_per_second=10, now_seconds=0.0)
    budget.take(50, emergency=True)

    budget.refill(rate_per_second=10, now_seconds=1.0)
    assert budget.available(emergency=False) == 5
    assert budget.available(emergency=True) == 10

    budget.refill(rate_per_second=10, now_seconds=1000.0)
    assert budget.available(emergency=True) == 50

    budget.refill(rate_per_second=10, now_seconds=500.0)
    assert budget.available(emergency=True) == 50
