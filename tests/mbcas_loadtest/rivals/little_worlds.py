"""Small worlds, what systems see of them, and a loop that lets a system act on the plant."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.plant.batch import Plant, Quota
from mbcas_loadtest.simulation.system import Rival, Seen, Settings, System
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND, Declared, World

USEC_PER_MILLICORE = 100.0
"""In a period."""


def declare(
    limits: Sequence[int],
    requests: Sequence[int] | None = None,
    *,
    nodes: int = 1,
    cpus: int = 4,
    pod: Sequence[int] | None = None,
    batch: Sequence[bool] | None = None,
) -> Declared:
    """Returns containers that declare request = limit in a pod each, unless said otherwise."""
    n = len(limits)
    return Declared(
        names=tuple(f"c{i}" for i in range(n)),
        pod=np.arange(n) if pod is None else np.array(pod),
        request_millicores=np.array([limits if requests is None else requests] * nodes),
        limit_millicores=np.array([limits] * nodes),
        priority=(PriorityClass.NORMAL,) * n,
        cpus=cpus,
        batch=(False,) * n if batch is None else tuple(batch),
    )


def in_force(limit: FloatArray) -> Settings:
    return Settings(
        request_millicores=limit, limit_millicores=limit, burst_millicores=np.zeros_like(limit)
    )


def see(
    period: int,
    usage_millicores: FloatArray,
    throttled: BoolArray,
    limit: FloatArray,
    *,
    exists: BoolArray | None = None,
    backlog_usec: FloatArray | None = None,
) -> Seen:
    """Returns what (k, m, n) of usage and throttling up to `period` look like to a system."""
    return Seen(
        period=period,
        usage_usec=usage_millicores * USEC_PER_MILLICORE,
        throttled=throttled,
        throttled_usec=np.zeros(throttled.shape),
        timer_ran=np.ones(throttled.shape, np.bool_),
        bursts=np.zeros(throttled.shape, np.bool_),
        applied=in_force(limit),
        exists=np.ones(limit.shape, np.bool_) if exists is None else exists,
        admitted_usec=None if backlog_usec is None else usage_millicores * USEC_PER_MILLICORE,
        backlog_usec=backlog_usec,
    )


@cache
def little_world(*, nodes: int = 2, seconds: int = 70) -> World:
    """Returns nodes of seven containers with all that worlds have: see the comments."""
    generator = np.random.default_rng(5)
    # Guaranteed, Burstable, no limit, two in one pod, batch beyond its limit, and one that comes
    # and goes, with another of its pod's requests.
    limits, requests = (400, 900, 0, 300, 200, 500, 150), (400, 300, 250, 100, 100, 500, 150)
    declared = declare(
        limits,
        requests,
        nodes=nodes,
        pod=(0, 1, 2, 3, 3, 4, 5),
        batch=[False] * 5 + [True, False],
    )
    mean = np.array([250.0, 500.0, 700.0, 150.0, 120.0, 900.0, 100.0])
    shape = (seconds * PERIODS_PER_SECOND, nodes, len(limits))
    # Bursts of some seconds beside the noise of each period.
    level = generator.choice([0.3, 1.0, 3.0], size=(-(-seconds // 5), *shape[1:]))
    level = np.repeat(level, 5 * PERIODS_PER_SECOND, axis=0)[: shape[0]]
    arrivals = level * mean * generator.gamma(9.0, 1 / 9.0, shape) * USEC_PER_MILLICORE
    exists = np.ones((seconds, len(limits)), np.bool_)
    exists[: seconds // 4, 6] = False
    exists[seconds * 3 // 4 :, 6] = False
    arrivals *= np.repeat(exists, PERIODS_PER_SECOND, axis=0)[:, np.newaxis]
    return World(
        scenario="little",
        seeds=tuple(range(nodes)),
        declared=declared,
        arrivals_usec=arrivals.astype(np.float32),
        threads=np.full(shape[1:], 2.0),
        max_backlog_usec=np.where(np.arange(len(limits)) == 5, 200_000.0, np.inf)
        + np.zeros(shape[1:]),
        request_usec=np.full(shape[1:], 5_000.0),
        exists=exists,
        warmup_seconds=0,
    )


def some_nodes(world: World, nodes: Sequence[int]) -> World:
    """Returns the same world with these of its nodes, in this order."""
    rows = list(nodes)
    declared = world.declared
    return replace(
        world,
        declared=replace(
            declared,
            request_millicores=declared.request_millicores[rows],
            limit_millicores=declared.limit_millicores[rows],
        ),
        seeds=tuple(world.seeds[row] for row in rows),
        arrivals_usec=world.arrivals_usec[:, rows],
        threads=world.threads[rows],
        max_backlog_usec=world.max_backlog_usec[rows],
        request_usec=world.request_usec[rows],
    )


def make(rival: Rival, world: World, knob: float) -> System:
    """Makes a system of the catalog."""
    if rival.make is not None:
        return rival.make(world.declared, knob)
    assert rival.make_with_truth is not None
    return rival.make_with_truth(world, knob)


@dataclass(eq=False)
class Lived:
    """What a system wanted, by the period after which it said so."""

    wanted: dict[int, Settings] = field(default_factory=dict)
    copies: dict[int, tuple[FloatArray, FloatArray, FloatArray]] = field(default_factory=dict)
    """The same as it was when it was said: request, limit, burst."""
    exists: dict[int, BoolArray] = field(default_factory=dict)


def live(system: System, world: World) -> Lived:
    """Lets a system act on the world; whatever it wants is in force in the next period."""
    shape, declared = world.shape, world.declared
    lived = Lived()
    plant = Plant(
        shape,
        cpus=declared.cpus,
        threads=world.threads,
        weight=declared.request_millicores.astype(np.float64),
        max_backlog_usec=world.max_backlog_usec,
    )
    limit = np.where(declared.limit_millicores > 0, declared.limit_millicores, np.inf)
    applied = Settings(
        request_millicores=declared.request_millicores.astype(np.float64),
        limit_millicores=limit.astype(np.float64),
        burst_millicores=np.zeros(shape),
    )
    step = system.interval_periods
    for start in range(0, world.arrivals_usec.shape[0] - step + 1, step):
        quota = Quota(
            quota_usec=applied.limit_millicores * USEC_PER_MILLICORE,
            burst_usec=applied.burst_millicores * USEC_PER_MILLICORE,
            written=np.zeros(shape, np.bool_),
        )
        periods = plant.run(world.arrivals_usec[start : start + step].astype(np.float64), quota)
        end = start + step
        exists = np.broadcast_to(world.exists[(end - 1) // PERIODS_PER_SECOND], shape)
        wanted = system.step(
            Seen(
                period=end,
                usage_usec=periods.usage_usec,
                throttled=periods.throttled,
                throttled_usec=periods.throttled_usec,
                timer_ran=periods.timer_ran,
                bursts=periods.bursts,
                applied=applied,
                exists=exists,
                admitted_usec=periods.admitted_usec,
                backlog_usec=periods.backlog_usec,
            )
        )
        if wanted is not None:
            lived.wanted[end], lived.exists[end] = wanted, exists
            lived.copies[end] = (
                wanted.request_millicores.copy(),
                wanted.limit_millicores.copy(),
                wanted.burst_millicores.copy(),
            )
            applied = wanted
    return lived
