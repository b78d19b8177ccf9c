"""Several worlds under one core fare as each does alone."""

from dataclasses import fields, replace

import numpy as np
import pytest

from mbcas_loadtest.errors import SimulationError
from mbcas_loadtest.simulation import mbcas
from mbcas_loadtest.simulation.outcome import Outcome, Phase
from mbcas_loadtest.simulation.run import RunSettings, simulate, simulate_together
from mbcas_loadtest.simulation.system import Rival
from mbcas_loadtest.simulation.world import Faults, World
from tests.mbcas_loadtest.simulation.worlds import declare, world

SETTINGS = RunSettings(cluster_nodes=1_000)
"""Few orders: who had to share them with others would fare worse."""


def named(name: str, faults: Faults | None = None, *, seconds: int = 120, cpus: int = 1) -> World:
    declared = declare((200, 300, 150), (400, 500, 300), cpus=cpus)
    drawn = world(
        (900.0, 700.0, 50.0),
        declared=declared,
        nodes=2,
        seconds=seconds,
        faults=faults or Faults(),
        variation=0.4,
    )
    return replace(drawn, scenario=name)


WORLDS = (
    named("full"),
    named("roomy", cpus=4),
    named("short", seconds=70),
    named("lossy", Faults(report_loss_ratio=0.2, deferred_ratio=0.3, deferred_seconds=(5, 15))),
    named("restarts", Faults(server_restart_seconds=(65.0,))),
    named("lost", Faults(shim_lost_seconds=((30.0, 40.0),))),
)


def assert_same(one: Outcome, other: Outcome) -> None:
    for key in fields(Phase):
        for phase in ("warmup", "measured"):
            mine, theirs = (getattr(getattr(each, phase), key.name) for each in (one, other))
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{one.scenario}: {key.name}")
    np.testing.assert_array_equal(one.settling_seconds, other.settling_seconds)


@pytest.mark.parametrize("rival", [mbcas.MBCAS, mbcas.PLAN, mbcas.KARMA])
def test_each_of_several_worlds_fares_as_it_does_alone(rival: Rival) -> None:
    together = simulate_together(WORLDS, rival, rival.default, settings=SETTINGS)

    for given, outcome in zip(WORLDS, together, strict=True):
        assert_same(outcome, simulate(given, rival, rival.default, settings=SETTINGS))
    assert sum(outcome.measured.changes.sum() for outcome in together) > 0


def test_what_the_core_counts_is_told_once() -> None:
    first, second = simulate_together(WORLDS[:2], mbcas.MBCAS, 0.05, settings=SETTINGS)

    assert first.counts["core-markets_audited"] > 0
    assert not any(name.startswith("core-") for name in second.counts)


def test_two_worlds_of_the_same_name_are_refused() -> None:
    with pytest.raises(SimulationError, match="full: there is such a world already"):
        simulate_together([WORLDS[0], WORLDS[0]], mbcas.MBCAS, 0.05, settings=SETTINGS)
