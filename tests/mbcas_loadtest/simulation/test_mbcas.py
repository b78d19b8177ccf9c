"""The core in the loop: it answers to throttling, keeps its rules, and lives through faults."""

from dataclasses import fields, replace

import numpy as np
import pytest

from mbcas_core import learned
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.simulation.outcome import Outcome, Phase
from mbcas_loadtest.simulation.run import RunSettings, simulate
from mbcas_loadtest.simulation.system import Rival, System
from mbcas_loadtest.simulation.world import Declared, Faults, World
from tests.mbcas_loadtest.simulation.worlds import declare, world

BOUNDLESS = RunSettings(cluster_nodes=1)


def crowded(seconds: int = 40, *, nodes: int = 1, faults: Faults | None = None) -> World:
    """Four containers in three pods, of which two want twice the CPU that there is."""
    demand = (900.0, 1100.0, 50.0, 20.0)
    return world(
        demand,
        declared=declare((200, 300, 150, 50), (400, 500, 300, 100), cpus=1, pod=(0, 1, 2, 2)),
        nodes=nodes,
        seconds=seconds,
        faults=faults or Faults(),
        variation=0.3,
    )


def quick(rival: Rival) -> Rival:
    """The same with rounds of five seconds and without a grace in which nothing is decided."""

    def make(declared: Declared, knob: float) -> System:
        assert rival.make is not None
        system = rival.make(declared, knob)
        assert isinstance(system, mbcas.CoreSystem)
        system.parameters = replace(
            system.parameters,
            round_period_seconds=5.0,
            need_window_seconds=5.0,
            startup_grace_seconds=1.0,
            dwell_down_seconds=5.0,
            pod_spacing_seconds=3.0,
        )
        return system

    return replace(rival, make=make)


QUICK = quick(mbcas.MBCAS)


def run(given: World, rival: Rival = QUICK, tau: float = 0.05, **options: int) -> Outcome:
    return simulate(given, rival, tau, settings=replace(BOUNDLESS, **options))


def violations(outcome: Outcome) -> dict[str, int]:
    return {name: count for name, count in outcome.counts.items() if "violation" in name}


@pytest.mark.parametrize("rival", [mbcas.MBCAS, mbcas.TWO_GOODS, mbcas.BURST, mbcas.PLAN])
def test_a_crowded_node_breaks_no_rule(rival: Rival) -> None:
    outcome = run(crowded(), quick(rival))

    assert violations(outcome) == {}
    assert outcome.measured.patches.sum() > 1
    assert outcome.counts["core-markets_audited"] > 2


def test_what_is_throttled_is_raised_where_there_is_room() -> None:
    given = world((900.0, 50.0), declared=declare((400, 400), (400, 400)), seconds=30)

    outcome = run(given, series_node=0)

    assert outcome.series is not None
    limits = outcome.series.limit_millicores
    throttled = outcome.series.throttled_ratio
    assert limits[0].tolist() == [400.0, 400.0]
    assert limits[-1, 0] > 900.0
    assert throttled[:5, 0].min() == 1.0
    assert throttled[-10:, 0].max() == 0.0


def test_what_idles_is_cut() -> None:
    given = world((200.0, 10.0), declared=declare((300, 1000), (400, 1000)), seconds=40)

    outcome = run(given, series_node=0)

    assert outcome.series is not None
    assert outcome.series.limit_millicores[-1, 1] < 300.0


def test_a_tighter_target_of_throttling_gives_more() -> None:
    given = world((400.0,) * 4, nodes=2, seconds=90, variation=0.4, warmup=60)

    given_at = {
        tau: run(given, mbcas.MBCAS, tau).measured.limit_core_seconds.sum() for tau in (0.01, 0.2)
    }

    assert given_at[0.01] > 1.05 * given_at[0.2]


def test_the_same_run_twice_is_the_same() -> None:
    faults = Faults(report_loss_ratio=0.1, deferred_ratio=0.2, deferred_seconds=(5.0, 10.0))
    first, again = (run(crowded(faults=faults)) for _ in range(2))

    for key in fields(Phase):
        one, other = (getattr(each.measured, key.name) for each in (first, again))
        np.testing.assert_array_equal(one, other, err_msg=key.name)
    assert first.counts == again.counts


def test_a_node_fares_the_same_alone_as_beside_others() -> None:
    given = crowded(nodes=3)
    alone = replace(
        given,
        seeds=given.seeds[2:],
        arrivals_usec=given.arrivals_usec[:, 2:],
        threads=given.threads[2:],
        max_backlog_usec=given.max_backlog_usec[2:],
        request_usec=given.request_usec[2:],
    )

    together, apart = run(given).measured, run(alone).measured

    for name in ("usage_core_seconds", "limit_core_seconds", "patches", "changes"):
        own = getattr(together, name)[2:]
        np.testing.assert_array_equal(own, getattr(apart, name), err_msg=name)


def test_all_that_can_go_wrong_together_breaks_no_rule() -> None:
    faults = Faults(
        server_restart_seconds=(65.0,),
        report_loss_ratio=0.2,
        shim_lost_seconds=((20.0, 24.0), (50.0, 51.0)),
        api_down_seconds=((3.0, 16.0),),
        deferred_ratio=0.3,
        deferred_seconds=(5.0, 15.0),
        clock_skew_seconds=-3600.0,
    )

    outcome = run(crowded(90, faults=faults), report_delay_seconds=1)

    assert violations(outcome) == {}
    assert outcome.counts["restarts"] == 1
    for counted in ("patches", "refused", "deferred"):
        assert getattr(outcome.measured, counted).sum() > 0, counted


def test_reports_that_come_after_newer_ones_break_no_rule() -> None:
    settings = replace(BOUNDLESS, report_reorder_ratio=0.4)

    outcome = simulate(crowded(), QUICK, 0.05, settings=settings)

    assert violations(outcome) == {}


def test_a_server_that_restarts_knows_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[int] = []
    restore = learned.restore
    monkeypatch.setattr(learned, "restore", lambda *given: restored.append(restore(*given)))
    given = world((300.0,) * 3, seconds=70, nodes=2)

    run(replace(given, faults=Faults(server_restart_seconds=(61.0,))))

    assert restored == [6]


def test_shims_without_a_server_for_five_minutes_give_everything_back() -> None:
    faults = Faults(shim_lost_seconds=((30.0, 400.0),))
    given = world(
        (900.0, 50.0), declared=declare((400, 400), (400, 400)), seconds=336, faults=faults
    )

    outcome = run(given, series_node=0)

    assert outcome.series is not None
    limits = outcome.series.limit_millicores
    assert (limits[35:329, 0] > 800.0).all()
    assert limits[-1].tolist() == [400.0, 400.0]


@pytest.mark.parametrize("rival", [mbcas.KELLY, mbcas.VCG, mbcas.KARMA])
def test_another_rule_shares_a_crowded_node_otherwise(rival: Rival) -> None:
    given = crowded()
    own, other = run(given).measured, run(given, quick(rival))

    difference = other.measured.limit_core_seconds - own.limit_core_seconds
    assert np.abs(difference).max() > 0.0
    assert violations(other)


def test_a_pod_that_comes_anew_is_another_pod() -> None:
    given = crowded(60)
    there = given.exists.copy()
    there[25:35, 0] = False

    outcome = run(replace(given, exists=there))

    assert violations(outcome) == {}
    assert outcome.measured.seconds[:, 0].tolist() == [50.0]
    assert outcome.counts["notice-FirstResize"] >= 2
