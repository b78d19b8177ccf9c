from dataclasses import replace

import numpy as np
import pytest

from mbcas_loadtest.rivals.max_min import MaxMin
from mbcas_loadtest.simulation.world import World
from tests.mbcas_loadtest.rivals.little_worlds import declare, little_world, see


def world_of(millicores: list[float], *, cpus: int, exists: list[bool] | None = None) -> World:
    """Returns four seconds in which each container always wants so much."""
    n = len(millicores)
    arrivals = np.zeros((40, 1, n), np.float32)
    arrivals[...] = np.array(millicores) * 100.0
    return replace(
        little_world(seconds=24),
        seeds=(0,),
        declared=declare([1000] * n, cpus=cpus),
        arrivals_usec=arrivals,
        threads=np.full((1, n), 8.0),
        max_backlog_usec=np.full((1, n), np.inf),
        request_usec=np.full((1, n), 1000.0),
        exists=np.ones((4, n), np.bool_) if exists is None else np.array([exists] * 4),
    )


def ask(system: MaxMin, backlog_millicores: list[float]) -> list[float]:
    """Returns the limits for the third and fourth second, with so much waiting by then."""
    limit = np.full((1, len(backlog_millicores)), 1000.0)
    shape = (20, *limit.shape)
    backlog = np.zeros(shape)
    backlog[-1] = np.array(backlog_millicores) * 100.0
    seen = see(20, np.zeros(shape), np.zeros(shape, np.bool_), limit, backlog_usec=backlog)
    wanted = system.step(seen)
    assert wanted is not None
    limits: list[float] = wanted.limit_millicores[0].tolist()
    return limits


def test_where_there_is_enough_everybody_gets_what_is_wanted_and_no_more() -> None:
    system = MaxMin(world_of([400.0, 900.0], cpus=2), 1.0)

    assert ask(system, [0.0, 0.0]) == pytest.approx([400.0, 900.0])


def test_where_there_is_not_the_small_needs_are_met_and_the_others_share_the_rest() -> None:
    system = MaxMin(world_of([400.0, 900.0, 1500.0], cpus=2), 1.0)

    assert ask(system, [0.0, 0.0, 0.0]) == pytest.approx([400.0, 800.0, 800.0])


def test_what_waits_is_worked_off_within_the_slot() -> None:
    system = MaxMin(world_of([400.0], cpus=2), 1.0)

    assert ask(system, [6000.0]) == pytest.approx([700.0])


def test_who_is_not_there_takes_nothing_from_the_others() -> None:
    system = MaxMin(world_of([900.0, 1500.0], cpus=1, exists=[True, False]), 1.0)

    assert ask(system, [0.0, 0.0]) == pytest.approx([900.0, 1000.0])


def test_the_knob_is_the_share_of_periods_whose_arrivals_are_covered() -> None:
    world = world_of([100.0], cpus=2)
    # Of twenty periods one wants 900m, four 300m, the others 100m: the mean is 180m.
    world.arrivals_usec[20] = 900.0 * 100
    world.arrivals_usec[21:25] = 300.0 * 100

    found = {knob: ask(MaxMin(world, knob), [0.0])[0] for knob in (1.0, 0.95, 0.75, 0.0)}

    assert found == pytest.approx({1.0: 900.0, 0.95: 300.0, 0.75: 180.0, 0.0: 180.0})
