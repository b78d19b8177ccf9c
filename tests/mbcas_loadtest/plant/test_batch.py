from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbcas_core.units import FloatArray
from mbcas_loadtest.plant.batch import Plant, Quota
from mbcas_loadtest.plant.recursion import PlantInput, idle_state, mean_kept_usec, step

FIELDS = (
    "admitted_usec",
    "usage_usec",
    "throttled",
    "throttled_usec",
    "timer_ran",
    "bursts",
    "backlog_usec",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A node of n containers over k periods."""

    arrivals: FloatArray
    threads: FloatArray
    weight: FloatArray
    quota: Quota


def draw(seed: int, *, periods: int = 12, nodes: int = 3, containers: int = 4) -> Drawn:
    generator = np.random.default_rng(seed)
    shape = (periods, nodes, containers)
    is_idle = generator.random(shape) < 0.3
    quota = generator.uniform(1_000, 150_000, shape)
    quota[:, generator.random((nodes, containers)) < 0.2] = np.inf
    burst = np.where(np.isfinite(quota), quota, 0.0) * generator.choice([0.0, 0.5, 1.0], shape)
    return Drawn(
        arrivals=np.where(is_idle, 0.0, generator.gamma(2.0, 30_000, shape)),
        threads=generator.choice([1.0, 2.0, 4.0], (nodes, containers)),
        weight=generator.uniform(0.1, 10, (nodes, containers)),
        quota=Quota(
            quota_usec=quota,
            burst_usec=burst,
            written=generator.random(shape) < 0.2,
            write_share=generator.random(periods),
        ),
    )


def plant_of(drawn: Drawn, *, cpus: float = 2.0, max_backlog_usec: float = np.inf) -> Plant:
    shape = drawn.threads.shape
    return Plant(
        (shape[0], shape[1]),
        cpus=cpus,
        threads=drawn.threads,
        weight=drawn.weight,
        max_backlog_usec=max_backlog_usec,
    )


def part(quota: Quota, periods: slice) -> Quota:
    return Quota(
        quota_usec=quota.quota_usec[periods],
        burst_usec=quota.burst_usec[periods],
        written=quota.written[periods],
        write_share=None if quota.write_share is None else quota.write_share[periods],
    )


def constant(millicores: float, *, burst: float = 0.0) -> Quota:
    return Quota(
        quota_usec=np.array(millicores * 100.0),
        burst_usec=np.array(burst * 100.0),
        written=np.array(False),  # noqa: FBT003 - an array of one.
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), cpus=st.sampled_from([0.5, 2.0, 8.0]))
def test_many_periods_in_place_come_to_the_same_as_one_pure_step_after_the_other(
    seed: int, cpus: float
) -> None:
    drawn = draw(seed)

    periods = plant_of(drawn, cpus=cpus).run(drawn.arrivals, drawn.quota)

    assert drawn.quota.write_share is not None
    states = [idle_state(drawn.threads.shape)]
    for i in range(len(drawn.arrivals)):
        given_input = PlantInput(
            arrivals_usec=drawn.arrivals[i],
            quota_usec=drawn.quota.quota_usec[i],
            burst_usec=drawn.quota.burst_usec[i],
            quota_written=drawn.quota.written[i],
            threads=drawn.threads,
            weight=drawn.weight,
            write_share=float(drawn.quota.write_share[i]),
            kept_usec=mean_kept_usec(
                quota_usec=drawn.quota.quota_usec[i],
                threads=drawn.threads,
                request_usec=np.zeros(drawn.threads.shape),
            ),
        )
        states.append(step(states[-1], given_input, cpus=cpus))
    for name, counter in (
        ("usage_usec", "usage_usec"),
        ("throttled", "nr_throttled"),
        ("throttled_usec", "throttled_usec"),
        ("timer_ran", "nr_periods"),
        ("bursts", "nr_bursts"),
    ):
        rises = [
            getattr(after, counter) - getattr(before, counter) for before, after in pairwise(states)
        ]
        assert getattr(periods, name) == pytest.approx(np.array(rises), abs=1e-3), name
    waiting = [state.backlog_usec for state in states[1:]]
    assert periods.backlog_usec == pytest.approx(np.array(waiting), abs=1e-3)


def test_how_periods_are_cut_into_runs_changes_nothing() -> None:
    drawn = draw(7)
    whole = plant_of(drawn).run(drawn.arrivals, drawn.quota)

    plant = plant_of(drawn)
    cuts = [slice(0, 1), slice(1, 5), slice(5, 12)]
    parts = [plant.run(drawn.arrivals[cut], part(drawn.quota, cut)) for cut in cuts]

    for name in FIELDS:
        joined = np.concatenate([getattr(one, name) for one in parts])
        assert np.array_equal(joined, getattr(whole, name)), name


def test_a_later_run_overwrites_nothing_of_an_earlier_one() -> None:
    drawn = draw(8)
    plant = plant_of(drawn)
    first = plant.run(drawn.arrivals, drawn.quota)
    copies = {name: getattr(first, name).copy() for name in FIELDS}

    plant.run(drawn.arrivals, drawn.quota)
    plant.forget(np.ones(drawn.threads.shape, np.bool_))

    for name in FIELDS:
        assert np.array_equal(copies[name], getattr(first, name)), name


def test_a_closed_loop_sends_no_more_than_its_requests() -> None:
    drawn = draw(9, periods=40)

    closed = plant_of(drawn, max_backlog_usec=15_000.0).run(drawn.arrivals, drawn.quota)
    open_loop = plant_of(drawn).run(drawn.arrivals, drawn.quota)

    assert closed.backlog_usec.max() <= 15_000 + 1e-6
    assert open_loop.backlog_usec.max() > 15_000
    assert np.all(closed.admitted_usec <= drawn.arrivals)
    sent = closed.admitted_usec.sum(axis=0)
    assert sent == pytest.approx(closed.usage_usec.sum(axis=0) + closed.backlog_usec[-1])


def test_a_closed_loop_is_served_at_the_rate_of_its_quota_however_few_its_requests() -> None:
    plant = Plant((1, 1), cpus=1.0, max_backlog_usec=5_000.0)

    periods = plant.run(np.full((50, 1, 1), 200_000.0), constant(400))

    assert periods.usage_usec[1:].mean() == pytest.approx(40_000, rel=0.01)


def test_who_is_gone_leaves_neither_work_nor_credit() -> None:
    plant = Plant((1, 2), cpus=2.0)
    plant.run(np.array([[[0.0, 90_000.0]]]), constant(300, burst=300))

    plant.forget(np.array([[True, True]]))
    after = plant.run(np.array([[[90_000.0, 0.0]]]), constant(300, burst=300))

    assert after.usage_usec[0, 0].tolist() == [30_000.0, 0.0]


def test_a_pods_quota_holds_its_children_back_and_the_kernel_does_not_count_them() -> None:
    plant = Plant((1, 3), cpus=4.0, pod=np.array([0, 0, 1]))
    quota = Quota(
        quota_usec=np.array(90_000.0),
        burst_usec=np.array(0.0),
        written=np.array(False),  # noqa: FBT003 - an array of one.
        pod_quota_usec=np.array([60_000.0, np.inf]),
    )

    periods = plant.run(np.array([[[70_000.0, 70_000.0, 70_000.0]]]), quota)

    assert periods.usage_usec[0, 0].tolist() == [30_000, 30_000, 70_000]
    assert not periods.throttled.any()


def test_what_one_child_leaves_of_a_pods_quota_is_the_others() -> None:
    plant = Plant((1, 2), cpus=4.0, pod=np.array([0, 0]))
    quota = Quota(
        quota_usec=np.array(90_000.0),
        burst_usec=np.array(0.0),
        written=np.array(False),  # noqa: FBT003 - an array of one.
        pod_quota_usec=np.array([60_000.0]),
        pod_burst_usec=np.array([20_000.0]),
    )

    first = plant.run(np.array([[[10_000.0, 20_000.0]]]), quota)
    second = plant.run(np.array([[[20_000.0, 90_000.0]]]), quota)

    assert first.usage_usec[0, 0].tolist() == [10_000, 20_000]
    assert second.usage_usec[0, 0].tolist() == [20_000, 60_000]


def test_what_holds_in_all_periods_may_be_said_once() -> None:
    def quota(periods: int) -> Quota:
        return Quota(
            quota_usec=np.full((6, 1, 2), 90_000.0),
            burst_usec=np.zeros((1, 1, 2)),
            written=np.zeros((periods, 1, 2), np.bool_),
            pod_quota_usec=np.full((6, 1, 1), 60_000.0),
            pod_burst_usec=np.full((periods, 1, 1), 30_000.0),
        )

    work = np.tile([10_000.0, 70_000.0], (6, 1))[:, np.newaxis, :]
    once, each = (Plant((1, 2), cpus=4.0, pod=np.array([0, 0])) for _ in range(2))

    assert np.array_equal(once.run(work, quota(1)).usage_usec, each.run(work, quota(6)).usage_usec)


def test_a_setting_for_other_periods_than_there_are_is_a_mistake() -> None:
    quota = Quota(
        quota_usec=np.full((3, 1, 1), 90_000.0),
        burst_usec=np.zeros(()),
        written=np.zeros((1, 1, 1), np.bool_),
    )

    with pytest.raises(AssertionError, match="one for each period"):
        Plant((1, 1), cpus=1.0).run(np.ones((6, 1, 1)), quota)


def test_arrivals_of_half_precision_are_taken_as_they_are() -> None:
    arrivals = np.full((5, 1, 1), 12_345.0, np.float32)

    periods = Plant((1, 1), cpus=1.0).run(arrivals, constant(500))

    assert periods.usage_usec.dtype == np.float64
    assert periods.usage_usec.sum() == 5 * 12_345


def test_writes_fall_evenly_into_periods_where_nobody_says_when() -> None:
    quota = Quota(
        quota_usec=np.array(20_000.0), burst_usec=np.array(0.0), written=np.array([[[True]]])
    )

    periods = Plant((1, 1), cpus=1.0).run(np.full((1_000, 1, 1), 100_000.0), quota)

    # Written after s of the period: 20 ms and as much again, or what is left of it.
    moments = np.linspace(0, 1, 10_001)
    ran = np.minimum(moments * 100_000, 20_000)
    expected = np.minimum(ran + 20_000, ran + (1 - moments) * 100_000).mean()
    assert periods.usage_usec[100:].mean() == pytest.approx(expected, rel=0.03)
