"""PARTIES and AIMD: their steps, and the window of throttling that both answer to."""

import numpy as np
import pytest

from mbcas_core.units import BoolArray
from mbcas_loadtest.rivals.aimd import Aimd
from mbcas_loadtest.rivals.parties import Parties
from mbcas_loadtest.rivals.watch import ThrottleWatch
from tests.mbcas_loadtest.rivals.little_worlds import declare, see

TARGET = 0.05


def feed(system: Parties | Aimd, throttled: BoolArray, limit: list[float]) -> None:
    """Lets a system see periods (k, n), step by step."""
    step = system.interval_periods
    for start in range(0, len(throttled), step):
        own = throttled[start : start + step, np.newaxis]
        system.step(see(start + step, np.zeros(own.shape), own, np.array([limit])))


def first_throttled(count: int, periods: int = 150) -> BoolArray:
    return (np.arange(periods) < count)[:, np.newaxis]


@pytest.mark.parametrize(("throttled", "millicores"), [(5, 900.0), (6, 1000.0), (7, 1000.0)])
def test_parties_gives_back_a_tenth_where_slack_is_large_and_leaves_small_slack_alone(
    throttled: int, millicores: float
) -> None:
    parties = Parties(declare([1000]), TARGET)

    feed(parties, first_throttled(throttled), [1000.0])

    assert parties.allocation_millicores.item() == pytest.approx(millicores)


def test_parties_steps_up_by_two_fifths_as_soon_as_the_slack_is_gone_for_sure() -> None:
    parties = Parties(declare([1000]), TARGET)

    feed(parties, first_throttled(8, periods=10), [1000.0])

    assert parties.allocation_millicores.item() == pytest.approx(1400.0)


def test_parties_cuts_demands_beyond_the_node_to_max_min_shares() -> None:
    parties = Parties(declare([1000, 3000]), TARGET)
    throttled = np.array([[True, False]] * 10)

    feed(parties, throttled, [1000.0, 3000.0])

    # 1400 and 3000 of 4000: in equal parts of what they declared, 1000 and 3000.
    assert parties.allocation_millicores[0].tolist() == pytest.approx([1000.0, 3000.0])


def test_parties_shares_no_full_node_anew_because_another_one_moves() -> None:
    declared = declare([2500, 1900, 1500, 800, 900], nodes=2, cpus=3)
    parties = Parties(declared, TARGET)
    everybody = np.ones((5, 2, 5), np.bool_)
    limit = declared.limit_millicores.astype(np.float64)
    for period in (5, 10):
        parties.step(see(period, np.zeros((5, 2, 5)), everybody, limit))
    full = parties.allocation_millicores.copy()

    # Four throttled periods are not yet eight, on the first node; on the second all ten are.
    throttled = everybody & (np.arange(5)[:, np.newaxis, np.newaxis] < 2)
    throttled[:, 1] = True
    for period in (15, 20):
        parties.step(see(period, np.zeros((5, 2, 5)), throttled, limit))

    assert full.sum(axis=-1) == pytest.approx(3000.0)
    assert parties.allocation_millicores[0].tolist() == full[0].tolist()


def test_aimd_adds_a_tenth_of_what_was_declared_and_takes_a_twentieth_of_what_there_is() -> None:
    up, down = Aimd(declare([500]), TARGET), Aimd(declare([500]), TARGET)

    feed(up, first_throttled(8), [500.0])
    feed(down, first_throttled(7), [500.0])

    # After the step up, the rest of the 15 s are not yet a window.
    assert up.limit_millicores.item() == pytest.approx(550.0)
    assert down.limit_millicores.item() == pytest.approx(475.0)


def test_aimd_stays_between_the_least_quota_and_the_node() -> None:
    up, down = Aimd(declare([1900], cpus=2), TARGET), Aimd(declare([10]), TARGET)

    for _ in range(3):
        feed(up, first_throttled(150), [1900.0])
        feed(down, first_throttled(0), [10.0])

    assert up.limit_millicores.item() == 2000.0
    assert down.limit_millicores.item() == 10.0


def test_a_window_ends_with_its_verdict_in_plain_python_too() -> None:
    generator = np.random.default_rng(6)
    shares = np.array([[0.0, 0.03, 0.05, 0.08, 0.5]] * 2)
    watch = ThrottleWatch(shares.shape)
    plain = [[[0, 0] for _ in row] for row in shares]
    found = {"over": 0, "under": 0, "well": 0}

    for _ in range(300):
        throttled = generator.random((5, *shares.shape)) < shares
        watch.add(throttled)
        over, under = watch.verdicts(0.06, 0.04)
        for (i, j), _share in np.ndenumerate(shares):
            window = plain[i][j]
            window[0] += 5
            window[1] += int(throttled[:, i, j].sum())
            is_over = window[1] > 0.06 * 150
            is_under = not is_over and window[0] >= 150 and window[1] < 0.04 * 150
            assert bool(over[i, j]) == is_over
            assert bool(under[i, j]) == is_under
            found["over"] += is_over
            found["under"] += is_under
            if is_over or window[0] >= 150:
                found["well"] += not (is_over or is_under)
                plain[i][j] = [0, 0]

    assert all(found.values())
