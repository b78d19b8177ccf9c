"""Plans with few changes against trying all of them."""

import itertools

import numpy as np
import pytest

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.oracles.churn import Churn
from mbcas_loadtest.oracles.plan import count_changes, find_plans, plan_at
from mbcas_loadtest.oracles.search import Stretch, find_known_work
from mbcas_loadtest.oracles.stays import (
    LEVELS,
    WAIT_SLOTS_MAX,
    Stays,
    cut_slots,
    find_stays,
    follow_stays,
    tabulate,
)
from tests.mbcas_loadtest.oracles.little import draw_stretch, make_world, run_alone

SLOTS, PERIODS = 5, 12


def _stays(seed: int, levels: IntArray) -> tuple[FloatArray, Stays]:
    work = draw_stretch(seed, SLOTS * PERIODS, (1, 1))[:, 0, 0].reshape(SLOTS, PERIODS).T
    alone = Stretch(
        arrivals_usec=work[:, :, None],
        backlog_usec=np.zeros((SLOTS, 1)),
        threads=np.full((SLOTS, 1), 4.0),
        max_backlog_usec=np.full((SLOTS, 1), np.inf),
    )
    return work, follow_stays(alone, levels)


def _top(work: FloatArray) -> int:
    return int(np.ceil(work.max() / 100.0))


def test_a_stay_is_what_a_plain_run_says() -> None:
    for seed in range(6):
        levels = np.array([150, 300, 500])
        work, stays = _stays(seed, levels)
        for begin, place in itertools.product(range(SLOTS), range(levels.size)):
            end, throttled, waits = begin, 0, 0.0
            while end == begin or (waits > 1.0 and end < SLOTS and end - begin < WAIT_SLOTS_MAX):
                # A slot begins with fresh runtime: what is kept from the last one is small.
                more, waits = run_alone(
                    work[:, end], levels[place], threads=4.0, backlog_usec=waits
                )
                throttled, end = throttled + more, end + 1
            assert stays.end[begin, place] == (end if waits <= 1.0 else 0)
            if waits <= 1.0:
                assert stays.throttled[begin, place] == throttled


def _enumerate(stays: Stays, changes_max: int) -> list[tuple[float, float]]:
    """Returns allocation and throttled periods of every plan."""
    found: list[tuple[float, float]] = []

    def go(slot: int, level: int, left: int, cost: float, throttled: float) -> None:
        if slot == SLOTS:
            found.append((cost, throttled))
            return
        for other in range(stays.level_millicores.size):
            spent = int(other != level)
            end = int(stays.end[slot, other])
            if left >= spent and end:
                more = float(stays.level_millicores[other]) * (end - slot)
                count = throttled + stays.throttled[slot, other]
                go(end, other, left - spent, cost + more, count)

    go(0, -1, changes_max, 0.0, 0.0)
    return found


@pytest.mark.parametrize("changes_max", [1, 2, 3])
def test_at_a_price_no_other_plan_is_cheaper(changes_max: int) -> None:
    for seed in range(8):
        work, _ = _stays(seed, np.array([1]))
        _, stays = _stays(seed, np.unique([120, 250, 400, _top(work)]))
        plans = _enumerate(stays, changes_max)
        for price in (0.01, 20.0, 300.0):
            levels, throttled, cost = plan_at(tabulate([stays]), np.array([price]), changes_max)

            best = min(allocated + price * count for allocated, count in plans)
            assert cost.item() == pytest.approx(best)
            assert levels.sum() + price * throttled.item() == pytest.approx(best)
            assert count_changes(levels).item() <= changes_max


def test_no_plan_throttles_as_little_and_allocates_less() -> None:
    for seed in range(8):
        work, _ = _stays(seed, np.array([1]))
        _, stays = _stays(seed, np.unique([120, 180, 250, 400, _top(work)]))
        plans = _enumerate(stays, 3)

        found = find_plans(tabulate([stays]), throttled_max=6.0, changes_max=3)

        allocated = found.level_millicores.sum()
        assert found.throttled.item() <= 6
        assert allocated == pytest.approx(
            min(cost for cost, count in plans if count <= found.throttled.item())
        )
        within_budget = min(cost for cost, count in plans if count <= 6)
        assert found.bound_millicore_slots.item() <= within_budget + 1e-6 <= allocated + 2e-6


def test_containers_beside_each_other_are_planned_apart() -> None:
    stays = [_stays(seed, np.unique([120, 250, 400, 2_000 + seed]))[1] for seed in range(4)]

    together = find_plans(tabulate(stays), throttled_max=5.0, changes_max=2)

    for place, one in enumerate(stays):
        alone = find_plans(tabulate([one]), throttled_max=5.0, changes_max=2)
        assert alone.level_millicores[:, 0].tolist() == pytest.approx(
            together.level_millicores[:, place].tolist()
        )


