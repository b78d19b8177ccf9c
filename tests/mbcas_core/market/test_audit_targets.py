"""The audit passes what is right and names what is wrong: whole rounds, and parts of them."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.events import Policy
from mbcas_core.market.audit_part import Part
from mbcas_core.market.audit_targets import TARGET_PROPERTIES, audit_targets
from mbcas_core.market.findings import Finding
from mbcas_core.market.price import Prices
from mbcas_core.market.targets import Acceptance, GoodTargets, Targets
from mbcas_core.parameters import Parameters
from tests.mbcas_core.market.worlds import World, one_node, with_everyone, worlds

Record = TypeVar("Record", Targets, GoodTargets, Prices)


# Every other test of rounds audits what it clears (`World.clear`).
few = settings(max_examples=max(25, settings().max_examples // 4))


def audit(world: World, targets: Targets) -> list[Finding]:
    return audit_targets(world.rows, world.pods, world.nodes, targets, parameters=world.parameters)


def names(found: list[Finding]) -> set[str]:
    return {finding.property for finding in found}


BOTH, LIMITS, REQUESTS, HARD, IDLE = range(5)


def example() -> World:
    """A node that is rationed in both goods, with a row of every policy."""
    return one_node(
        {"request": 1000, "limit": 2000, "reservation_need": 1900, "ceiling_need": 6000},
        {"policy": Policy.LIMITS_ONLY, "request": 500, "limit": 800, "ceiling_need": 6000},
        {"policy": Policy.REQUESTS_ONLY, "request": 500, "limit": 800, "reservation_need": 790},
        {"policy": Policy.HARD_QUOTA, "request": 600, "limit": 600, "ceiling_need": 900},
        {"request": 500, "limit": 500, "reservation_need": 100, "ceiling_need": 100},
        allocatable=3800,
        parameters=Parameters(ceiling_overcommit=1.6),
    )


def add(value: float, index: int, *path: str) -> Callable[[Targets], Targets]:
    """Adds to one entry of an array, found by the names of the fields on the way to it."""

    def put(record: Record, names: tuple[str, ...]) -> Record:
        inner = getattr(record, names[0])
        changed: dict[str, Any] = {}
        if is_dataclass(inner):
            changed[names[0]] = put(inner, names[1:])  # type: ignore[type-var] # A record as well.
        else:
            array = changed[names[0]] = inner.copy()
            array[index] = not array[index] if array.dtype == np.bool_ else array[index] + value
        return replace(record, **changed)

    return lambda targets: put(targets, path)


def flip(index: int, *path: str) -> Callable[[Targets], Targets]:
    return add(0, index, *path)


R, C = "reservation", "ceiling_headroom"
BROKEN: dict[str, list[Callable[[Targets], Targets]]] = {
    "bid-wrong": [
        flip(BOTH, R, "takes_part"),
        flip(LIMITS, C, "takes_part"),
        add(1, BOTH, R, "floor_millicores"),
        add(1, BOTH, C, "floor_millicores"),
        add(-1, BOTH, R, "need_millicores"),
        add(1, BOTH, C, "need_millicores"),
        add(1, BOTH, R, "pod_need_millicores"),
        add(-1, BOTH, C, "pod_floor_millicores"),
    ],
    "cap-wrong": [
        add(1, BOTH, R, "pod_cap_millicores"),
        add(1, LIMITS, C, "pod_cap_millicores"),
    ],
    "cap-exceeded": [add(-2000, BOTH, R, "pod_cap_millicores")],
    "supply-wrong": [
        add(1, 0, "available_millicores"),
        add(1, 0, "reserve_millicores"),
        add(1, 0, R, "supply_millicores"),
        add(-1, 0, C, "supply_millicores"),
    ],
    "reserve-sold": [add(1, 0, "reserve_millicores")],
    "reserve-cuts-floors": [flip(0, R, "floors_reduced")],
    "limit-wrong": [
        add(1, 0, "reservation_limit_millicores"),
        add(1, 0, "ceiling_limit_millicores"),
    ],
    "ceilings-exceeded": [add(1000, BOTH, "ceiling_millicores")],
    "exhausted-wrong": [flip(0, "ceilings_exhausted")],
    "reclaim-exceeded": [add(-1500, IDLE, R, "need_millicores")],
    "reclaim-needless": [flip(IDLE, "reclaim_bound")],
    "target-wrong": [
        add(1, BOTH, "reservation_millicores"),
        add(1, LIMITS, "ceiling_millicores"),
    ],
    "fixed-moved": [
        add(1, LIMITS, "reservation_millicores"),
        add(1, REQUESTS, "ceiling_millicores"),
    ],
    "ceiling-below-admitted": [add(-5000, LIMITS, "ceiling_millicores")],
    "ceiling-below-reservation": [add(-5000, BOTH, "ceiling_millicores")],
    "request-above-limit": [add(500, REQUESTS, "reservation_millicores")],
    "hard-quota-split": [add(1, HARD, "ceiling_millicores")],
    "overcommit-wrong": [add(0.5, 0, "overcommit")],
    "credits-unbalanced": [add(5, BOTH, R, "pod_credit_millicores")],
    "credits-overspent": [
        add(5, BOTH, R, "pod_credit_millicores"),
        add(5, BOTH, C, "pod_credit_millicores"),
    ],
    # What one clearing may do wrong, at both levels of both goods.
    "need-exceeded": [
        add(1000, REQUESTS, R, "pod_allocation_millicores"),
        add(9000, BOTH, C, "target_millicores"),
    ],
    "floor-broken": [
        add(-500, BOTH, R, "pod_allocation_millicores"),
        add(-900, LIMITS, C, "target_millicores"),
    ],
    "not-pareto": [
        add(-1, BOTH, R, "pod_allocation_millicores"),
        add(1, BOTH, C, "target_millicores"),
    ],
    "envy": [add(100, BOTH, R, "pod_allocation_millicores")],
    "level-inconsistent": [add(1.0, 0, R, "level"), add(5.0, 0, C, "level")],
    "sums-wrong": [
        add(1, 0, R, "demand_millicores"),
        add(1, 0, C, "floor_sum_millicores"),
        add(-1, 0, C, "target_sum_millicores"),
    ],
    "price-level": [add(1.0, 0, C, "prices", "shadow_price")],
    "price-normalized-wrong": [add(-0.1, 0, R, "prices", "shadow_price_normalized")],
    "shortage-wrong": [add(0.01, 0, C, "prices", "shortage")],
}
CASES = [
    pytest.param(name, break_it, id=f"{name}-{index}")
    for name, ways in BROKEN.items()
    for index, break_it in enumerate(ways)
]


def test_the_example_is_rationed_and_right() -> None:
    targets = example().clear()

    assert np.isfinite(targets.reservation.level).all()
    assert np.isfinite(targets.ceiling_headroom.level).all()
    assert audit(example(), targets) == []


@pytest.mark.parametrize(("name", "break_it"), CASES)
def test_a_broken_round_is_found_by_the_name_of_what_is_broken(
    name: str, break_it: Callable[[Targets], Targets]
) -> None:
    world = example()

    found = audit(world, break_it(world.clear()))

    assert name in names(found)


def test_every_property_of_a_round_has_been_broken() -> None:
    assert set(TARGET_PROPERTIES) <= set(BROKEN)


def test_a_strict_node_with_the_overcommit_of_others_is_found() -> None:
    row: dict[str, int | bool] = {"strict": True, "request": 1000, "limit": 3000, "need": 2000}
    world = one_node(row, row)

    found = audit(world, add(2.0, 0, "overcommit")(world.clear()))

    assert "overcommit-wrong" in names(found)


def test_needs_that_were_raised_although_nothing_idles_are_found() -> None:
    world = example()
    harmless = replace(world, parameters=Parameters(reclaim_max_fraction=1.0))
    bounded = replace(world, parameters=Parameters(reclaim_max_fraction=0.01))

    found = audit(harmless, bounded.clear())

    assert "reclaim-needless" in names(found)


def test_a_split_inside_a_pod_is_audited_by_its_containers_weights() -> None:
    world = one_node(
        {"request": 500, "limit": 3000, "need": 3000}, {"request": 500, "limit": 3000, "need": 3000}
    )
    pod_of_row = np.zeros(2, np.int64)
    one_pod = replace(
        world.pods,
        **{
            f.name: getattr(world.pods, f.name)[:1]
            for f in fields(world.pods)
            if f.name != "acceptance"
        },
    )
    world = replace(world, rows=replace(world.rows, pod=pod_of_row), pods=one_pod)
    targets = world.clear()
    good = targets.reservation
    moved = replace(good, target_millicores=good.target_millicores + np.array([200, -200]))

    found = audit(world, replace(targets, reservation=moved))

    assert {"envy", "level-inconsistent"} <= names(found)
    assert audit(world, targets) == []


def declare(world: World, acceptable: list[int], balance: int) -> World:
    """Lets the pods declare what they take at the least, and gives each a purse."""
    size = world.pods.node.size
    acceptance = Acceptance(
        acceptable_millicores=np.array(acceptable, np.int64),
        floor_growth_millicores=np.zeros(size, np.int64),
        credit_balance=np.full(size, balance, np.int64),
        credit_max=np.full(size, 3 * balance, np.int64),
    )
    return replace(world, pods=replace(world.pods, acceptance=acceptance))


def lending() -> World:
    rows: list[dict[str, int | bool]] = [
        {"request": request, "limit": 2000, "need": need}
        for request, need in ((10, 10), (10, 600), (10, 600))
    ]
    roomy = Parameters(reserve_millicores=0, reserve_ratio=0.0)
    world = one_node(*rows, allocatable=900, parameters=roomy)
    return declare(world, [0, 500, 0], balance=30)


def test_what_credits_move_is_no_envy() -> None:
    world = lending()

    targets = world.clear()

    assert targets.reservation.pod_credit_millicores.any()
    assert audit(world, targets) == []


def test_a_loan_that_nobody_paid_for_is_found() -> None:
    world = lending()

    found = audit(declare(world, [0, 500, 0], balance=10), world.clear())

    assert names(found) == {"credits-overspent"}


def test_what_moves_without_credits_is_envy() -> None:
    world = lending()
    targets = world.clear()
    good = targets.reservation
    hidden = replace(good, pod_credit_millicores=np.zeros_like(good.pod_credit_millicores))

    found = audit(world, replace(targets, reservation=hidden))

    assert {"envy", "level-inconsistent"} <= names(found)


@few
@given(worlds())
def test_nothing_is_found_where_everyone_takes_part(world: World) -> None:
    everyone = with_everyone(world)

    assert audit(everyone, everyone.clear()) == []


@few
@given(worlds(), st.data())
def test_nothing_is_found_where_pods_declare_and_pay(world: World, data: st.DataObject) -> None:
    size = world.pods.node.size
    cpu = st.integers(0, 3000)
    acceptable = data.draw(st.lists(cpu, min_size=size, max_size=size))
    declared = declare(world, acceptable, balance=data.draw(st.sampled_from([0, 50, 5000])))
    acceptance = declared.pods.acceptance
    assert acceptance is not None
    growth = np.array(data.draw(st.lists(cpu, min_size=size, max_size=size)), np.int64)
    grown = replace(
        declared,
        pods=replace(declared.pods, acceptance=replace(acceptance, floor_growth_millicores=growth)),
    )

    assert audit(grown, grown.clear()) == []


@few
@given(worlds(), st.data())
def test_a_part_of_a_round_is_what_its_nodes_would_have_been_alone(
    world: World, data: st.DataObject
) -> None:
    nodes = world.nodes.allocatable_millicores.size
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes)))
    part = Part.of(keep, node_of_pod=world.pods.node, pod_of_row=world.rows.pod)
    alone = World(
        part.market_rows(world.rows),
        part.market_pods(world.pods),
        part.market_nodes(world.nodes),
        world.parameters,
    )

    taken = part.targets(world.clear())

    assert_equal(taken, alone.clear())
    assert audit(alone, taken) == []


def assert_equal(left: Record, right: Record) -> None:
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if is_dataclass(a):
            assert_equal(a, b)
        else:
            np.testing.assert_array_equal(a, b)
