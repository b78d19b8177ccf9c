import numpy as np
import pytest
from hypothesis import given

from mbcas_core.events import Policy
from mbcas_core.market.clearing import sum_by
from mbcas_core.market.targets import GoodTargets
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, IntArray
from tests.mbcas_core.market.plain import PlainMarket, clear_plainly
from tests.mbcas_core.market.worlds import World, one_node, with_everyone, worlds


def has_two_numbers(world: World) -> BoolArray:
    policy = world.rows.policy
    both: BoolArray = (policy == Policy.LIMITS_ONLY) | (policy == Policy.REQUESTS_AND_LIMITS)
    return both & world.rows.takes_part & world.rows.has_limit


def sums(world: World, values: IntArray) -> IntArray:
    return sum_by(world.node_of_row, values, world.nodes.allocatable_millicores.size)


def assert_recomputes(world: World, good: GoodTargets) -> None:
    """Recomputes a good's targets from its record, as a reader of an explanation would."""
    quantum = world.parameters.quantum_millicores
    for node, supply in enumerate(good.supply_millicores):
        pods = np.flatnonzero(world.pods.node == node)
        by_hand = clear_plainly(
            PlainMarket(
                good.pod_need_millicores[pods].tolist(),
                good.pod_floor_millicores[pods].tolist(),
                good.pod_weight[pods].tolist(),
                int(supply),
                quantum,
            )
        )
        assert good.pod_allocation_millicores[pods].tolist() == by_hand.allocations
        assert good.target_sum_millicores[node] == sum(by_hand.allocations)
    for pod, capacity in enumerate(good.pod_allocation_millicores):
        rows = np.flatnonzero(world.rows.pod == pod)
        inside = clear_plainly(
            PlainMarket(
                good.need_millicores[rows].tolist(),
                good.floor_millicores[rows].tolist(),
                good.weight[rows].tolist(),
                int(capacity),
                quantum,
            )
        )
        assert good.target_millicores[rows].tolist() == inside.allocations


@given(worlds())
def test_targets_can_be_recomputed_from_their_record(world: World) -> None:
    targets = world.clear()

    assert_recomputes(world, targets.reservation)
    assert_recomputes(world, targets.ceiling_headroom)


@given(worlds())
def test_reservation_targets_fit_the_node_wherever_fixed_ones_leave_room(world: World) -> None:
    targets = world.clear()

    of_market = sums(world, targets.reservation.target_millicores)
    assert (of_market <= np.maximum(targets.available_millicores, 0)).all()
    spare = targets.available_millicores - targets.reserve_millicores
    floors = targets.reservation.floor_sum_millicores
    assert (of_market <= np.maximum(np.maximum(spare, floors), 0)).all()


@given(worlds())
def test_no_reservation_is_below_the_lesser_of_floor_and_need_while_floors_fit(
    world: World,
) -> None:
    good = world.clear().reservation

    counted = np.minimum(good.floor_millicores, good.need_millicores)
    counted_of_pod = sum_by(world.rows.pod, counted, world.pods.node.size)
    fits = ~good.floors_reduced[world.node_of_row]
    fits &= (counted_of_pod <= good.pod_cap_millicores)[world.rows.pod]
    assert (good.target_millicores >= counted)[fits].all()


@given(worlds())
def test_no_target_is_above_the_need_or_the_cap(world: World) -> None:
    targets = world.clear()

    for good in (targets.reservation, targets.ceiling_headroom):
        assert (good.target_millicores <= good.need_millicores).all()
        assert (good.pod_allocation_millicores <= good.pod_cap_millicores).all()


@given(worlds())
def test_a_ceiling_is_never_below_its_admitted_limit_unless_strict(world: World) -> None:
    targets = world.clear()

    held = has_two_numbers(world) & ~world.rows.strict
    assert (targets.ceiling_millicores >= world.rows.admitted_limit_millicores)[held].all()
    assert not targets.ceiling_headroom.floors_reduced.any()


