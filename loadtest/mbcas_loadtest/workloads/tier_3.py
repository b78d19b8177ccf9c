"""Tier 3 of evaluation.md F.1: starts, namespaces with quotas, failures.

When pods come and go and when things fail is the same for every seed: a world has one calendar.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from mbcas_loadtest.simulation.world import Faults
from mbcas_loadtest.workloads.loads import Constant, Levels, Periodic, Steps, Warmup
from mbcas_loadtest.workloads.noise import GammaWork
from mbcas_loadtest.workloads.parts import draw_cv, draw_request_usec, draw_service
from mbcas_loadtest.workloads.scenario import Container, Dice, Node, Scenario, Tier
from mbcas_loadtest.workloads.tier_1 import draw_burster
from mbcas_loadtest.workloads.tier_2 import draw_periodic, draw_ramp

JVM_STARTS_SECONDS = ((0.0, 2_400.0), (0.0,), (900.0,), (1_800.0, 3_000.0))
RESTART_SECONDS = 10.0
"""How long a pod that restarts is not there."""

AWAY_SECONDS = (((1_500.0, 1_620.0),), ((1_530.0, 1_700.0),), (), ())
"""When each replica is away; the second falls under the load of the first."""
PODS_BY_NAMESPACE = ("blue-0", "blue-1", "blue-2", "green-0", "green-1", "green-2")
RETRY_FACTOR = 1.25
"""Callers ask again while replicas are missing: modelled, not measured."""


def _cold_start(dice: Dice, seconds: int) -> Node:
    del seconds
    containers = tuple(
        _jvm(dice.of_container(i), f"jvm-{i}", starts)
        for i, starts in enumerate(JVM_STARTS_SECONDS)
    )
    return Node(containers=containers, cpus=8)


def _jvm(generator: np.random.Generator, name: str, starts: tuple[float, ...]) -> Container:
    steady = generator.uniform(200.0, 500.0)
    cv = draw_cv(generator)
    absences = [(0.0, starts[0])] if starts[0] > 0 else []
    absences += [(start - RESTART_SECONDS, start) for start in starts[1:]]
    return Container(
        name=name,
        load=Warmup(
            steady_millicores=steady,
            hot_millicores=steady * generator.uniform(3.0, 6.0),
            half_life_seconds=generator.uniform(8.0, 25.0),
            starts_seconds=starts,
        ),
        noise=GammaWork(cv=cv),
        request_millicores=1_000,
        limit_millicores=1_000,
        request_usec=draw_request_usec(generator, steady, cv),
        absent_seconds=tuple(absences),
    )


def _quota_namespaces(dice: Dice, seconds: int) -> Node:
    """Draws two namespaces of three pods; each declares half the node and is busy by turns."""
    del seconds
    phase = dice.of_node().uniform(0.0, 900.0)
    containers = []
    for i, name in enumerate(PODS_BY_NAMESPACE):
        generator = dice.of_container(i)
        busy = generator.uniform(700.0, 1_300.0)
        turn = 900.0 if name.startswith("green") else 0.0
        load = Periodic(
            low_millicores=busy * generator.uniform(0.1, 0.3),
            high_millicores=busy,
            period_seconds=1_800.0,
            peak_seconds=1_000.0,
            phase_seconds=phase + turn + generator.uniform(0.0, 60.0),
        )
        containers.append(
            draw_service(
                generator,
                name,
                load,
                mean_millicores=busy,
                declared_millicores=2_000.0 / 3.0,
                threads=3,
            )
        )
    return Node(containers=tuple(containers), cpus=4)


def _cascading_failure(dice: Dice, seconds: int) -> Node:
    """Draws a service of four replicas of which two are lost; the others get their load."""
    del seconds
    total = dice.of_node().uniform(1_600.0, 2_400.0)
    times = sorted({0.0, *(time for away in AWAY_SECONDS for ends in away for time in ends)})
    containers = []
    for i in range(len(AWAY_SECONDS)):
        generator = dice.of_container(i)
        load = Steps(
            from_seconds=tuple(times),
            millicores=tuple(total * _share_of_load(time) for time in times),
        )
        drawn = draw_service(
            generator,
            f"replica-{i}",
            load,
            mean_millicores=total / len(AWAY_SECONDS),
            declared_millicores=1_000,
        )
        containers.append(replace(drawn, absent_seconds=AWAY_SECONDS[i]))
    generator = dice.of_container(len(AWAY_SECONDS))
    other = Levels(mean_millicores=500.0, spread=0.25, shortest_seconds=30.0, longest_seconds=180.0)
    containers.append(
        draw_service(generator, "other", other, mean_millicores=500.0, declared_millicores=1_000)
    )
    return Node(containers=tuple(containers), cpus=5)


def _share_of_load(time: float) -> float:
    """Returns what each replica that is there gets of the service's load."""
    missing = sum(any(first <= time < after for first, after in away) for away in AWAY_SECONDS)
    return (RETRY_FACTOR if missing else 1.0) / (len(AWAY_SECONDS) - missing)


