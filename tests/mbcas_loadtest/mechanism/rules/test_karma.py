import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_loadtest.mechanism.rules.karma import Karma
from tests.mbcas_loadtest.mechanism.small_markets import allocate, bids_of, whole


def lend_plainly(
    needs: list[int], credits_before: list[float], capacity: int, alpha: float
) -> tuple[list[int], list[float]]:
    """Lends slice by slice, as the paper's algorithm is written; equal weights."""
    n = len(needs)
    guaranteed = int(alpha * capacity / n)
    purse = [c + (1 - alpha) * capacity / n for c in credits_before]
    allocation = [min(need, guaranteed) for need in needs]
    donated = [guaranteed - x for x in allocation]
    shared = capacity - n * guaranteed
    lenders = list(purse)  # Donors are ranked by what they had before anybody lent.
    while shared + sum(donated) > 0:
        borrowers = [i for i in range(n) if allocation[i] < needs[i] and purse[i] > 0]
        if not borrowers:
            break
        borrower = max(borrowers, key=lambda i: (purse[i], -i))
        purse[borrower] -= 1
        allocation[borrower] += 1
        if sum(donated):
            donor = min((i for i in range(n) if donated[i]), key=lambda i: (lenders[i], i))
            lenders[donor] += 1
            purse[donor] += 1
            donated[donor] -= 1
        else:
            shared -= 1
    return allocation, purse


def test_the_worked_example_lends_as_the_module_says() -> None:
    rule = Karma(alpha=0.5)
    rule.credits = np.array([85.0, 65.0, 45.0])

    assert allocate(rule, bids_of([75, 40, 0]), 90) == [55, 35, 0]
    assert rule.credits.tolist() == [60.0, 60.0, 75.0]


def test_who_lent_before_is_served_before_who_borrowed() -> None:
    rule = Karma(alpha=1.0)

    for _ in range(5):
        assert allocate(rule, bids_of([100, 0, 50]), 150) == [100, 0, 50]
    contested = allocate(rule, bids_of([100, 100, 0]), 150)

    assert contested == [50, 100, 0]


def test_reset_forgets_who_lent() -> None:
    rule = Karma(alpha=1.0)
    for _ in range(5):
        allocate(rule, bids_of([100, 0, 50]), 150)

    rule.reset()

    assert allocate(rule, bids_of([100, 100, 0]), 150) == [75, 75, 0]


def test_without_credits_nobody_borrows_although_there_is_something_to_lend() -> None:
    rule = Karma(alpha=1.0, first_credits=20.0)

    assert allocate(rule, bids_of([100, 0]), 100) == [70, 0]
    assert allocate(rule, bids_of([100, 0]), 100) == [50, 0]
    assert allocate(rule, bids_of([0, 100]), 100) == [0, 90]


def test_who_weighs_twice_as_much_pays_half_as_much() -> None:
    rule = Karma(alpha=0.5, first_credits=1000.0)

    shares = allocate(rule, bids_of([600, 600], weights=[2.0, 1.0]), 600)

    assert shares == [400, 200]
    assert rule.credits[0] == pytest.approx(rule.credits[1], abs=2.0)


def test_rows_may_not_change_between_rounds() -> None:
    rule = Karma()
    allocate(rule, bids_of([10, 10]), 15)

    with pytest.raises(AssertionError, match="reset"):
        allocate(rule, bids_of([10, 10, 10]), 15)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(0, 50).map(lambda c: 4 * c),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([5.0, 40.0, 1e6]),
)
def test_rounds_agree_with_lending_slice_by_slice(
    rounds: list[list[int]], capacity: int, alpha: float, first_credits: float
) -> None:
    rule = Karma(alpha=alpha, first_credits=first_credits)
    other = Karma(alpha=alpha, first_credits=first_credits)
    purse = [first_credits] * 4

    for needs in rounds:
        allocation, purse = lend_plainly(needs, purse, capacity, alpha)

        assert allocate(rule, bids_of(needs), capacity) == allocation
        assert rule.credits.tolist() == purse
        # The same beside another market, which must not matter.
        two = bids_of([*needs, 30, 50], market=[0, 0, 0, 0, 1, 1])
        assert allocate(other, two, capacity, 60)[:4] == allocation


def test_a_market_without_bids_changes_nothing() -> None:
    rule = Karma()

    cleared = rule.clear(
        bids_of([70, 70], market=[1, 1]), whole([50, 100, 9]), quantum_millicores=1
    )

    assert cleared.allocation_millicores.tolist() == [50, 50]