@given(worlds())
def test_a_ceiling_is_never_below_its_reservation(world: World) -> None:
    targets = world.clear()

    assert (targets.ceiling_millicores >= targets.reservation_millicores).all()


@given(worlds())
def test_ceilings_add_up_to_no_more_than_their_limit(world: World) -> None:
    targets = world.clear()

    total = sums(world, targets.ceiling_millicores)
    assert (total <= targets.ceiling_limit_millicores).all()


@given(worlds())
def test_a_hard_quota_is_one_number(world: World) -> None:
    targets = world.clear()

    one = world.rows.takes_part & (world.rows.policy == Policy.HARD_QUOTA)
    assert (targets.ceiling_millicores == targets.reservation_millicores)[one].all()


@given(worlds())
def test_what_policy_or_mode_fixes_does_not_move(world: World) -> None:
    rows, targets = world.rows, world.clear()

    fixed = ~rows.takes_part | (rows.policy == Policy.LIMITS_ONLY)
    assert (targets.reservation_millicores == rows.fixed_reservation_millicores)[fixed].all()
    off = ~rows.takes_part & rows.has_limit
    assert (targets.ceiling_millicores == rows.fixed_ceiling_millicores)[off].all()


@given(worlds())
def test_a_node_gives_up_no_more_reservations_than_it_may(world: World) -> None:
    targets = world.clear()

    good = targets.reservation
    freed = sums(world, np.maximum(good.floor_millicores - good.need_millicores, 0))
    most = world.nodes.allocatable_millicores * world.parameters.reclaim_max_fraction
    assert (freed <= most).all()


@given(worlds())
def test_where_only_the_request_moves_it_stays_under_the_limit(world: World) -> None:
    rows, targets = world.rows, world.clear()

    only = rows.takes_part & rows.has_limit & (rows.policy == Policy.REQUESTS_ONLY)
    limit = rows.admitted_limit_millicores
    assert (targets.reservation_millicores <= limit)[only].all()
    assert (targets.ceiling_millicores == limit)[only].all()


@given(worlds())
def test_no_reservation_is_above_what_the_container_was_admitted_to_use(world: World) -> None:
    rows, targets = world.rows, world.clear()

    both = rows.takes_part & rows.has_limit & (rows.policy == Policy.REQUESTS_AND_LIMITS)
    assert (targets.reservation_millicores <= rows.admitted_limit_millicores)[both].all()


def test_a_false_reservation_need_buys_no_ceiling() -> None:
    row = {"request": 200, "limit": 300, "ceiling_need": 2000}
    rival = row | {"reservation_need": 300}
    true, false = row | {"reservation_need": 300}, row | {"reservation_need": 700}
    parameters = Parameters(ceiling_overcommit=1.5, reserve_millicores=0, reserve_ratio=0.0)

    honest = one_node(true, rival, allocatable=1000, parameters=parameters).clear()
    lying = one_node(false, rival, allocatable=1000, parameters=parameters).clear()

    assert honest.ceiling_millicores.tolist() == [750, 750]
    assert lying.ceiling_millicores.tolist() == [750, 750]


@given(worlds())
def test_with_everyone_taking_part_nobody_is_fixed_by_mode(world: World) -> None:
    everyone = with_everyone(world)

    targets = everyone.clear()

    bids = everyone.rows.policy != Policy.LIMITS_ONLY
    assert (targets.reservation.takes_part == bids).all()


def test_reclaim_is_bounded_as_the_module_says() -> None:
    world = one_node(
        {"request": 500, "need": 100, "limit": 500},
        {"request": 300, "need": 100, "limit": 300},
        allocatable=1000,
    )

    targets = world.clear()

    assert targets.reservation_millicores.tolist() == [300, 200]
    assert targets.reclaim_bound.tolist() == [True, True]
    assert targets.reclaim_factor.tolist() == [0.5]


