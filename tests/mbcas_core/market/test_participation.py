"""Refusals: who refuses, what is remembered of it, and that grown floors harm nobody's own."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.events import Policy
from mbcas_core.market.clearing import sum_by, sum_counted_floors
from mbcas_core.market.participation import (
    Compliance,
    Episodes,
    RefusalTable,
    find_growth,
    grow_floors,
    judge,
    remember,
)
from mbcas_core.market.pods import PodBids
from mbcas_core.parameters import Parameters
from mbcas_core.units import IntArray
from tests.mbcas_core.market.strategies import Nodes, nodes_of_pods
from tests.mbcas_core.market.worlds import World, one_node, worlds

BOTH, CEILINGS = int(Policy.REQUESTS_AND_LIMITS), int(Policy.LIMITS_ONLY)


def judged(world: World, *acceptable: int) -> Compliance:
    return judge(world.rows, world.clear(), np.array(acceptable))


def test_a_pod_refuses_less_than_it_declared_acceptable_and_no_other_does() -> None:
    row: dict[str, int | bool] = {"policy": BOTH, "request": 200, "need": 1000}
    world = one_node(row, row, allocatable=1100)

    found = judged(world, 501, 500)

    assert found.allocation_millicores.tolist() == [500, 500]
    assert found.refuses.tolist() == [True, False]
    assert found.level.tolist() == pytest.approx([500 / 501, 1.0])


def test_an_idle_pod_does_not_refuse_what_it_has_no_need_for() -> None:
    idle: dict[str, int | bool] = {"policy": BOTH, "request": 0, "need": 20}
    world = one_node(idle, allocatable=1100)

    found = judged(world, 900)

    assert (found.allocation_millicores[0], found.least_millicores[0]) == (20, 20)
    assert not found.refuses[0]


def test_a_pod_whose_reservation_is_fixed_judges_by_its_ceiling() -> None:
    row: dict[str, int | bool] = {"policy": CEILINGS, "request": 200, "limit": 300, "need": 900}
    world = one_node(row, row, allocatable=600, parameters=Parameters(ceiling_overcommit=1.5))

    found = judged(world, 380, 700)

    assert found.allocation_millicores.tolist() == [380, 370]
    assert found.refuses.tolist() == [False, True]


def test_a_container_without_a_limit_has_what_it_needs_as_a_ceiling() -> None:
    free: dict[str, int | bool] = {"policy": CEILINGS, "request": 100, "need": 400}
    held: dict[str, int | bool] = {"policy": CEILINGS, "request": 100, "limit": 100, "need": 900}
    two = one_node(free, held, allocatable=300, parameters=Parameters(ceiling_overcommit=1.0))
    pod = np.zeros(2, np.int64)
    world = World(
        rows=replace(two.rows, pod=pod),
        pods=replace(
            two.pods,
            node=np.zeros(1, np.int64),
            weight=np.ones(1),
            declared_min_millicores=two.pods.declared_min_millicores[:1],
            declared_max_millicores=two.pods.declared_max_millicores[:1],
        ),
        nodes=two.nodes,
        parameters=two.parameters,
    )

    found = judged(world, 450)

    assert found.allocation_millicores[0] == 400 + world.clear().ceiling_millicores[1]
    assert not found.refuses[0]


@pytest.mark.parametrize("policy", list(Policy))
def test_a_pod_that_takes_part_in_nothing_cannot_refuse(policy: Policy) -> None:
    world = one_node(
        {"policy": policy, "request": 100, "limit": 100, "need": 900, "takes_part": False}
    )

    found = judged(world, 800)

    assert not found.refuses[0]
    assert found.level[0] == 1.0


@settings(max_examples=40)
@given(worlds(), st.data())
def test_the_judgement_is_that_of_plain_loops(world: World, data: st.DataObject) -> None:
    count = world.pods.node.size
    acceptable = data.draw(st.lists(st.integers(0, 4000), min_size=count, max_size=count))
    targets = world.clear()

    found = judge(world.rows, targets, np.array(acceptable, np.int64))

    for pod in range(count):
        rows = np.flatnonzero(world.rows.pod == pod).tolist()
        got = need = 0
        for good, numbers in (
            (targets.reservation, targets.reservation_millicores),
            (targets.ceiling_headroom, targets.ceiling_millicores),
        ):
            if not any(good.takes_part[row] for row in rows):
                continue
            for row in rows:
                held = int(numbers[row])
                if good is targets.ceiling_headroom and not world.rows.has_limit[row]:
                    held = int(
                        max(
                            targets.reservation_millicores[row],
                            world.rows.ceiling_need_millicores[row],
                        )
                    )
                got += held
                need += held - int(good.target_millicores[row])
            need += int(good.pod_need_millicores[pod])
            break
        least = min(acceptable[pod], need)
        assert found.refuses[pod] == (got < least)
        assert found.level[pod] == (min(1.0, got / least) if least else 1.0)


@settings(max_examples=40)
@given(worlds(), st.data())
def test_a_pod_that_declares_no_more_than_its_floor_never_refuses_while_floors_fit(
    world: World, data: st.DataObject
) -> None:
    targets = world.clear()
    share = data.draw(st.floats(0, 1))
    own = targets.reservation.takes_part
    floors = sum_by(world.rows.pod, targets.reservation.floor_millicores, world.pods.node.size)
    fixed = sum_by(
        world.rows.pod, np.where(own, 0, targets.reservation_millicores), world.pods.node.size
    )
    bids = np.bincount(world.rows.pod, own, world.pods.node.size) > 0

    found = judge(world.rows, targets, np.floor(share * floors).astype(np.int64) + fixed)

    fits = ~targets.reservation.floors_reduced[world.pods.node]
    assert not (found.refuses & bids & fits).any()


def rounds_of(said: str) -> tuple[RefusalTable, list[Episodes]]:
    """Lets one pod refuse (x) or agree (.) round by round."""
    table = RefusalTable()
    table.grow(1)
    pods = np.zeros(1, np.int64)
    episodes = [
        remember(
            table,
            pods,
            Compliance(
                allocation_millicores=np.array([1]),
                least_millicores=np.array([2]),
                refuses=np.array([letter == "x"]),
                level=np.array([0.5 if letter == "x" else 1.0]),
            ),
        )
        for letter in said
    ]
    return table, episodes


def told(said: str) -> str:
    """Returns what was told after each round: b for begun, e for ended, - for nothing."""
    _, episodes = rounds_of(said)
    return "".join("b" if e.began.size else "e" if e.ended.size else "-" for e in episodes)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("xxxx...", "b-----e"),
        ("x.x.x.x.", "b-------"),
        ("x..x...x", "b-----eb"),
        ("......", "------"),
    ],
)
def test_a_refusal_is_told_once_and_its_end_after_three_quiet_rounds(
    said: str, expected: str
) -> None:
    assert told(said) == expected


@given(st.text(alphabet="x.", max_size=60))
def test_flapping_tells_no_more_than_twice_in_four_rounds(said: str) -> None:
    words = told(said)

    assert all(len(part) - part.count("-") <= 2 for part in _windows(words, 4))
    spoken = [word for word in words if word != "-"]
    assert all(first != second for first, second in pairwise(spoken))


@pytest.mark.parametrize(
    ("said", "steps"),
    [("xxx", 0), ("xxxx", 1), ("xxxxx.", 2), ("xxxxx...", 0), ("xx.xx.xx.", 0), ("xxxxx.x", 2)],
)
def test_only_refusals_beyond_three_in_a_row_count_and_three_quiet_rounds_end_them(
    said: str, steps: int
) -> None:
    table, _ = rounds_of(said)

    growth = find_growth(table, np.zeros(1, np.int64), np.array([400]), step=0.25)

    assert growth.tolist() == [steps * 100]


def test_a_floor_has_grown_by_no_more_than_what_was_declared() -> None:
    table, _ = rounds_of("x" * 40)

    assert find_growth(table, np.zeros(1, np.int64), np.array([400]), step=0.25).tolist() == [400]
    assert find_growth(table, np.zeros(1, np.int64), np.array([400]), step=0.0).tolist() == [0]


@settings(max_examples=40)
@given(nodes_of_pods(), st.data())
def test_floors_grow_out_of_the_surplus_up_to_need_and_what_is_acceptable(
    nodes: Nodes, data: st.DataObject
) -> None:
    bids, count = nodes.bids, nodes.bids.node.size

    def column() -> IntArray:
        values = st.lists(st.integers(0, 5000), min_size=count, max_size=count)
        return np.array(data.draw(values), np.int64)

    acceptable, growth = column(), column()
    declared = sum_counted_floors(bids.as_pods(), nodes.capacity.size)
    surplus = nodes.capacity - declared

    floors = grow_floors(
        bids,
        acceptable_millicores=acceptable,
        growth_millicores=growth,
        surplus_millicores=surplus,
    )

    more = floors - bids.floor_millicores
    assert (more >= 0).all()
    assert (floors[more > 0] <= bids.need_millicores[more > 0]).all()
    grown = sum_by(bids.pod, floors, count)
    raised = sum_by(bids.pod, more, count)
    assert (raised <= growth).all()
    assert (grown[raised > 0] <= acceptable[raised > 0]).all()
    counted = sum_counted_floors(replace(bids, floor_millicores=floors).as_pods(), surplus.size)
    assert (counted <= np.maximum(nodes.capacity, declared)).all()


def test_a_floor_grows_in_full_where_the_surplus_allows_it() -> None:
    bids = PodBids(
        pod=np.array([0, 0, 1]),
        need_millicores=np.array([400, 300, 900]),
        floor_millicores=np.array([100, 100, 200]),
        weight=np.ones(3),
        node=np.zeros(2, np.int64),
        pod_cap_millicores=np.full(2, 10_000),
        pod_weight=np.ones(2),
    )

    floors = grow_floors(
        bids,
        acceptable_millicores=np.array([450, 0]),
        growth_millicores=np.array([1000, 1000]),
        surplus_millicores=np.array([600]),
    )

    assert floors.tolist() == [250, 200, 200]  # 250 more, by room of 300 and 200.


def _windows(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(len(text))]
