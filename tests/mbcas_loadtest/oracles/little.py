"""Small worlds for oracles, and plain loops that say what is best in them."""

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.plant.recursion import PlantInput, idle_state, mean_kept_usec, step
from mbcas_loadtest.simulation.system import Seen, Settings
from mbcas_loadtest.simulation.world import Declared, World


def draw_stretch(seed: int, periods: int, shape: tuple[int, int]) -> FloatArray:
    """Returns bursty work (k, m, n), some of it none at all."""
    generator = np.random.default_rng(seed)
    work = generator.gamma(2.0, 15_000.0, (periods, *shape))
    work *= generator.choice([0.0, 0.3, 1.0, 2.5], (periods // 5 + 1, *shape)).repeat(5, axis=0)[
        :periods
    ]
    rounded: FloatArray = work.round()
    return rounded


def run_alone(
    work_usec: FloatArray,
    limit_millicores: float,
    *,
    threads: float,
    backlog_usec: float = 0.0,
    max_backlog_usec: float = np.inf,
    request_usec: float = 0.0,
    has_burst: bool = False,
) -> tuple[int, float]:
    """Runs one container alone, period by period.

    Returns:
        Throttled periods, and what waits at the end.
    """
    state = idle_state((1,))
    throttled, waits = 0, backlog_usec
    for work in work_usec:
        quota = np.array([limit_millicores * 100.0])
        given = PlantInput(
            arrivals_usec=np.array([waits + work]) - state.backlog_usec,
            quota_usec=quota,
            burst_usec=quota * float(has_burst),
            quota_written=np.zeros(1, np.bool_),
            threads=np.array([threads]),
            weight=np.ones(1),
            kept_usec=mean_kept_usec(
                quota_usec=quota,
                threads=np.array([threads]),
                request_usec=np.array([request_usec]),
            ),
        )
        before = state.nr_throttled
        state = step(state, given, cpus=1_000.0)
        throttled += int((state.nr_throttled - before).item())
        waits = min(float(state.backlog_usec.item()), max_backlog_usec)
    return throttled, waits


def make_world(
    work_usec: FloatArray,
    *,
    cpus: int = 64,
    requests: IntArray | None = None,
    priority: tuple[PriorityClass, ...] | None = None,
    batch: tuple[bool, ...] | None = None,
    threads: float = 4.0,
) -> World:
    """Returns a world with this work, (periods, m, n)."""
    periods, m, n = work_usec.shape
    request = np.full((m, n), 1_000) if requests is None else requests
    return World(
        scenario="little",
        seeds=tuple(range(m)),
        declared=Declared(
            names=tuple(f"c{i}" for i in range(n)),
            pod=np.arange(n),
            request_millicores=request,
            limit_millicores=request,
            priority=priority or (PriorityClass.NORMAL,) * n,
            cpus=cpus,
            batch=batch or (False,) * n,
        ),
        arrivals_usec=work_usec.astype(np.float32),
        threads=np.full((m, n), threads),
        max_backlog_usec=np.full((m, n), np.inf),
        request_usec=np.full((m, n), 5_000.0),
        exists=np.ones((periods // 10, n), np.bool_),
        warmup_seconds=0,
    )


def see(world: World, period: int, backlog_usec: FloatArray, applied: Settings) -> Seen:
    """Returns what an oracle is shown after `period` periods."""
    nothing = np.zeros((1, *world.shape))
    never = np.zeros((1, *world.shape), np.bool_)
    return Seen(
        period=period,
        usage_usec=nothing,
        throttled=never,
        throttled_usec=nothing,
        timer_ran=never,
        bursts=never,
        applied=applied,
        exists=np.ones(world.shape, np.bool_),
        backlog_usec=backlog_usec[np.newaxis],
    )


def settings(limit_millicores: FloatArray) -> Settings:
    """Returns request = limit."""
    return Settings(
        request_millicores=limit_millicores,
        limit_millicores=limit_millicores,
        burst_millicores=np.zeros(limit_millicores.shape),
    )
