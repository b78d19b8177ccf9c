"""Scenarios are drawn from their seeds alone, and are what the evaluation says they are."""

import numpy as np
import pytest

from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND
from mbcas_loadtest.workloads.catalog import SCENARIOS, draw
from mbcas_loadtest.workloads.rates import AUTOTHROTTLE, draw_rate, find_traces
from mbcas_loadtest.workloads.scenario import Tier

NEEDS_TRACES = {"autothrottle-bursty", "autothrottle-diurnal", "table-2-diurnal"} | {
    name for name, scenario in SCENARIOS.items() if scenario.tier is Tier.RECORDED
}
SHORT_SECONDS = 20


def _skip_without_traces(name: str) -> None:
    if name in NEEDS_TRACES and not (find_traces() / AUTOTHROTTLE).exists():
        pytest.skip("the traces are not beside the repository, and MBCAS_TRACES names no folder")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_draws_the_same_node_beside_others_and_for_longer(name: str) -> None:
    _skip_without_traces(name)
    alone = draw(name, [7], seconds=SHORT_SECONDS)
    beside = draw(name, [3, 7], seconds=2 * SHORT_SECONDS)

    periods = SHORT_SECONDS * PERIODS_PER_SECOND
    np.testing.assert_array_equal(alone.arrivals_usec[:, 0], beside.arrivals_usec[:periods, 1])
    for of_alone, of_beside in (
        (alone.declared.request_millicores, beside.declared.request_millicores),
        (alone.threads, beside.threads),
        (alone.request_usec, beside.request_usec),
        (alone.max_backlog_usec, beside.max_backlog_usec),
    ):
        np.testing.assert_array_equal(of_alone[0], of_beside[1])
    assert (beside.arrivals_usec[:, 0] != beside.arrivals_usec[:, 1]).any()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_world_is_complete_and_its_shapes_agree(name: str) -> None:
    _skip_without_traces(name)
    world = draw(name, [0, 1], seconds=SHORT_SECONDS)

    m, n = world.shape
    assert m == 2
    assert world.arrivals_usec.dtype == np.float32
    assert world.arrivals_usec.shape == (SHORT_SECONDS * PERIODS_PER_SECOND, m, n)
    assert np.isfinite(world.arrivals_usec).all()
    assert (world.arrivals_usec >= 0).all()
    assert world.exists.shape == (SHORT_SECONDS, n)
    assert (world.declared.request_millicores > 0).all()
    assert (world.declared.limit_millicores >= world.declared.request_millicores).all()
    assert (world.threads >= 1).all()
    assert (world.request_usec > 0).all()
    assert (world.max_backlog_usec >= world.request_usec).all()
    assert len(world.declared.names) == len(world.declared.priority) == n
    assert "measured" in world.modelled


def test_competition_wants_as_many_cpus_as_its_name_says() -> None:
    for overload in (0.8, 2.0):
        world = draw(f"competition-{overload}", range(20), seconds=600)
        wanted_cpus = world.arrivals_usec.sum(axis=2).mean() / 100_000
        assert wanted_cpus == pytest.approx(overload * 4, rel=0.08)


def test_noise_varies_as_it_says() -> None:
    world = draw("table-2-service", range(4), seconds=600)

    work = world.arrivals_usec[:, :, 0].astype(np.float64)
    assert work.mean() == pytest.approx(100_000, rel=0.01)
    assert work.std() / work.mean() == pytest.approx(0.3, rel=0.03)


def test_requests_vary_as_drawn_at_their_mean() -> None:
    world = draw("slo-queue", range(6), seconds=60)

    work = world.arrivals_usec.astype(np.float64)
    cvs = work.std(axis=0) / work.mean(axis=0)
    # The level moves by a third, so the drawn 0.1, 0.3 or 0.5 are met roughly.
    nearest = np.abs(cvs[..., None] / np.array([0.1, 0.3, 0.5]) - 1.0).min(axis=-1)
    assert (nearest < 0.4).all()


def test_bursts_are_as_high_and_as_long_as_declared() -> None:
    world = draw("table-2-bursty", [5])

    per_second = world.arrivals_usec[:, 0, 0].reshape(-1, PERIODS_PER_SECOND).mean(axis=1) / 100
    high = np.concatenate([[False], per_second > 1_500, [False]])
    edges = np.flatnonzero(np.diff(high.astype(np.int64)))
    lengths = edges[1::2] - edges[::2]
    assert per_second[high[1:-1]].mean() == pytest.approx(3_000, rel=0.05)
    # Two bursts may follow each other closely; cut ones are at the end.
    assert np.median(lengths) == pytest.approx(30, abs=8)


def test_a_container_that_is_away_gets_no_work() -> None:
    world = draw("cascading-failure", [0], seconds=1_800)

    away = np.repeat(~world.exists[:, 0], PERIODS_PER_SECOND)
    assert away.sum() == 120 * PERIODS_PER_SECOND
    assert world.arrivals_usec[away, 0, 0].sum() == 0
    survivor = world.arrivals_usec[:, 0, 2]
    before, during = survivor[14_000:15_000].mean(), survivor[15_400:16_100].mean()
    assert during / before == pytest.approx(1.25 * 4 / 2, rel=0.1)


def test_a_jvm_starts_hot_and_cools_down() -> None:
    world = draw("cold-start", range(3), seconds=600)

    jvm = world.arrivals_usec[:, :, 1]
    assert (jvm[:20].mean(axis=0) > 2.0 * jvm[-1_000:].mean(axis=0)).all()


def test_the_noisy_rate_has_the_statistics_of_the_trace() -> None:
    generator = np.random.default_rng(0)
    load = draw_rate(generator, "noisy", mean_millicores=158.0, seconds=36_000)
    rate = load.draw(generator, 360_000)[::10].astype(np.float64)

    assert rate.mean() == pytest.approx(158, rel=0.05)
    assert rate.std() / rate.mean() == pytest.approx(0.19, rel=0.1)
    assert np.diff(rate).std() / rate.mean() == pytest.approx(0.058, rel=0.1)
    assert np.corrcoef(rate[:-60], rate[60:])[0, 1] == pytest.approx(0.48, abs=0.1)
