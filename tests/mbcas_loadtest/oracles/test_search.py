"""The least limit against trying every limit, one after the other, period by period."""

from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.oracles.search import Stretch, count_throttled, find_least_limit
from mbcas_loadtest.plant.recursion import (
    PlantInput,
    PlantState,
    idle_state,
    mean_kept_usec,
    step,
)
from tests.mbcas_loadtest.oracles.little import draw_stretch, run_alone

SHAPE = (2, 2)


def _stretch(seed: int, *, has_burst: bool, waits: bool, closed: bool) -> Stretch:
    generator = np.random.default_rng(seed)
    return Stretch(
        arrivals_usec=draw_stretch(seed, 15, SHAPE),
        backlog_usec=generator.uniform(0, 60_000, SHAPE).round() * float(waits),
        threads=generator.choice([1.0, 2.0, 4.0], SHAPE),
        max_backlog_usec=np.full(SHAPE, 50_000.0 if closed else np.inf),
        has_burst=has_burst,
    )


def _run(stretch: Stretch, node: int, place: int, limit: int) -> tuple[int, float]:
    return run_alone(
        np.asarray(stretch.arrivals_usec[:, node, place], np.float64),
        limit,
        threads=stretch.threads[node, place],
        backlog_usec=stretch.backlog_usec[node, place],
        max_backlog_usec=stretch.max_backlog_usec[node, place],
        has_burst=stretch.has_burst,
    )