def _mixed(dice: Dice, seconds: int, *, faults: Faults) -> Node:
    """Draws one pod of each kind; what goes wrong is the scenario's."""
    del seconds
    idle, steady = dice.of_container(0), dice.of_container(1)
    idle_mean, steady_mean = idle.uniform(10.0, 30.0), steady.uniform(500.0, 1_000.0)
    containers = (
        draw_service(
            idle,
            "idle",
            Constant(mean_millicores=idle_mean),
            mean_millicores=idle_mean,
            declared_millicores=100,
            threads=1,
        ),
        draw_service(
            steady,
            "steady",
            Constant(mean_millicores=steady_mean),
            mean_millicores=steady_mean,
            declared_millicores=1_500,
        ),
        draw_burster(dice.of_container(2), "bursty"),
        draw_periodic(dice.of_container(3), "periodic", period_seconds=300.0, peak_seconds=45.0),
        draw_ramp(dice.of_container(4), "ramp"),
    )
    return Node(containers=containers, cpus=12, faults=faults)


_FAULTS = (
    (
        "shim-loss",
        "The shim is lost for two minutes, and later for ten",
        "what a node does that nobody hears from, and what it costs to hear again",
        Faults(shim_lost_seconds=((900.0, 1_020.0), (2_000.0, 2_600.0))),
    ),
    (
        "server-restart",
        "The server restarts twice",
        "what a system forgets, and how long it needs to know it again",
        Faults(server_restart_seconds=(1_200.0, 2_400.0)),
    ),
    (
        "resize-deferred",
        "The kubelet defers one resize in twenty for 10 to 60 s",
        "whether a system believes what it ordered or what is in force",
        Faults(deferred_ratio=0.05, deferred_seconds=(10.0, 60.0)),
    ),
    (
        "clock-skew",
        "The nodes' clocks are half a minute ahead, and one report in fifty is lost",
        "whether times of two machines are compared anywhere",
        Faults(clock_skew_seconds=30.0, report_loss_ratio=0.02),
    ),
)

SCENARIOS = (
    Scenario(
        name="cold-start",
        tier=Tier.NICE,
        title="Four JVMs start at different times and run hot at first; two start again",
        shows="how much CPU a start gets, and how long the memory of it wastes",
        draw_node=_cold_start,
    ),
    Scenario(
        name="quota-namespaces",
        tier=Tier.NICE,
        title="Two namespaces declare half a node each and are busy by turns",
        shows="whether what one leaves reaches the other, and comes back in time",
        modelled="nothing is measured; a ResourceQuota is what the pods of a namespace declare "
        "together, nothing else enforces it",
        draw_node=_quota_namespaces,
    ),
    Scenario(
        name="cascading-failure",
        tier=Tier.NICE,
        title="Two of four replicas are lost one after the other; the others get their load",
        shows="whether the survivors are given enough before they fail too",
        modelled="nothing is measured; that callers ask a quarter more while replicas are missing "
        "is modelled too",
        draw_node=_cascading_failure,
    ),
    *(
        Scenario(
            name=name,
            tier=Tier.NICE,
            title=title,
            shows=shows,
            draw_node=partial(_mixed, faults=faults),
        )
        for name, title, shows, faults in _FAULTS
    ),
)
