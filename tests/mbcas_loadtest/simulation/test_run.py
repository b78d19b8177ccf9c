"""Living through a world: the plant under a system, and what is added up of it."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from mbcas_core.units import CPU_PERIOD_USEC, FloatArray
from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.plant.batch import Plant, Quota
from mbcas_loadtest.simulation.outcome import Outcome, Phase, Series, load
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.system import Actuation, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World
from tests.mbcas_loadtest.simulation.worlds import (
    USEC_PER_MILLICORE,
    Scripted,
    declare,
    one_number,
    world,
)

ALONE = RunSettings(cluster_nodes=1)
LIMITS = (300.0, 500.0, 250.0, 700.0)


def nothing(seen: Seen) -> None:
    del seen


def moving(seen: Seen) -> Settings:
    """Another limit every second, the same on every node."""
    second = seen.period // PERIODS_PER_SECOND
    nodes, containers = seen.exists.shape
    values = [LIMITS[(second + i) % len(LIMITS)] for i in range(containers)]
    return one_number(*values, nodes=nodes)


def by_hand(given: World) -> tuple[FloatArray, FloatArray]:
    """Usage and throttled periods of `moving` written directly, one period after the other."""
    plant = Plant(
        given.shape,
        cpus=given.declared.cpus,
        threads=given.threads,
        request_usec=given.request_usec,
    )
    usage, throttled = np.zeros(given.shape), np.zeros(given.shape)
    limit = np.full(given.shape, 500.0)
    for period, arrivals in enumerate(given.arrivals_usec.astype(np.float64)):
        before = limit.copy()
        if period and period % PERIODS_PER_SECOND == 0:
            second = period // PERIODS_PER_SECOND
            for i in range(given.shape[1]):
                limit[:, i] = LIMITS[(second + i) % len(LIMITS)]
        plant.weight[...] = limit
        quota = Quota(
            quota_usec=limit * USEC_PER_MILLICORE,
            burst_usec=np.zeros(given.shape),
            written=limit != before,
        )
        ran = plant.run(arrivals[np.newaxis], quota)
        usage += ran.usage_usec[0] / 1e6
        throttled += ran.throttled[0]
    return usage, throttled


def test_a_run_is_the_plant_period_by_period_with_limits_that_move() -> None:
    given = world((450.0, 300.0, 400.0), nodes=2, seconds=12, variation=0.5)
    system = Scripted(moving, actuation=Actuation.DIRECT)

    outcome = simulate(given, system.rival(), 0.0)

    usage, throttled = by_hand(given)
    np.testing.assert_allclose(outcome.measured.usage_core_seconds, usage)
    np.testing.assert_array_equal(outcome.measured.throttled_periods, throttled)
    assert throttled.sum() > 10
    changes = outcome.measured.changes
    np.testing.assert_array_equal(changes, np.full(given.shape, 11) - (changes < 11))


@pytest.mark.parametrize("interval", [1, 7, 10, 50, 999])
def test_how_often_a_system_is_asked_changes_nothing_where_it_wants_nothing(interval: int) -> None:
    given = world((450.0, 300.0), nodes=2, seconds=20, variation=0.5)
    system = Scripted(nothing, interval_periods=interval)

    outcome = simulate(given, system.rival(), 0.0)

    twin = simulate(given, Scripted(nothing).rival(), 0.0)
    np.testing.assert_allclose(
        outcome.measured.usage_core_seconds, twin.measured.usage_core_seconds
    )
    assert [seen.period for seen in system.seen] == list(range(interval, 201, interval))
    assert all(len(seen.usage_usec) == interval for seen in system.seen)


def test_a_system_sees_every_period_once_in_order() -> None:
    given = world((450.0,), seconds=15, variation=0.5)
    system = Scripted(nothing, interval_periods=5)

    outcome = simulate(given, system.rival(), 0.0)

    used = np.concatenate([seen.usage_usec for seen in system.seen])
    np.testing.assert_allclose(used.sum(axis=0) / 1e6, outcome.measured.usage_core_seconds)
    limits = np.array([seen.applied.limit_millicores for seen in system.seen])
    assert (limits == 500).all()


@pytest.mark.parametrize("warmup", [0, 7, 20])
def test_warm_up_and_what_follows_add_up_to_the_whole(warmup: int) -> None:
    given = world((450.0, 300.0), seconds=20, variation=0.5)

    apart = simulate(replace(given, warmup_seconds=warmup), Scripted(moving).rival(), 0.0)

    whole = simulate(given, Scripted(moving).rival(), 0.0).measured
    assert np.all(apart.warmup.seconds == warmup)
    for key in fields(Phase):
        if key.name.startswith("delay"):
            continue
        parts = getattr(apart.warmup, key.name) + getattr(apart.measured, key.name)
        np.testing.assert_allclose(parts, getattr(whole, key.name), err_msg=key.name)


def test_what_the_warm_up_changes_is_counted_in_it_wherever_it_ends() -> None:
    """A limit that changes each second, and a warm-up that ends within what is added up at once."""
    given = world((450.0,), seconds=20, variation=0.5, warmup=7)
    system = Scripted(moving)
    system.actuation = Actuation.DIRECT

    outcome = simulate(given, system.rival(), 0.0)

    assert (
        outcome.warmup.changes[0, 0] == 5
    )  # After seconds 2 to 6: the first asks for what there is.
    assert outcome.measured.changes[0, 0] == 13


def test_requests_that_wait_in_a_pod_that_goes_are_not_answered_by_the_next_one() -> None:
    """Five seconds of overload, five of absence, then little load: nobody waits for seconds."""
    given = world((100.0,), declared=declare((500,), (500,)), seconds=20, warmup=10)
    given.arrivals_usec[:50] *= 20
    given.exists[5:10] = False

    outcome = simulate(given, Scripted(nothing).rival(), 0.0)

    assert outcome.warmup.delay_p99_seconds[0, 0] > 1
    assert outcome.measured.delay_p99_seconds[0, 0] < 0.2


def test_sums_are_those_of_the_definition() -> None:
    """400m of one CPU, declared 500m, cut to 300m: 100m are denied and wait, nothing starves."""
    given = world((400.0,), declared=declare((500,), (300,), cpus=1), seconds=10)

    liquid = replace(given, request_usec=np.zeros(given.shape))
    sums = simulate(liquid, Scripted(nothing).rival(), 0.0).measured

    assert sums.usage_core_seconds[0, 0] == pytest.approx(3.0)
    assert sums.limit_core_seconds[0, 0] == pytest.approx(3.0)
    assert sums.request_core_seconds[0, 0] == pytest.approx(5.0)
    assert sums.idle_core_seconds[0, 0] == pytest.approx(2.0)
    assert sums.demand_core_seconds[0, 0] == pytest.approx(4.0)
    assert sums.useful_core_seconds[0, 0] == pytest.approx(3.0)
    assert sums.possible_core_seconds[0, 0] == pytest.approx(4.0)
    assert sums.denied_core_seconds[0, 0] == pytest.approx(1.0)
    assert sums.starved_core_seconds[0, 0] == 0.0
    assert sums.throttled_periods[0, 0] == sums.wall_periods[0, 0] == 100


def test_a_full_node_starves_whoever_could_still_run() -> None:
    given = world((900.0, 900.0), declared=declare((500, 500), (2000, 2000), cpus=1), seconds=10)

    sums = simulate(given, Scripted(nothing).rival(), 0.0).measured

    assert sums.starved_core_seconds.min() > 1.0
    assert sums.throttled_periods.sum() == 0
    assert sums.possible_core_seconds.sum() == pytest.approx(10.0)


def test_a_container_that_comes_back_has_what_it_declares_and_no_backlog() -> None:
    given = world((900.0, 100.0), seconds=30)
    there = given.exists.copy()
    there[10:20, 0] = False
    system = Scripted(lambda seen: one_number(200.0, 200.0) if seen.period == 50 else None)

    sums = simulate(replace(given, exists=there), system.rival(), 0.0, settings=ALONE).measured

    limits = np.array([seen.applied.limit_millicores[0, 0] for seen in system.seen])
    assert sums.seconds.tolist() == [[20.0, 30.0]]
    assert limits[5:19].tolist() == [200.0] * 14
    assert limits[20:].tolist() == [500.0] * 10
    # 5 s at 500m, 5 s at 200m (and a refill), 10 s at 500m: nothing is left of the first backlog.
    assert sums.usage_core_seconds[0, 0] == pytest.approx(8.5, abs=0.1)


def test_a_node_fares_the_same_alone_as_beside_others() -> None:
    given = world((450.0, 300.0), nodes=3, seconds=20, variation=0.5)
    alone = replace(
        given,
        seeds=given.seeds[1:2],
        arrivals_usec=given.arrivals_usec[:, 1:2],
        threads=given.threads[1:2],
        max_backlog_usec=given.max_backlog_usec[1:2],
        request_usec=given.request_usec[1:2],
    )

    # Each with a whole budget: that is all that nodes share.
    together = simulate(given, Scripted(moving).rival(), 0.0, settings=ALONE).measured
    apart = simulate(alone, Scripted(moving).rival(), 0.0, settings=ALONE).measured

    for key in fields(Phase):
        # Of the requests of a period the meter of delays follows a few, others in other batches.
        tolerance = 0.1 if key.name.startswith("delay") else 0.0
        own = getattr(together, key.name)[1:2]
        np.testing.assert_allclose(own, getattr(apart, key.name), tolerance, err_msg=key.name)


def test_a_series_adds_up_to_the_outcome() -> None:
    given = world((450.0, 300.0), nodes=2, seconds=20, variation=0.5)

    outcome = simulate(given, Scripted(moving).rival(), 0.0, settings=RunSettings(series_node=1))

    series = outcome.series
    assert series is not None
    used = series.usage_millicores.sum(axis=0) / 1000
    np.testing.assert_allclose(used, outcome.measured.usage_core_seconds[1], rtol=1e-5)
    throttled = series.throttled_ratio.sum(axis=0) * PERIODS_PER_SECOND
    np.testing.assert_allclose(throttled, outcome.measured.throttled_periods[1], rtol=1e-5)


def test_the_peak_is_looked_for_after_the_warm_up_and_where_a_container_is() -> None:
    given = world((450.0, 380.0), seconds=60, warmup=20, variation=0.5)
    given.exists[50:, 1] = False

    outcome = simulate(given, Scripted(moving).rival(), 0.5, settings=RunSettings(series_node=0))

    assert outcome.series is not None
    by_second = given.arrivals_usec[:, 0].reshape(60, PERIODS_PER_SECOND, 2).sum(axis=1)
    for c, seconds in enumerate((range(20, 60), range(20, 50))):
        wanted = sorted(seconds, key=lambda second: -by_second[second, c])
        peak = [float(outcome.series.throttled_ratio[second, c]) for second in wanted]
        count = len(wanted) // 10
        assert outcome.peak_throttled_ratio[0, c] == pytest.approx(sum(peak[:count]) / count)
    assert outcome.peak_throttled_ratio.max() > 0


def stored(path: Path) -> Outcome:
    given = world((450.0,), seconds=10, warmup=5)
    outcome = simulate(given, Scripted(moving).rival(), 0.5, settings=RunSettings(series_node=0))
    outcome.save(path)
    return outcome


def test_an_outcome_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    outcome = stored(tmp_path / "run.npz")

    read = load(tmp_path / "run.npz")

    for part in ("warmup", "measured"):
        for key in fields(Phase):
            before, after = (getattr(getattr(each, part), key.name) for each in (outcome, read))
            np.testing.assert_array_equal(before, after)
    for name in ("settling_seconds", "peak_throttled_ratio"):
        np.testing.assert_array_equal(getattr(outcome, name), getattr(read, name))
    assert outcome.series is not None
    assert read.series is not None
    for key in fields(Series):
        np.testing.assert_array_equal(
            getattr(outcome.series, key.name), getattr(read.series, key.name)
        )
    assert (read.system, read.knob, read.seeds, read.cpus) == ("scripted", 0.5, (0,), 4)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"no file of numpy"])
def test_a_file_that_is_no_outcome_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)

    with pytest.raises(SimulationError, match=r"other\.npz"):
        load(path)


def test_an_outcome_with_a_part_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    stored(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["measured.changes"] = np.zeros((3, 3))
    np.savez(path, **arrays)

    with pytest.raises(SimulationError, match="measured"):
        load(path)


def test_a_period_of_the_simulation_is_one_of_the_kernel() -> None:
    assert CPU_PERIOD_USEC / 1000 == USEC_PER_MILLICORE
