"""What the oracle of slots wants, and how the contention oracle shares a node."""

import itertools

import numpy as np
import pytest

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray
from mbcas_loadtest.oracles.per_slot import PerSlot, share_node
from mbcas_loadtest.oracles.search import Stretch, find_known_work, find_least_limit
from tests.mbcas_loadtest.oracles.little import draw_stretch, make_world, see, settings


def _limit(oracle: PerSlot, period: int, backlog: FloatArray) -> FloatArray:
    world = oracle._world
    wanted = oracle.step(see(world, period, backlog, settings(np.full(world.shape, 777.0))))
    assert wanted is not None
    np.testing.assert_array_equal(wanted.request_millicores, wanted.limit_millicores)
    return wanted.limit_millicores


def test_it_looks_at_the_next_slot_and_at_what_waits() -> None:
    work = draw_stretch(1, 60, (2, 1))
    world = make_world(work)
    oracle = PerSlot(world, 0.05, slot_seconds=2)
    waits = np.array([[0.0], [80_000.0]])

    limit = _limit(oracle, 20, waits)

    known = Stretch(
        arrivals_usec=find_known_work(world)[20:40],
        backlog_usec=waits,
        threads=world.threads,
        max_backlog_usec=world.max_backlog_usec,
        request_usec=world.request_usec,
        applied_millicores=np.full((2, 1), 777.0),
        applied_burst_millicores=np.zeros((2, 1)),
    )
    np.testing.assert_array_equal(limit, find_least_limit(known, 1))
    assert oracle.step(see(world, 60, waits, settings(limit))) is None


def test_with_carried_quota_less_is_enough() -> None:
    world = make_world(draw_stretch(2, 300, (4, 2)))
    nothing = np.zeros((4, 2))

    plain = _limit(PerSlot(world, 0.05, slot_seconds=15), 150, nothing)
    carried = _limit(PerSlot(world, 0.05, slot_seconds=15, has_burst=True), 150, nothing)

    assert (carried <= plain).all()
    assert carried.sum() < 0.9 * plain.sum()


def test_batch_gets_what_services_leave() -> None:
    work = np.full((40, 1, 3), 50_000.0)
    world = make_world(work, cpus=2, batch=(False, True, True))

    limit = _limit(PerSlot(world, 0.0, slot_seconds=2), 20, np.zeros((1, 3)))

    assert limit[0, 0] == pytest.approx(500, abs=11)
    assert limit[0, 1:].tolist() == pytest.approx([(2_000 - limit[0, 0]) / 2] * 2)


def _welfare(extra: FloatArray, weight: FloatArray) -> float:
    with np.errstate(divide="ignore"):
        return float((weight * np.log(extra)).sum())


def test_shares_maximise_the_welfare_of_the_market() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        need = (generator.integers(1, 9, 3) * 10).astype(np.float64)
        floor = (generator.integers(0, 5, 3) * 10).astype(np.float64)
        weight = generator.integers(1, 4, 3).astype(np.float64)
        base = np.minimum(floor, need)
        capacity = float(base.sum() + generator.integers(1, 12) * 10)

        shares = share_node(
            need[None],
            floor_millicores=floor[None],
            weight=weight[None],
            capacity_millicores=capacity,
        )[0]

        assert shares.sum() == pytest.approx(min(capacity, need.sum()))
        grid = [np.arange(0.0, top + 1, 2.5) for top in need - base]
        fits = (np.array(x) for x in itertools.product(*grid) if sum(x) <= capacity - base.sum())
        grown = need > base
        best = max(_welfare(extra[grown], weight[grown]) for extra in fits)
        assert _welfare((shares - base)[grown], weight[grown]) >= best - 1e-9
        assert (shares <= need + 1e-9).all()
        assert (shares >= base - 1e-9).all()


def test_floors_that_exceed_the_node_are_cut_in_proportion_at_most() -> None:
    shares = share_node(
        np.array([[100.0, 900.0, 900.0]]),
        floor_millicores=np.array([[500.0, 600.0, 300.0]]),
        weight=np.ones((1, 3)),
        capacity_millicores=800.0,
    )

    assert shares.tolist() == [[100.0, pytest.approx(700 * 2 / 3), pytest.approx(700 / 3)]]


def test_priority_weighs_in_what_floors_leave() -> None:
    work = np.full((40, 1, 2), 150_000.0)
    world = make_world(
        work,
        cpus=2,
        requests=np.array([[500, 500]]),
        priority=(PriorityClass.CRITICAL, PriorityClass.NORMAL),
    )

    limit = _limit(PerSlot(world, 0.0, slot_seconds=2, is_shared=True), 20, np.zeros((1, 2)))

    assert limit[0].tolist() == pytest.approx([500 + 1_000 * 0.6, 500 + 1_000 * 0.4])
