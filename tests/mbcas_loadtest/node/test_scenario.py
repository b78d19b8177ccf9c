import numpy as np
import pytest

from mbcas_loadtest.node.container import Container, draw_containers
from mbcas_loadtest.node.scenario import (
    WORKLOADS,
    Bursts,
    Load,
    Periodic,
    Ramp,
    Shape,
    Steady,
    draw_arrivals,
    draw_demand,
)
from mbcas_loadtest.node.statics import declare

SHAPES: tuple[Shape, ...] = (
    Steady(millicores=100),
    Bursts(
        base_millicores=100,
        ratio_range=(2.5, 4),
        length_range_seconds=(5, 15),
        gap_range_seconds=(10, 40),
    ),
    Periodic(
        base_millicores=100,
        peak_millicores=300,
        period_seconds=30,
        peak_seconds=8,
        offset_seconds=10,
    ),
    Ramp(low_millicores=100, high_millicores=300, cycle_seconds=120),
)


def containers(seed: int = 7) -> list[Container]:
    return draw_containers(seed=seed, duration_seconds=60, node_millicores=1600)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_that_arrives_is_the_demand_on_average(shape: Shape) -> None:
    load = Load(shape=shape, request_seconds=0.002)
    demand = draw_demand(shape, 600, np.random.default_rng(3))

    arrivals = draw_arrivals(
        load, duration_seconds=600, scale=1, generator=np.random.default_rng(3)
    )

    mean_millicores = 1000 * arrivals.work_seconds.sum() / 600
    assert mean_millicores == pytest.approx(demand.mean(), rel=0.05)


def test_requests_come_in_the_order_of_their_arrival_and_all_cost_something() -> None:
    for container in containers():
        if container.arrivals is not None:
            assert np.all(np.diff(container.arrivals.arrival_seconds) >= 0)
            assert container.arrivals.work_seconds.min() > 0


def test_the_same_seed_draws_the_same_arrivals_and_another_seed_others() -> None:
    first, again, other = (containers(seed)[0] for seed in (7, 7, 8))

    assert first.arrivals is not None
    assert again.arrivals is not None
    assert other.arrivals is not None
    assert np.array_equal(first.arrivals.arrival_seconds, again.arrivals.arrival_seconds)
    assert not np.array_equal(first.arrivals.arrival_seconds, other.arrivals.arrival_seconds)


def test_a_burst_is_as_high_and_as_long_as_its_ranges_say() -> None:
    demand = draw_demand(SHAPES[1], 3600, np.random.default_rng(5))

    starts = np.flatnonzero((demand[1:] > 100) & (demand[:-1] <= 100))
    in_burst = demand[demand > 100]
    assert len(starts) > 60
    assert in_burst.min() >= 250
    assert in_burst.max() <= 400
    assert 5 <= len(in_burst) / 10 / len(starts) <= 15


@pytest.mark.parametrize("node_millicores", [400, 800, 1234, 1600])
def test_declared_values_fill_the_node_whatever_its_size(node_millicores: int) -> None:
    declared = declare(WORKLOADS, node_millicores=node_millicores)

    assert sum(one.millicores for one in declared) == node_millicores
    assert all(one.millicores >= 10 for one in declared)


def test_declared_values_do_not_depend_on_the_seed_of_the_run() -> None:
    first, other = ([c.declared.millicores for c in containers(seed)] for seed in (7, 1000))

    assert first == other


def test_every_service_is_declared_above_its_mean_use() -> None:
    for container in containers():
        if container.arrivals is not None:
            mean_millicores = 1000 * container.arrivals.work_seconds.sum() / 60
            assert container.declared.millicores > mean_millicores
