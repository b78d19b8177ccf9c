"""All scenarios by name, evaluation.md F.1, the table of its section 2, traces."""

from collections.abc import Sequence

from mbcas_loadtest.simulation.world import World
from mbcas_loadtest.workloads import recorded, table_2, tier_1, tier_2, tier_3
from mbcas_loadtest.workloads.scenario import Scenario, draw_world

_ENTRIES: tuple[Scenario, ...] = (
    *tier_1.SCENARIOS,
    *tier_2.SCENARIOS,
    *tier_3.SCENARIOS,
    *table_2.SCENARIOS,
    *recorded.SCENARIOS,
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ENTRIES}
assert len(SCENARIOS) == len(_ENTRIES), "two scenarios have one name"


def draw(name: str, seeds: Sequence[int], *, seconds: int | None = None) -> World:
    """Draws the named scenario, node i from seeds[i].

    Args:
        name: A key of SCENARIOS.
        seeds: 0 to 99 are for tuning, 1000 and up for what is reported.
        seconds: Fewer than the scenario's own give the beginning of the same world.

    Raises:
        TraceError: The scenario replays a trace, and that cannot be read.
    """
    return draw_world(SCENARIOS[name], seeds, seconds=seconds)