def test_the_reserve_bounds_the_surplus() -> None:
    world = one_node({"request": 1000, "need": 5000, "limit": 6000}, allocatable=4000)

    assert world.clear().reservation_millicores.tolist() == [3900]


def test_the_reserve_does_not_cut_into_floors() -> None:
    world = one_node(
        {"request": 1990, "need": 3000, "limit": 3000},
        {"request": 2000, "need": 3000, "limit": 3000},
    )

    targets = world.clear()

    assert targets.reservation_millicores.tolist() == [1990, 2000]
    assert not targets.reservation.floors_reduced.any()


def test_floors_that_no_longer_fit_are_reduced_and_said() -> None:
    world = one_node(
        {"request": 1000, "need": 3000, "limit": 3000},
        {"request": 3000, "need": 3000, "limit": 3000},
        unmanaged=2000,
    )

    targets = world.clear()

    assert targets.reservation_millicores.tolist() == [500, 1500]
    assert targets.reservation.floors_reduced.tolist() == [True]


def test_limits_only_relieves_a_node_full_of_requests() -> None:
    world = one_node(
        {"policy": Policy.LIMITS_ONLY, "request": 2000, "limit": 2000, "need": 100},
        {"policy": Policy.LIMITS_ONLY, "request": 1900, "limit": 1900, "ceiling_need": 2800},
    )

    targets = world.clear()

    assert targets.reservation_millicores.tolist() == [2000, 1900]
    assert targets.ceiling_millicores.tolist() == [2000, 2800]


def test_admitted_limits_that_use_all_ceilings_are_said_and_kept() -> None:
    row: dict[str, int | bool] = {"policy": Policy.LIMITS_ONLY, "request": 100, "limit": 8000}
    world = one_node(row | {"ceiling_need": 9000}, row)

    targets = world.clear()

    assert targets.ceiling_millicores.tolist() == [8000, 8000]
    assert targets.ceilings_exhausted.tolist() == [True]


def test_strict_ceilings_fit_the_node() -> None:
    row: dict[str, int | bool] = {"strict": True, "request": 1000, "limit": 3000, "need": 1000}
    world = one_node(row | {"ceiling_need": 2000}, row | {"ceiling_need": 2000})

    targets = world.clear()

    assert targets.overcommit.tolist() == [1.0]
    assert targets.ceiling_millicores.tolist() == [1950, 1950]


def test_a_lower_declared_minimum_lowers_the_floor() -> None:
    world = one_node(
        {"request": 2000, "limit": 4000, "need": 4000, "min": 1000},
        {"request": 2000, "limit": 4000, "need": 4000},
        parameters=Parameters(reserve_millicores=0, reserve_ratio=0.0),
        allocatable=3000,
    )

    assert world.clear().reservation_millicores.tolist() == [1000, 2000]


def test_no_pod_gets_more_than_its_part_of_the_node_or_its_declared_most() -> None:
    world = one_node({"request": 100, "need": 4000}, {"request": 100, "need": 900, "max": 500})

    assert world.clear().reservation_millicores.tolist() == [3000, 500]


def test_a_declared_most_below_the_admitted_limit_does_not_cut_the_ceiling() -> None:
    world = one_node(
        {"policy": Policy.LIMITS_ONLY, "request": 100, "limit": 2000, "need": 3000, "max": 500}
    )

    assert world.clear().ceiling_millicores.tolist() == [2000]


@pytest.mark.parametrize("fixed", [{"takes_part": False}, {"policy": Policy.LIMITS_ONLY}])
def test_a_fixed_reservation_leaves_the_supply(fixed: dict[str, int | bool]) -> None:
    world = one_node(
        {"request": 1500, "limit": 1500} | fixed, {"request": 100, "limit": 4000, "need": 2900}
    )

    targets = world.clear()

    assert targets.reservation.supply_millicores.tolist() == [2400]
    assert targets.reservation_millicores.tolist() == [1500, 2400]
