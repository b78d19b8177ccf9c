"""What a recommender with history saw before the world began: a day, minute by minute.

For a scenario of the catalog the past is hours of the same scenario, one after the other: the same
drawn parameters, other random events. A scenario that happens once (a ramp, a cold start) happened
in each of these hours too. Other worlds (traces, files) have no generator: there the past is the
world itself over and over, so whoever learns from it knows what comes. That is to its advantage.

Usage is demand, bounded by threads and node: nothing throttled it. The noise of single periods is
left out; over the 600 periods of a minute it moves a mean by 2 % at most.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import FloatArray
from mbcas_loadtest.rivals.one_number import USEC_PER_MILLICORE_PERIOD
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, World
from mbcas_loadtest.workloads.catalog import SCENARIOS
from mbcas_loadtest.workloads.scenario import Dice

MINUTE_PERIODS = 60 * PERIODS_PER_SECOND
MILLICORES_PER_CPU = 1000.0
_CACHED = 64  # Batches of seeds; a day of 100 containers is 1.2 MB.


class _PastDice(Dice):
    """A node's generators in an hour of the past: its parameters are the same, its events not."""

    def __init__(self, scenario: str, seed: int, hour: int) -> None:
        super().__init__(scenario, seed)
        self._hour = hour

    def of_profile(self, index: int) -> np.random.Generator:
        return self._generator(2, index, 1 + self._hour)


def past_minutes_millicores(world: World, *, seconds: float) -> FloatArray:
    """Returns the mean usage (minutes, m, n) of so much time before the world, NaN while absent."""
    minutes = round(seconds / 60.0)
    if world.scenario in SCENARIOS and world.seconds >= 60:  # noqa: PLR2004 - a minute.
        past = _of_scenario(world.scenario, world.seeds, world.seconds, minutes)
    else:
        past = _of_world(world, minutes)
    most = np.minimum(world.threads, world.declared.cpus) * MILLICORES_PER_CPU
    bounded: FloatArray = np.minimum(past, most)
    return bounded


@lru_cache(maxsize=_CACHED)
def _of_scenario(name: str, seeds: tuple[int, ...], world_seconds: int, minutes: int) -> FloatArray:
    """Returns minutes of runs of the scenario that came before, the last one whole."""
    scenario = SCENARIOS[name]
    run_minutes = world_seconds // 60
    runs = -(-minutes // run_minutes)
    blocks = []
    for hour in range(runs):
        dice = [_PastDice(name, seed, hour) for seed in seeds]
        nodes = [scenario.draw_node(each, world_seconds) for each in dice]
        block = np.empty((run_minutes, len(seeds), len(nodes[0].containers)))
        for i, node in enumerate(nodes):
            for j, container in enumerate(node.containers):
                profile = container.load.draw(
                    dice[i].of_profile(j), world_seconds * PERIODS_PER_SECOND
                )
                block[:, i, j] = _means(profile, MINUTE_PERIODS)[:run_minutes]
                for first, after in container.absent_seconds:
                    block[int(first // 60) : int(-(-after // 60)), i, j] = np.nan
        blocks.append(block)
    past: FloatArray = np.concatenate(blocks)[-minutes:]
    return past


def _of_world(world: World, minutes: int) -> FloatArray:
    """Returns the world's own minutes, over and over until its beginning."""
    usage = _means(world.arrivals_usec, MINUTE_PERIODS) / USEC_PER_MILLICORE_PERIOD
    there = _means(world.exists, 60) == 1.0
    own = np.where(there[:, np.newaxis, :], usage, np.nan)
    past: FloatArray = np.tile(own, (-(-minutes // own.shape[0]), 1, 1))[-minutes:]
    return past


def _means(values: NDArray[np.generic], each: int) -> FloatArray:
    """Returns means of so many rows; a rest is left out, fewer rows than that are one mean."""
    each = min(each, values.shape[0])
    count = values.shape[0] // each
    whole = values[: count * each].reshape(count, each, *values.shape[1:])
    means: FloatArray = whole.astype(np.float64).mean(axis=1)
    return means
