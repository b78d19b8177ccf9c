import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbcas_core.errors import FloorsExceedCapacityError, InvalidInputError
from mbcas_core.market.allocate import Bid, LiveMarket, allocate, allocate_on_node
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.strategies import Fit, markets


def bid(
    name: str = "a", *, need: int = 500, floor: int = 100, cap: int = 0, weight: float = 100.0
) -> Bid:
    return Bid(
        id=name, need_millicores=need, floor_millicores=floor, cap_millicores=cap, weight=weight
    )


def live_market(
    *, needs: list[int], floors: list[int], available: int = 1000, reserve: int = 100
) -> LiveMarket:
    return LiveMarket(
        need_millicores=np.array(needs, dtype=np.int64),
        floor_millicores=np.array(floors, dtype=np.int64),
        weight=np.full(len(needs), 100.0),
        available_millicores=available,
        reserve_millicores=reserve,
        quantum_millicores=10,
        default_cap_millicores=750,
    )


def fields_of(caught: pytest.ExceptionInfo[InvalidInputError]) -> list[str]:
    return [error.field for error in caught.value.errors]


@given(markets(fit=Fit.FLOORS))
def test_bids_are_cleared_in_steps_of_a_millicore(market: PlainMarket) -> None:
    capacity = max(market.capacity, 1)
    bids = [
        Bid(
            id=str(row),
            need_millicores=need,
            floor_millicores=floor,
            cap_millicores=10**9,
            weight=weight,
        )
        for row, (need, floor, weight) in enumerate(
            zip(market.needs, market.floors, market.weights, strict=True)
        )
    ]

    answer = allocate(bids, capacity_millicores=capacity)

    by_hand = clear_plainly(
        PlainMarket(market.needs, market.floors, market.weights, capacity, quantum=1)
    )
    got = [allocation.allocation_millicores for allocation in answer.allocations]
    assert got == by_hand.allocations
    assert [allocation.id for allocation in answer.allocations] == [bid.id for bid in bids]
    assert answer.unallocated_millicores == capacity - sum(got)
    assert answer.price_before is None


def test_a_bid_short_of_its_need_is_rationed() -> None:
    answer = allocate([bid("a", need=900), bid("b", need=200)], capacity_millicores=1000)

    assert [a.rationed for a in answer.allocations] == [False, False]
    assert [a.allocation_millicores for a in answer.allocations] == [750, 200]

    answer = allocate([bid("a", need=900, cap=900), bid("b", need=200)], capacity_millicores=1000)

    assert [a.rationed for a in answer.allocations] == [True, False]
    assert [a.allocation_millicores for a in answer.allocations] == [800, 200]


def test_without_a_cap_the_floor_may_exceed_three_quarters() -> None:
    answer = allocate([bid(need=990, floor=900)], capacity_millicores=1000)

    assert answer.allocations[0].allocation_millicores == 900


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("id", bid("")),
        ("id", bid("x" * 257)),
        ("id", bid("ü" * 129)),
        ("id", bid("first")),
        ("need_millicores", bid(need=-1)),
        ("need_millicores", bid(need=10**9 + 1)),
        ("floor_millicores", bid(floor=-5)),
        ("cap_millicores", bid(cap=-1)),
        ("cap_millicores", bid(floor=100, cap=99)),
        ("weight", bid(weight=0.0)),
        ("weight", bid(weight=-1.0)),
        ("weight", bid(weight=math.nan)),
        ("weight", bid(weight=math.inf)),
        ("weight", bid(weight=1e-10)),
        ("weight", bid(weight=1e13)),
    ],
)
def test_an_unusable_field_is_refused_by_its_path(field: str, wrong: Bid) -> None:
    with pytest.raises(InvalidInputError) as caught:
        allocate([bid("first"), wrong], capacity_millicores=1000)

    assert fields_of(caught) == [f"bids[1].{field}"]
    with pytest.raises(InvalidInputError):
        allocate_on_node([bid("first"), wrong], live_market(needs=[], floors=[]))


def test_every_unusable_field_is_named_up_to_a_bound() -> None:
    bids = [bid(str(row), weight=0.0, need=-1) for row in range(1000)]

    with pytest.raises(InvalidInputError) as caught:
        allocate(bids, capacity_millicores=0)

    assert fields_of(caught)[:3] == [
        "capacity_millicores",
        "bids[0].need_millicores",
        "bids[0].weight",
    ]
    assert len(fields_of(caught)) == 100


def test_too_many_bids_are_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        allocate([bid(str(row)) for row in range(10_001)], capacity_millicores=1000)

    assert fields_of(caught) == ["bids"]


def test_floors_that_do_not_fit_are_refused_with_both_numbers() -> None:
    with pytest.raises(FloorsExceedCapacityError) as caught:
        allocate([bid("a", floor=300), bid("b", floor=400)], capacity_millicores=600)

    assert caught.value.floor_millicores == 700
    assert caught.value.capacity_millicores == 600


def test_a_market_without_bids_leaves_everything() -> None:
    answer = allocate([], capacity_millicores=2**63 - 1)

    assert answer.allocations == []
    assert answer.unallocated_millicores == 2**63 - 1


def test_on_a_node_bids_share_with_the_pods_there() -> None:
    live = live_market(needs=[800], floors=[100])

    answer = allocate_on_node([bid(need=800)], live)

    assert answer.allocations[0].allocation_millicores == 450
    assert answer.unallocated_millicores == 0
    assert answer.price_before is not None
    assert answer.price_before.shortage == 0
    assert answer.price.shortage == pytest.approx(1 - 900 / 1550)


def test_on_a_node_the_reserve_gives_way_to_floors() -> None:
    live = live_market(needs=[500], floors=[500])

    answer = allocate_on_node([bid(need=600, floor=480)], live)

    assert answer.allocations[0].allocation_millicores == 480


def test_on_a_full_node_bids_are_refused() -> None:
    live = live_market(needs=[800], floors=[800])

    with pytest.raises(FloorsExceedCapacityError):
        allocate_on_node([bid(floor=300)], live)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 500)), max_size=6))
def test_on_a_node_floors_of_the_pods_there_are_kept(pods: list[tuple[int, int]]) -> None:
    live = live_market(
        needs=[need for need, _ in pods], floors=[floor for _, floor in pods], available=4000
    )

    answer = allocate_on_node([bid(need=10**9, cap=10**9, weight=1e9)], live)

    kept = sum(min(need, floor) for need, floor in pods)
    assert answer.allocations[0].allocation_millicores <= 4000 - kept


def test_on_an_overfull_node_bids_are_refused() -> None:
    live = live_market(needs=[], floors=[], available=-50)

    with pytest.raises(FloorsExceedCapacityError):
        allocate_on_node([bid()], live)
