"""Tiny worlds, and systems that do what a test says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_loadtest.simulation.system import Actuation, Rival, Seen, Settings
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, Faults, World

USEC_PER_MILLICORE = 100.0
NO_FAULTS = Faults()


def declare(
    request: Sequence[int] = (500,),
    limit: Sequence[int] = (500,),
    *,
    cpus: int = 4,
    pod: Sequence[int] | None = None,
) -> Declared:
    count = len(request)
    return Declared(
        names=tuple(f"c{i}" for i in range(count)),
        pod=np.array(range(count) if pod is None else pod),
        request_millicores=np.array(request),
        limit_millicores=np.array(limit),
        priority=(PriorityClass.NORMAL,) * count,
        cpus=cpus,
        batch=(False,) * count,
    )


def world(
    demand_millicores: Sequence[float] = (300.0,),
    *,
    declared: Declared | None = None,
    nodes: int = 1,
    seconds: int = 20,
    warmup: int = 0,
    faults: Faults = NO_FAULTS,
    variation: float = 0.0,
) -> World:
    """Nodes on which each container wants a mean demand, with Gamma slices where it varies."""
    declared = declared or declare(*([500] * len(demand_millicores) for _ in range(2)))
    count = len(demand_millicores)
    shape = (seconds * PERIODS_PER_SECOND, nodes, count)
    mean = np.array(demand_millicores) * USEC_PER_MILLICORE
    draw = np.random.default_rng(7)
    noise = draw.gamma(variation**-2, variation**2, shape) if variation else np.ones(shape)
    return World(
        scenario="tiny",
        seeds=tuple(range(nodes)),
        declared=declared,
        arrivals_usec=(mean * noise).astype(np.float32),
        threads=np.full((nodes, count), 4.0),
        max_backlog_usec=np.full((nodes, count), np.inf),
        request_usec=np.full((nodes, count), 1000.0),
        exists=np.ones((seconds, count), np.bool_),
        warmup_seconds=warmup,
        faults=faults,
    )


def one_number(*millicores: float, nodes: int = 1) -> Settings:
    number = np.tile(np.array(millicores, np.float64), (nodes, 1))
    return Settings(
        request_millicores=number, limit_millicores=number, burst_millicores=np.zeros_like(number)
    )


@dataclass
class Scripted:
    """Wants what a script says at each step."""

    script: Callable[[Seen], Settings | None]
    interval_periods: int = PERIODS_PER_SECOND
    actuation: Actuation = Actuation.API
    seen: list[Seen] = field(default_factory=list)

    def step(self, seen: Seen) -> Settings | None:
        self.seen.append(seen)
        return self.script(seen)

    def rival(self) -> Rival:
        return Rival(name="scripted", make=lambda _declared, _knob: self)