@pytest.mark.parametrize("has_burst", [False, True])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("throttled_max", [0, 2])
def test_no_smaller_limit_holds_and_the_found_one_does(
    *, has_burst: bool, closed: bool, throttled_max: int
) -> None:
    stretch = _stretch(3 + throttled_max, has_burst=has_burst, waits=True, closed=closed)

    least = find_least_limit(stretch, throttled_max)

    for node, place in np.ndindex(SHAPE):
        found = int(least[node, place])
        assert _run(stretch, node, place, found)[0] <= throttled_max
        # Every smaller limit, not only the next: that fewer is never better is what bisection uses.
        smaller = [*range(10, found, max(1, found // 8)), *range(max(10, found - 3), found)]
        assert all(_run(stretch, node, place, limit)[0] > throttled_max for limit in smaller)


def test_work_that_may_not_wait_needs_more() -> None:
    stretch = _stretch(0, has_burst=False, waits=True, closed=False)

    some = find_least_limit(stretch, 20)
    none = find_least_limit(stretch, 20, left_max_usec=0.0)

    assert (some == 10).all()
    for node, place in np.ndindex(SHAPE):
        found = int(none[node, place])
        assert _run(stretch, node, place, found)[1] <= 1e-6
        assert found == 10 or _run(stretch, node, place, found - 1)[1] > 0.0


def test_the_example_of_the_module_comes_out() -> None:
    work = np.array([30_000.0, 50_000.0, 20_000.0]).reshape(3, 1, 1)
    stretch = Stretch(
        arrivals_usec=work,
        backlog_usec=np.zeros((1, 1)),
        threads=np.ones((1, 1)),
        max_backlog_usec=np.full((1, 1), np.inf),
        kept_usec=0.0,
    )

    assert find_least_limit(stretch, 1).item() == 350
    assert find_least_limit(stretch, 0).item() == 500
    throttled, left = count_throttled(stretch, np.array([350.0, 349.0]).reshape(2, 1, 1))
    assert throttled.ravel().tolist() == [1, 2]
    assert left.ravel().tolist() == pytest.approx([0.0, 200.0])


def test_a_write_refills_only_where_the_limit_changes() -> None:
    work = np.array([90_000.0, 0.0]).reshape(2, 1, 1)
    stretch = Stretch(
        arrivals_usec=work,
        backlog_usec=np.zeros((1, 1)),
        threads=np.ones((1, 1)),
        max_backlog_usec=np.full((1, 1), np.inf),
        applied_millicores=np.full((1, 1), 500.0),
        applied_burst_millicores=np.zeros((1, 1)),
        kept_usec=0.0,
    )

    throttled, left = count_throttled(stretch, np.array([500.0, 499.0]).reshape(2, 1, 1))

    # At 500m 40 ms wait after the first period. At 499m the quota is refilled after half of it.
    assert throttled.ravel().tolist() == [1, 0]
    assert left.ravel().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("has_burst", [False, True])
def test_a_write_is_the_plants(*, has_burst: bool) -> None:
    stretch = replace(
        _stretch(5, has_burst=has_burst, waits=True, closed=False),
        applied_millicores=np.full(SHAPE, 300.0),
        applied_burst_millicores=np.full(SHAPE, 300.0),
    )
    limits = np.random.default_rng(0).choice([100.0, 300.0, 700.0], (5, *SHAPE))

    throttled, left = count_throttled(stretch, limits)

    plants = _write(stretch, limits, in_force_millicores=300.0)
    np.testing.assert_array_equal(throttled, plants.nr_throttled)
    np.testing.assert_allclose(left, plants.backlog_usec, atol=1e-6)


def test_what_stood_still_before_a_write_is_not_made_up_for() -> None:
    # 30 of 100 ms run before the write, in the middle of the period: 50 ms are left for the rest,
    # though two writes with burst leave runtime for all of it.
    stretch = Stretch(
        arrivals_usec=np.zeros((1, 1, 1)),
        backlog_usec=np.full((1, 1), 100_000.0),
        threads=np.ones((1, 1)),
        max_backlog_usec=np.full((1, 1), np.inf),
        applied_millicores=np.full((1, 1), 500.0),
        applied_burst_millicores=np.full((1, 1), 500.0),
        kept_usec=0.0,
        has_burst=True,
    )

    throttled, left = count_throttled(stretch, np.full((1, 1, 1), 300.0))

    assert throttled.item() == 0
    assert left.item() == pytest.approx(20_000.0)


@pytest.mark.parametrize("has_burst", [False, True])
def test_no_smaller_limit_holds_for_whatever_limit_is_in_force(*, has_burst: bool) -> None:
    found = {"below": 0, "beyond": 0}
    for seed in range(6):
        alone = _stretch(seed, has_burst=has_burst, waits=True, closed=False)
        # The least one where another was in force, and limits near it.
        other = int(find_least_limit(_in_force(alone, 9.0), 1)[0, 0])
        for in_force in range(max(other - 2, 10), other + 20):
            stretch = _in_force(alone, float(in_force))

            least = int(find_least_limit(stretch, 1)[0, 0])

            tried = np.arange(10.0, max(in_force, least) + 1)
            limits = np.broadcast_to(tried[:, None, None], (tried.size, *SHAPE))
            plants = _write(stretch, limits, in_force_millicores=float(in_force))
            holds = plants.nr_throttled[:, 0, 0] <= 1
            assert least == tried[holds][0]
            found["below"] += bool(least < in_force and not holds[tried == in_force].item())
            found["beyond"] += least > other
    assert all(found.values())


def _in_force(stretch: Stretch, millicores: float) -> Stretch:
    return replace(
        stretch,
        applied_millicores=np.full(SHAPE, millicores),
        applied_burst_millicores=np.full(SHAPE, millicores * float(stretch.has_burst)),
    )


def _write(stretch: Stretch, limits: FloatArray, *, in_force_millicores: float) -> PlantState:
    """Returns what becomes of limits (c, m, n), which the plant writes where they are others."""
    assert stretch.applied_burst_millicores is not None
    state = replace(
        idle_state(limits.shape), backlog_usec=np.tile(stretch.backlog_usec, (len(limits), 1, 1))
    )
    burst = limits * float(stretch.has_burst)
    is_other = (limits != in_force_millicores) | (burst != stretch.applied_burst_millicores)
    for period, work in enumerate(np.asarray(stretch.arrivals_usec, np.float64)):
        given = PlantInput(
            arrivals_usec=work,
            quota_usec=limits * 100.0,
            burst_usec=burst * 100.0,
            quota_written=is_other & (period == 0),
            threads=stretch.threads,
            weight=np.ones(limits.shape),
            kept_usec=mean_kept_usec(
                quota_usec=limits * 100.0, threads=stretch.threads, request_usec=np.zeros(SHAPE)
            ),
        )
        state = step(state, given, cpus=1_000.0)
    return state
