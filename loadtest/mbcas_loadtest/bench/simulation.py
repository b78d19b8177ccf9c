"""How fast the simulation is: container-hours for each minute of one core.

Several worlds, from quiet ones to a node that is twice too small, each alone and, where the core
decides, all together, as an evaluation runs them. Time is that of the processor, of this process
alone, so what else the machine does counts little; drawing the worlds and compiling are not in it.
What a period or a tick costs at all is shared by the nodes that live through it together: the
evaluation's runs have ten, a sample of a large cluster hundreds.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from mbcas_loadtest.evaluation.jobs import AUDIT_SHARE
from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation.mbcas import MBCAS
from mbcas_loadtest.simulation.run import RunSettings, simulate_together
from mbcas_loadtest.simulation.world import World
from mbcas_loadtest.workloads import catalog

SCENARIOS = ("constant", "bursty", "competition-0.8", "competition-2.0")
SYSTEMS = ("static", "k8s-cpu-fast", "captain", "mbcas")
"""One that decides nothing, one that does each second, one each 100 ms, and the core."""
TOGETHER = "together"
FIRST_SEED = 1000
COMPILING_SECONDS = 10
SETTINGS = RunSettings(audit_share=AUDIT_SHARE)
"""As an evaluation's."""
SECONDS_PER_HOUR = 3600


def bench_simulation(
    nodes: Sequence[int],
    seconds: int,
    *,
    scenarios: Sequence[str] = SCENARIOS,
    systems: Sequence[str] = SYSTEMS,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Returns container-hours a minute of each system in each scenario, and the least of a system.

    The core's least is that of all scenarios together.

    Args:
        nodes: Of each world; measured at each of these numbers.
        seconds: Of each world.
        scenarios: Names in the catalog of workloads.
        systems: Names in the catalog of systems, each at its default.
        tell: Is told what is measured now.
    """
    at: dict[str, Any] = {}
    for count in nodes:
        seeds = range(FIRST_SEED, FIRST_SEED + count)
        worlds = [catalog.draw(scenario, seeds, seconds=seconds) for scenario in scenarios]
        few = [catalog.draw(name, seeds[:1], seconds=COMPILING_SECONDS) for name in scenarios]
        speeds: dict[str, dict[str, float]] = {}
        for system in systems:
            tell(f"{system}: {count} nodes")
            _speed(few, system)
            speeds[system] = {world.scenario: _speed([world], system) for world in worlds}
            if system == MBCAS.name:
                speeds[system][TOGETHER] = _speed(worlds, system)
        at[str(count)] = {
            "container_hours_per_minute": speeds,
            "least": {
                system: found.get(TOGETHER, min(found.values())) for system, found in speeds.items()
            },
        }
    return {"seconds": seconds, "audit_share": AUDIT_SHARE, "nodes": at}


def _speed(worlds: Sequence[World], system: str) -> float:
    """Returns container-hours for each minute of the processor."""
    rival = RIVALS[system]
    hours = sum(each.shape[0] * each.shape[1] * each.seconds for each in worlds) / SECONDS_PER_HOUR
    begin = time.process_time()
    simulate_together(worlds, rival, rival.default, settings=SETTINGS)
    return round(hours / ((time.process_time() - begin) / 60))
