"""How fast the simulation is: container-hours for each minute of one core.

Several worlds, from quiet ones to a node that is twice too small; of each as many nodes as an
evaluation simulates together. Time is that of the processor, of this process alone, so what else
the machine does counts little; drawing the worlds is not in it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from mbcas_loadtest.rivals.catalog import RIVALS
from mbcas_loadtest.simulation.run import simulate
from mbcas_loadtest.workloads import catalog

SCENARIOS = ("constant", "bursty", "competition-0.8", "competition-2.0")
SYSTEMS = ("static", "k8s-cpu-fast", "captain", "mbcas")
"""One that decides nothing, one that does each second, one each 100 ms, and the core."""
FIRST_SEED = 1000
SECONDS_PER_HOUR = 3600


def bench_simulation(
    nodes: int,
    seconds: int,
    *,
    scenarios: Sequence[str] = SCENARIOS,
    systems: Sequence[str] = SYSTEMS,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Returns, for each scenario and system, container-hours a minute, and the least of a system.

    Args:
        nodes: Simulated together.
        seconds: Of each world.
        scenarios: Names in the catalog of workloads.
        systems: Names in the catalog of systems, each at its default.
        tell: Is told what is measured now.
    """
    speeds: dict[str, dict[str, float]] = {name: {} for name in systems}
    for scenario in scenarios:
        seeds = range(FIRST_SEED, FIRST_SEED + nodes)
        world = catalog.draw(scenario, seeds, seconds=seconds)
        containers = world.shape[0] * world.shape[1]
        hours = containers * world.seconds / SECONDS_PER_HOUR
        for system in systems:
            tell(f"{scenario}, {system}: {containers} containers")
            rival = RIVALS[system]
            begin = time.process_time()
            simulate(world, rival, rival.default)
            minutes = (time.process_time() - begin) / 60
            speeds[system][scenario] = round(hours / minutes)
    return {
        "nodes": nodes,
        "seconds": seconds,
        "container_hours_per_minute": speeds,
        "least": {system: min(found.values()) for system, found in speeds.items()},
    }
