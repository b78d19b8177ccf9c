"""The way from a wish to the kernel: delays, spacing, budget, deferral, refusal."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mbcas_core.units import FloatArray
from mbcas_loadtest.simulation.latency import find_delay_seconds
from mbcas_loadtest.simulation.outcome import Outcome
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.system import Actuation, Seen, Settings
from mbcas_loadtest.simulation.world import Faults, World
from tests.mbcas_loadtest.simulation.worlds import Scripted, declare, one_number, world

ALONE = RunSettings(cluster_nodes=1)
Wish = Callable[[Seen], Settings | None]


def once(period: int, wanted: Settings) -> Wish:
    return lambda seen: wanted if seen.period == period else None


def run(
    given: World, system: Scripted, settings: RunSettings = ALONE
) -> tuple[Outcome, FloatArray, FloatArray]:
    """Returns the outcome, and limits and requests in force at the end of each step, (s, m, n)."""
    outcome = simulate(given, system.rival(), 0.0, settings=settings)
    limits = np.array([seen.applied.limit_millicores for seen in system.seen])
    requests = np.array([seen.applied.request_millicores for seen in system.seen])
    return outcome, limits, requests


def first_period(limits: FloatArray, value: float) -> int:
    """The first period (of steps of one) at whose end this limit is in force, from 1."""
    return int(np.argmax(limits[:, 0, 0] == value)) + 1


@pytest.mark.parametrize(
    ("draw", "since", "delay"),
    [
        (0.0, np.inf, 0.018),
        (0.5, np.inf, 0.038),
        (0.9, 3.0, 0.060),
        (1.0, 3.0, 0.188),
        (0.7, 5.0, 0.049),
        (0.5, 1.0, 1.600),
        (0.0, 2.0, 0.472),
        (1.0, 0.2, 1.829),
        (0.25, 1.5, 1.0355),
        (0.5, 1.2, 1.386),
        (0.5, 2.7, 0.548),
    ],
)
def test_delays_have_the_quantiles_that_were_measured(
    draw: float, since: float, delay: float
) -> None:
    found = find_delay_seconds(np.array([draw]), np.array([since]))

    assert found[0] == pytest.approx(delay)


def test_what_is_written_directly_is_in_force_in_the_next_period() -> None:
    system = Scripted(once(7, one_number(300.0)), interval_periods=1, actuation=Actuation.DIRECT)

    outcome, limits, _ = run(world(seconds=3), system)

    assert first_period(limits, 300.0) == 8
    assert outcome.measured.changes.sum() == 1
    assert outcome.measured.patches.sum() == 0


def test_a_patch_is_in_force_after_the_delay_that_was_measured() -> None:
    system = Scripted(once(7, one_number(300.0, nodes=25)), interval_periods=1)

    outcome, limits, _ = run(world(nodes=25, seconds=3), system)

    first = np.argmax(limits[:, :, 0] == 300.0, axis=0) + 1
    assert outcome.measured.patches.sum() == 25  # As many as a budget saves up for.
    delays = first - 7
    assert set(delays.tolist()) <= {2, 3}
    assert np.mean(delays == 2) > 0.8


def test_what_is_equal_is_never_sent() -> None:
    system = Scripted(lambda _seen: one_number(500.2))

    outcome, _, _ = run(world(seconds=10), system)

    assert outcome.measured.patches.sum() == outcome.measured.changes.sum() == 0


def test_one_pod_is_patched_no_more_often_than_its_spacing() -> None:
    system = Scripted(lambda seen: one_number(300.0 + seen.period))

    outcome, limits, _ = run(world(seconds=31), system)

    assert outcome.measured.patches.sum() == 10
    # The newest wish is sent, not the oldest.
    assert limits[-1, 0, 0] == pytest.approx(300.0 + 280.0)


def test_without_spacing_a_kubelet_that_is_hurried_takes_its_time() -> None:
    system = Scripted(lambda seen: one_number(300.0 + seen.period), interval_periods=1)
    settings = RunSettings(cluster_nodes=1, pod_spacing_seconds=0.0)

    _, limits, _ = run(world(seconds=60), system, settings)

    lag = np.diff(np.flatnonzero(np.diff(limits[:, 0, 0])))
    assert 8 <= lag.mean() <= 20


def test_both_containers_of_a_pod_go_with_one_patch() -> None:
    declared = declare((500, 500, 500), (500, 500, 500), pod=(0, 0, 1))
    system = Scripted(once(10, one_number(300.0, 400.0, 500.0)))

    outcome, limits, _ = run(world((1.0, 1.0, 1.0), declared=declared, seconds=5), system)

    assert limits[-1, 0].tolist() == [300.0, 400.0, 500.0]
    assert outcome.measured.patches.tolist() == [[1.0, 0.0, 0.0]]
    assert outcome.measured.changes.tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize(("cluster", "most"), [(60, 33 + 8), (600, 4 + 2), (5000, 4 + 2)])
def test_a_sample_has_its_share_of_the_resize_budget(cluster: int, most: int) -> None:
    """40 nodes of one pod that all want something each second, for six seconds after the first."""
    system = Scripted(lambda seen: one_number(300.0 + seen.period, nodes=40))
    given = world(nodes=40, seconds=7)

    outcome, _, _ = run(given, system, RunSettings(cluster_nodes=cluster))

    rate = min(100.0, max(10.0, 0.02 * cluster)) * 40 / cluster
    half = rate / 2
    assert half * 5 - 1 <= outcome.measured.patches.sum() <= half * (5 + 6)
    assert outcome.measured.patches.sum() <= most
    assert outcome.measured.unfunded_seconds.sum() > 0


def test_the_budget_goes_to_whoever_is_throttled_first() -> None:
    demand = (100.0, 100.0, 100.0, 800.0)
    wanted = one_number(200.0, 200.0, 200.0, 900.0, nodes=20)
    system = Scripted(once(20, wanted))

    outcome, _, _ = run(world(demand, nodes=20, seconds=3), system, RunSettings(cluster_nodes=600))

    sent = outcome.measured.patches.sum(axis=0)
    assert sent[3] > 0
    assert sent[:3].sum() <= 1  # Half of the budget is not for them.


def test_a_raise_that_does_not_fit_is_deferred_with_its_limit_until_there_is_room() -> None:
    declared = declare((500, 500), (500, 500), cpus=1)

    def script(seen: Seen) -> Settings | None:
        return {100: one_number(700.0, 500.0), 200: one_number(700.0, 200.0)}.get(seen.period)

    outcome, limits, requests = run(
        world((1.0, 1.0), declared=declared, seconds=30), Scripted(script)
    )

    assert limits[10:20, 0, 0].tolist() == [500.0] * 10
    assert limits[-1, 0].tolist() == [700.0, 200.0]
    assert (requests.sum(axis=2) <= 1000).all()
    assert outcome.measured.deferred.tolist() == [[1.0, 0.0]]


def test_the_api_does_not_take_a_limit_away() -> None:
    wanted = replace(one_number(300.0), limit_millicores=np.full((1, 1), np.inf))

    outcome, limits, requests = run(world(seconds=5), Scripted(once(10, wanted)))

    assert outcome.measured.refused.sum() == 1
    assert limits[-1, 0, 0] == 500.0
    assert requests[-1, 0, 0] == 300.0


def test_a_wish_outlasts_an_api_that_is_down() -> None:
    faults = Faults(api_down_seconds=((2.0, 12.0),))

    outcome, limits, _ = run(
        world(seconds=20, faults=faults), Scripted(once(30, one_number(300.0)))
    )

    assert outcome.measured.refused.sum() == 3
    assert (limits[:12] == 500.0).all()
    assert limits[-1, 0, 0] == 300.0


def test_the_share_of_resizes_that_a_world_defers_takes_its_time() -> None:
    faults = Faults(deferred_ratio=1.0, deferred_seconds=(10.0, 12.0))

    outcome, limits, _ = run(
        world(seconds=30, faults=faults),
        Scripted(once(20, one_number(300.0)), interval_periods=1),
    )

    assert 120 <= first_period(limits, 300.0) <= 145
    assert outcome.measured.deferred.sum() == 1


def test_while_no_report_passes_a_system_is_not_asked() -> None:
    system = Scripted(lambda seen: one_number(300.0 + seen.period))

    run(world(seconds=20, faults=Faults(shim_lost_seconds=((5.0, 15.0),))), system)

    asked = [seen.period for seen in system.seen]
    assert asked == [10, 20, 30, 40, 150, 160, 170, 180, 190, 200]