def test_more_changes_and_more_throttling_never_cost_more() -> None:
    work = draw_stretch(9, 600, (2, 2))
    world = make_world(work)

    def allocate(tau_ratio: float, changes_per_hour: float) -> float:
        oracle = Churn(world, tau_ratio, changes_per_hour=changes_per_hour)
        return float(oracle.limit_millicores[1:].sum())

    few, many = allocate(0.05, 60), allocate(0.05, 180)
    assert many <= few + 1e-9
    assert allocate(0.2, 60) <= few + 1e-9


def test_a_plan_keeps_its_promise_when_it_is_run_in_one_piece() -> None:
    work = draw_stretch(4, 1_500, (1, 1))
    world = make_world(work)

    oracle = Churn(world, 0.05, changes_per_hour=120)

    known = find_known_work(world).astype(np.float64)
    limit, waits, throttled = oracle.limit_millicores[:, 0, 0], 0.0, 0
    for slot in range(1, 10):
        more, waits = run_alone(
            known[150 * slot : 150 * (slot + 1), 0, 0],
            float(limit[slot]),
            threads=4.0,
            request_usec=5_000.0,
            backlog_usec=waits,
        )
        throttled += more
    assert throttled <= 0.05 * 9 * 150
    assert count_changes(limit[1:, None]).item() <= 5


def _find(slots_usec: FloatArray, *, threads: float, levels: int = LEVELS) -> Stays:
    return find_stays(
        slots_usec,
        threads=threads,
        max_backlog_usec=np.inf,
        request_usec=0.0,
        tau_ratio=0.05,
        has_burst=False,
        levels=levels,
    )


def test_levels_hold_what_single_slots_need_and_one_that_throttles_nothing() -> None:
    world = make_world(draw_stretch(5, 600, (1, 1)))
    slots = cut_slots(find_known_work(world)[:, 0, 0])

    stays = _find(slots, threads=4.0, levels=6)

    assert slots.shape == (150, 4)
    assert (np.diff(stays.level_millicores) > 0).all()
    assert (stays.throttled[:, -1] == 0).all()
    assert stays.end[:, -1].tolist() == [1, 2, 3, 4]


def _overfull(*, quiet_slots: int) -> FloatArray:
    """Returns work of a slot more than four that one thread can do, between quiet slots."""
    quiet, full = np.full(150, 20_000.0), np.full(150, 120_000.0)
    return np.concatenate([quiet, quiet, *[full] * 5, *[quiet] * quiet_slots])[:, None, None]


def test_who_wants_more_than_its_threads_has_all_they_use_until_nothing_waits() -> None:
    # 5 slots at 120 % of a thread; 80 % of the next ones are left to catch up.
    world = make_world(_overfull(quiet_slots=5), threads=1.0)

    oracle = Churn(world, 0.05, changes_per_hour=240)

    limit = oracle.limit_millicores[:, 0, 0]
    assert limit[2:9].tolist() == [1_000.0] * 7
    assert (limit[[1, *range(9, 12)]] < 300.0).all()
    assert oracle.unmet_slots.tolist() == [[7]]


def test_what_still_waits_when_the_run_ends_is_unmet() -> None:
    world = make_world(_overfull(quiet_slots=0), threads=1.0)

    oracle = Churn(world, 0.05, changes_per_hour=240)

    assert oracle.limit_millicores[2:, 0, 0].tolist() == [1_000.0] * 5
    assert oracle.unmet_slots.tolist() == [[5]]


def test_nothing_is_unmet_where_a_stay_of_a_minute_is_enough() -> None:
    full = np.full(150, 120_000.0)
    work = np.concatenate([np.full(150, 20_000.0), full, full, np.full(300, 20_000.0)])

    oracle = Churn(make_world(work[:, None, None], threads=1.0), 0.05, changes_per_hour=240)

    assert oracle.unmet_slots.tolist() == [[0]]


def test_an_unmet_stay_is_what_a_plain_run_says_from_every_slot() -> None:
    slots = cut_slots(_overfull(quiet_slots=5)[:, 0, 0])

    stays = _find(slots, threads=1.0)

    waits, end = 0.0, 2
    while end == 2 or waits > 1.0:
        count, waits = run_alone(slots[:, end], 1_000.0, threads=1.0, backlog_usec=waits)
        assert count == 0
        end += 1
    assert np.flatnonzero(stays.is_unmet).tolist() == list(range(2, end))
    assert stays.end[2, -1] == end
    assert (stays.end[:, -1] > np.arange(stays.end.shape[0])).all()
    assert (stays.end[2, :-1] == 0).all()


def test_a_plan_of_stays_that_lead_nowhere_is_an_error() -> None:
    _, stays = _stays(0, np.array([100, 200]))
    stays.end[2] = 0

    with pytest.raises(ValueError, match="no stay is allowed"):
        plan_at(tabulate([stays]), np.array([1.0]), 2)
    with pytest.raises(AssertionError, match="highest level"):
        find_plans(tabulate([stays]), throttled_max=5.0, changes_max=2)
