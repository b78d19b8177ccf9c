"""A scenario: for each seed it draws a node; the nodes of several seeds make a world.

Every container has generators of its own, from its scenario, its seed and its place (SeedSequence
with a spawn key), so what a seed draws does not depend on the seeds, containers or seconds drawn
beside it.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mbcas_core.events import PriorityClass
from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, Faults, World
from mbcas_loadtest.workloads.loads import Load
from mbcas_loadtest.workloads.noise import Noise, draw_arrivals

WARMUP_SECONDS = 600
HOUR_SECONDS = 3600


class Tier(StrEnum):
    """Groups of scenarios, evaluation.md F.1 and section 2."""

    MUST = "T1"
    SHOULD = "T2"
    NICE = "T3"
    TABLE_2 = "table-2"
    RECORDED = "traces"
    """A recorded series, replayed."""
    CUSTOM = "custom"
    """From a scenario file."""


class Dice:
    """The generators of one node."""

    def __init__(self, scenario: str, seed: int) -> None:
        self._scenario = zlib.crc32(scenario.encode())
        self._seed = seed

    def of_container(self, index: int) -> np.random.Generator:
        """Returns what its parameters are drawn from."""
        return self._generator(1, index)

    def of_node(self) -> np.random.Generator:
        """Returns what the containers share, such as how demand is split among them."""
        return self._generator(0)

    def of_profile(self, index: int) -> np.random.Generator:
        return self._generator(2, index)

    def of_noise(self, index: int) -> np.random.Generator:
        return self._generator(3, index)

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(
            np.random.SeedSequence(self._seed, spawn_key=(self._scenario, *key))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as drawn; a pod of its own."""

    name: str
    load: Load
    noise: Noise
    request_millicores: float
    """This and the limit are rounded up to 10m when declared."""
    limit_millicores: float = 0.0
    """0: none."""
    priority: PriorityClass = PriorityClass.NORMAL
    is_batch: bool = False
    threads: int = 4
    request_usec: float = 5_000.0
    max_backlog_usec: float = np.inf
    slo_delay_seconds: float = np.nan
    absent_seconds: tuple[tuple[float, float], ...] = ()
    """When it is not there, ends excluded; the same for every seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node as drawn. Names, priorities, CPUs and absences are the same for every seed."""

    containers: tuple[Container, ...]
    cpus: int
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An entry of the catalog."""

    name: str
    """As in `--scenario`, lower case with hyphens."""
    tier: Tier
    title: str
    shows: str
    """What a system can win or lose here, in one sentence."""
    modelled: str = "nothing is measured; modelled: demand, noise and what is declared"
    """What of it is measured and what is modelled."""
    seconds: int = HOUR_SECONDS
    warmup_seconds: int = WARMUP_SECONDS
    draw_node: Callable[[Dice, int], Node]
    """Draws a node for so many seconds."""


def draw_world(scenario: Scenario, seeds: Sequence[int], *, seconds: int | None = None) -> World:
    """Draws node i from seeds[i]; fewer seconds give the beginning of the same world."""
    assert seeds, "no seed, no world"
    lasts = scenario.seconds if seconds is None else seconds
    dice = [Dice(scenario.name, seed) for seed in seeds]
    nodes = [scenario.draw_node(each, lasts) for each in dice]
    first = nodes[0]
    exists = _exists(first, lasts)
    return World(
        scenario=scenario.name,
        seeds=tuple(seeds),
        declared=_declare(nodes),
        arrivals_usec=_draw_arrivals(nodes, dice, exists, lasts),
        threads=_gather(nodes, lambda one: one.threads),
        max_backlog_usec=_gather(nodes, lambda one: one.max_backlog_usec),
        request_usec=_gather(nodes, lambda one: one.request_usec),
        exists=exists,
        warmup_seconds=min(scenario.warmup_seconds, lasts),
        slo_delay_seconds=np.array([one.slo_delay_seconds for one in first.containers]),
        faults=first.faults,
        modelled=scenario.modelled,
    )


def _declare(nodes: Sequence[Node]) -> Declared:
    first = nodes[0]
    names = tuple(one.name for one in first.containers)
    for node in nodes:
        assert tuple(one.name for one in node.containers) == names, "one shape for every seed"
        assert node.cpus == first.cpus, "one size for every seed"
    return Declared(
        names=names,
        pod=np.arange(len(names)),
        request_millicores=_round_up(_gather(nodes, lambda one: one.request_millicores)),
        limit_millicores=_round_up(_gather(nodes, lambda one: one.limit_millicores)),
        priority=tuple(one.priority for one in first.containers),
        cpus=first.cpus,
        batch=tuple(one.is_batch for one in first.containers),
    )


def _round_up(millicores: FloatArray) -> NDArray[np.int64]:
    """Returns what somebody would write into a manifest."""
    tens: NDArray[np.int64] = (np.ceil(millicores / 10.0 - 1e-9) * 10.0).astype(np.int64)
    return tens


def _gather(nodes: Sequence[Node], get: Callable[[Container], float]) -> FloatArray:
    """Returns one number of every container, (m, n)."""
    return np.array([[get(one) for one in node.containers] for node in nodes], np.float64)


def _exists(node: Node, seconds: int) -> BoolArray:
    exists = np.ones((seconds, len(node.containers)), np.bool_)
    for index, container in enumerate(node.containers):
        for first, after in container.absent_seconds:
            exists[round(first) : round(after), index] = False
    return exists


def _draw_arrivals(
    nodes: Sequence[Node], dice: Sequence[Dice], exists: BoolArray, seconds: int
) -> NDArray[np.float32]:
    periods = seconds * PERIODS_PER_SECOND
    # Filled along time, then turned: writing columns would touch every cache line n times.
    shape = (len(nodes), len(nodes[0].containers), periods)
    arrivals = np.empty(shape, np.float32)
    for i, node in enumerate(nodes):
        for j, container in enumerate(node.containers):
            profile = container.load.draw(dice[i].of_profile(j), periods)
            arrivals[i, j] = draw_arrivals(container.noise, profile, dice[i].of_noise(j))
    turned = np.ascontiguousarray(arrivals.transpose(2, 0, 1))
    if not exists.all():
        turned *= np.repeat(exists, PERIODS_PER_SECOND, axis=0)[:, np.newaxis, :]
    return turned
