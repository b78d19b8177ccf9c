import numpy as np
import pytest

from mbcas_loadtest.rivals.one_shot import CRANE, KRR, crane_millicores, krr_millicores
from mbcas_loadtest.rivals.past import past_minutes_millicores
from mbcas_loadtest.workloads.catalog import draw
from tests.mbcas_loadtest.rivals.little_worlds import little_world, make, see

DAY_SECONDS = 86_400.0


def test_the_past_of_a_scenario_has_its_parameters_and_other_events() -> None:
    world = draw("bursty", [3, 4], seconds=1_800)
    past = past_minutes_millicores(world, seconds=DAY_SECONDS)
    own = world.arrivals_usec.reshape(30, 600, *world.shape).mean(axis=1) / 100.0

    assert past.shape == (1440, *world.shape)
    runs = past.reshape(48, 30, *world.shape)
    assert not any(np.allclose(run, own, rtol=0.05) for run in runs)
    assert not np.array_equal(runs[0], runs[1])
    # Quiet levels and the heights of bursts are drawn once a seed, so they are the same.
    assert past.min(axis=0) == pytest.approx(own.min(axis=0), rel=0.1)
    assert past.mean(axis=0) == pytest.approx(own.mean(axis=0), rel=1.0)


def test_the_past_of_a_seed_does_not_depend_on_the_seeds_beside_it() -> None:
    both = past_minutes_millicores(draw("bursty", [3, 4], seconds=600), seconds=1_200.0)
    alone = past_minutes_millicores(draw("bursty", [4], seconds=600), seconds=1_200.0)

    assert np.array_equal(both[:, 1:], alone)


def test_nothing_used_more_than_its_node_or_its_threads_in_the_past() -> None:
    world = draw("noisy-neighbour", [1], seconds=600)
    past = past_minutes_millicores(world, seconds=3_600.0)

    most = np.minimum(world.threads, world.declared.cpus) * 1000.0
    assert (past <= most).all()
    assert (past == most).any()  # The burner asks for more.


def test_the_past_of_any_other_world_is_the_world_itself_over_and_over() -> None:
    world = little_world(nodes=2, seconds=180)
    past = past_minutes_millicores(world, seconds=600.0)

    means = world.arrivals_usec.astype(np.float64).reshape(3, 600, *world.shape).mean(axis=1)
    own = np.minimum(means / 100.0, world.threads * 1000.0)
    there = world.exists.reshape(3, 60, -1).min(axis=1)
    for minute in range(10):
        number = (minute + 2) % 3  # The last minute of the past is the world's last.
        expected = np.where(there[number], own[number], np.nan)
        assert np.allclose(past[minute], expected, equal_nan=True)


def test_krr_asks_for_a_percentile_of_enough_points() -> None:
    usage = np.stack([np.arange(200.0), np.full(200, np.nan)], axis=-1)[:, np.newaxis]
    usage[:99, 0, 1] = 500.0

    found = krr_millicores(usage, 95.0)

    assert found[0, 0] == 190  # 189.05 between the 190th and the 191st of 200.
    assert np.isnan(found[0, 1])


def test_crane_asks_for_the_end_of_a_bucket_of_100m_and_15_percent() -> None:
    usage = np.full((1440, 1, 2), 250.0)
    usage[::50, 0, 1] = 1_020.0  # 2 % of the minutes: more than p99 leaves out.
    usage[5, 0, 0] = np.nan

    assert crane_millicores(usage, 0.99).tolist() == [[345.0, 1265.0]]


def test_crane_agrees_with_a_loop_over_buckets() -> None:
    generator = np.random.default_rng(2)
    usage = generator.gamma(2.0, 300.0, (500, 2, 3))
    usage[generator.random(usage.shape) < 0.1] = np.nan

    found = crane_millicores(usage, 0.9)

    for place in np.ndindex(2, 3):
        weights = [0.0] * 1_001
        for minute in range(500):
            sample = usage[minute][place]
            if not np.isnan(sample):
                weights[int(sample // 100.0)] += 2.0 ** (minute / 1440)
        bucket, running = 0, weights[0]
        while running < 0.9 * sum(weights):
            bucket += 1
            running += weights[bucket]
        assert found[place] == np.ceil((bucket + 1) * 100.0 * 1.15)


def test_one_shot_recommenders_set_requests_once_and_no_limit_of_their_own() -> None:
    world = little_world(nodes=1, seconds=120)
    usage = np.full((600, *world.shape), 5_000.0)
    seen = see(600, usage, np.ones(usage.shape, np.bool_), np.ones(world.shape))
    krr, crane = make(KRR, world, 95.0), make(CRANE, world, 0.99)

    first, later = krr.step(seen), krr.step(seen)
    with_limits = crane.step(seen)

    assert first is not None
    assert first is later
    assert np.isinf(first.limit_millicores).all()
    assert with_limits is not None
    declared = world.declared.limit_millicores
    assert np.isinf(with_limits.limit_millicores[declared == 0]).all()
    kept = with_limits.limit_millicores[declared > 0]
    assert (kept >= declared[declared > 0]).all()
