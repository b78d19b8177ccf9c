from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.rivals import vpa
from mbcas_loadtest.rivals.vpa import UpdaterFlags, Vpa
from mbcas_loadtest.rivals.vpa_histogram import RecommenderFlags
from mbcas_loadtest.simulation.system import Settings
from mbcas_loadtest.simulation.world import Declared
from tests.mbcas_loadtest.rivals.little_worlds import declare, little_world, see

MINUTE_PERIODS = 600
DAY_MINUTES = 1440
SURE = replace(RecommenderFlags(), confidence_interval_cpu_seconds=60.0)
"""Bounds are narrow at once."""


def take(
    system: Vpa, minute: int, usage: list[float], *, exists: BoolArray | None = None
) -> FloatArray:
    """Lets it see a minute of this usage and returns what it sets, of its only node."""
    shape = (MINUTE_PERIODS, 1, len(usage))
    seen = see(
        (minute + 1) * MINUTE_PERIODS,
        np.broadcast_to(np.array(usage), shape),
        np.zeros(shape, np.bool_),
        np.ones(shape[1:]),
        exists=exists,
    )
    wanted = system.step(seen)
    assert isinstance(wanted, Settings)
    assert np.array_equal(wanted.request_millicores, wanted.limit_millicores)
    limits: FloatArray = wanted.limit_millicores[0]
    return limits


def past(declared: Declared, usage: list[float], *, minutes: int = DAY_MINUTES) -> FloatArray:
    return np.broadcast_to(np.array(usage), (minutes, *declared.request_millicores.shape)).astype(
        np.float64
    )


def test_a_request_within_its_bounds_stays_until_the_pod_is_12_hours_old() -> None:
    declared = declare([500])
    updater = UpdaterFlags(in_recommendation_bounds_eviction_lifetime_threshold_seconds=240.0)
    system = Vpa(declared, RecommenderFlags(), updater)

    limits = [take(system, minute, [250.0])[0] for minute in range(5)]

    assert limits == [500, 500, 500, 296, 296]  # 258 + 15 %, from the fourth minute on.


def test_a_target_less_than_10_percent_away_is_never_set_within_the_bounds() -> None:
    declared = declare([310])
    system = Vpa(declared, RecommenderFlags(), past_millicores=past(declared, [250.0]))

    assert [take(system, minute, [250.0])[0] for minute in range(3)] == [310, 310, 310]


@pytest.mark.parametrize("declared_millicores", [100, 5_000], ids=["below", "above"])
def test_a_request_outside_its_bounds_is_set_to_the_target_whatever_the_age(
    declared_millicores: int,
) -> None:
    system = Vpa(declare([declared_millicores], cpus=8), SURE)

    limits = [take(system, minute, [250.0])[0] for minute in range(4)]

    assert limits[0] == declared_millicores  # One sample is no history.
    assert limits[-1] == 296


def test_all_containers_of_a_pod_are_updated_when_one_is_outside() -> None:
    declared = declare([100, 300, 300], pod=(0, 0, 1))
    system = Vpa(declared, SURE)

    take(system, 0, [250.0, 250.0, 250.0])
    limits = take(system, 1, [250.0, 250.0, 250.0])

    assert limits.tolist() == [296, 296, 300]


def test_a_pod_that_comes_back_gets_the_target_when_it_is_created() -> None:
    declared = declare([500])
    system = Vpa(declared, RecommenderFlags())
    there, gone = np.ones((1, 1), np.bool_), np.zeros((1, 1), np.bool_)

    before = take(system, 0, [250.0], exists=there)[0]
    away = take(system, 1, [0.0], exists=gone)[0]
    back = take(system, 2, [250.0], exists=there)[0]

    assert (before, away, back) == (500, 500, 296)


def test_no_target_exceeds_the_node() -> None:
    system = Vpa(declare([1_000], cpus=2), SURE)

    limits = [take(system, minute, [1_990.0])[0] for minute in range(3)]

    assert limits[-1] == 2_000


def test_a_pretrained_one_sets_what_it_knows_after_its_first_minute() -> None:
    world = little_world(nodes=2, seconds=70)
    assert vpa.VPA_PRETRAINED.make_with_truth is not None
    system = vpa.VPA_PRETRAINED.make_with_truth(world, 0.9)
    shape = (MINUTE_PERIODS, *world.shape)
    demand = world.arrivals_usec[:MINUTE_PERIODS].astype(np.float64) / 100.0
    bounded = np.minimum(demand.mean(axis=0), world.threads * 1000.0)

    seen = see(MINUTE_PERIODS, demand, np.zeros(shape, np.bool_), np.ones(world.shape))
    wanted = system.step(seen)

    assert wanted is not None
    known = world.exists[:60].all(axis=0)
    set_to = wanted.limit_millicores[:, known] / bounded[:, known]
    assert (set_to > 1.05).all()  # A margin of 15 % and the rest of a bucket; or within 10 %.
    assert (set_to < 1.35).all()


def test_a_target_that_is_swept_stays_within_its_own_bounds() -> None:
    generator = np.random.default_rng(1)
    declared = declare([400])
    usage = generator.gamma(2.0, 100.0, (100, 1, 1))
    for percentile in vpa.VPA.sweep:
        system = Vpa(declared, vpa._flags(percentile), past_millicores=usage)
        found = system.recommendation
        assert found.lower[0, 0] <= found.target[0, 0] <= found.upper[0, 0]


def test_a_higher_percentile_and_a_higher_margin_ask_for_more() -> None:
    world = little_world(nodes=1, seconds=600)
    for rival in (vpa.VPA_PRETRAINED, vpa.VPA_PRETRAINED_MARGIN):
        assert rival.make_with_truth is not None
        targets = []
        for knob in (min(rival.sweep), rival.default, max(rival.sweep)):
            system = rival.make_with_truth(world, knob)
            assert isinstance(system, Vpa)
            targets.append(system.recommendation.target)
        steps = np.diff(np.array(targets), axis=0)
        assert (steps >= 0).all()
        assert (steps.sum(axis=0) > 0).any()


def test_a_fast_one_forgets_a_peak_within_the_hour() -> None:
    declared = declare([2_000])
    assert vpa.VPA_FAST.make is not None
    fast, slow = vpa.VPA_FAST.make(declared, 0.9), Vpa(declared, RecommenderFlags())
    assert isinstance(fast, Vpa)
    usage = [[1_500.0]] * 20 + [[100.0]] * 40

    fast_limits = [take(fast, minute, one)[0] for minute, one in enumerate(usage)]
    slow_limits = [take(slow, minute, one)[0] for minute, one in enumerate(usage)]

    assert fast_limits[-1] < 200
    assert slow_limits[-1] == 2_000
