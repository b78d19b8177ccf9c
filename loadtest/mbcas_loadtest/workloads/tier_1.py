"""Tier 1 of evaluation.md F.1: what every system that sets CPU must be able to do."""

from dataclasses import replace
from functools import partial

import numpy as np

from mbcas_loadtest.workloads.loads import Bursts, Constant, Levels
from mbcas_loadtest.workloads.noise import GammaWork
from mbcas_loadtest.workloads.parts import draw_service
from mbcas_loadtest.workloads.scenario import Container, Dice, Node, Scenario, Tier

OVERLOADS = (0.8, 1.0, 1.3, 2.0)
COMPETITORS = 8
COMPETED_CPUS = 4


def _idle_overprovisioned(dice: Dice, seconds: int) -> Node:
    del seconds
    containers = []
    for i in range(4):
        generator = dice.of_container(i)
        mean = generator.uniform(10.0, 30.0)
        load = Constant(mean_millicores=mean)
        containers.append(
            draw_service(
                generator,
                f"idle-{i}",
                load,
                mean_millicores=mean,
                declared_millicores=100,
                threads=1,
            )
        )
    return Node(containers=tuple(containers), cpus=2)


def _constant(dice: Dice, seconds: int) -> Node:
    del seconds
    containers = []
    for i in range(4):
        generator = dice.of_container(i)
        mean = generator.uniform(900.0, 1_100.0)
        containers.append(
            draw_service(
                generator,
                f"constant-{i}",
                Constant(mean_millicores=mean),
                mean_millicores=mean,
                declared_millicores=mean * generator.uniform(1.3, 1.8),
                threads=3,
            )
        )
    return Node(containers=tuple(containers), cpus=8)


def _bursty(dice: Dice, seconds: int) -> Node:
    del seconds
    return Node(
        containers=tuple(draw_burster(dice.of_container(i), f"bursty-{i}") for i in range(4)),
        cpus=16,
    )


def draw_burster(generator: np.random.Generator, name: str) -> Container:
    """Returns a container that bursts from about 100m to about 3000m."""
    high = generator.uniform(2_500.0, 3_500.0)
    load = Bursts(
        low_millicores=generator.uniform(80.0, 120.0),
        high_millicores=high,
        shortest_seconds=20.0,
        longest_seconds=60.0,
        gap_mean_seconds=generator.uniform(90.0, 300.0),
    )
    return draw_service(
        generator, name, load, mean_millicores=high, declared_millicores=3_500, threads=8
    )


def _competition(dice: Dice, seconds: int, *, overload: float) -> Node:
    """Draws pods that together want `overload` times the node in the mean.

    Their callers wait for answers, so what is not served in time is asked for less often: up to a
    few seconds of work wait, not the whole shortage of an hour.
    """
    del seconds
    parts = dice.of_node().dirichlet(np.full(COMPETITORS, 4.0))
    containers = []
    for i, part in enumerate(parts):
        generator = dice.of_container(i)
        mean = overload * COMPETED_CPUS * 1_000.0 * part
        load = Levels(
            mean_millicores=mean,
            spread=generator.uniform(0.2, 0.5),
            shortest_seconds=30.0,
            longest_seconds=180.0,
        )
        drawn = draw_service(
            generator,
            f"pod-{i}",
            load,
            mean_millicores=mean,
            declared_millicores=COMPETED_CPUS * 1_000.0 / COMPETITORS,
            threads=min(COMPETED_CPUS, 2 + int(mean / 500.0)),
        )
        waits_usec = mean * 1_000.0 * generator.uniform(1.0, 3.0)
        containers.append(replace(drawn, max_backlog_usec=waits_usec))
    return Node(containers=tuple(containers), cpus=COMPETED_CPUS)


def _noisy_neighbour(dice: Dice, seconds: int) -> Node:
    del seconds
    containers = []
    for i in range(3):
        generator = dice.of_container(i)
        mean = generator.uniform(400.0, 700.0)
        load = Levels(
            mean_millicores=mean, spread=0.25, shortest_seconds=30.0, longest_seconds=180.0
        )
        containers.append(
            draw_service(
                generator, f"service-{i}", load, mean_millicores=mean, declared_millicores=1_000
            )
        )
    return Node(containers=(*containers, _burner(dice.of_container(3))), cpus=4)


def _burner(generator: np.random.Generator) -> Container:
    """Returns one that declares a quarter of the node and asks for all of it, always."""
    request_usec = generator.uniform(50_000.0, 200_000.0)
    return Container(
        name="burner",
        load=Constant(mean_millicores=4_000.0),
        noise=GammaWork(cv=0.0),
        request_millicores=1_000,
        limit_millicores=1_000,
        is_batch=True,
        threads=4,
        request_usec=request_usec,
        max_backlog_usec=4 * request_usec,
    )


SCENARIOS = (
    Scenario(
        name="idle-overprovisioned",
        tier=Tier.MUST,
        title="Four pods declare 100m and use about 20m",
        shows="how much of an idle pod's CPU is given back, at which throttling",
        draw_node=_idle_overprovisioned,
    ),
    Scenario(
        name="constant",
        tier=Tier.MUST,
        title="Four services of about 1000m",
        shows="how close to a load that never changes a limit can stay, and how calmly",
        draw_node=_constant,
    ),
    Scenario(
        name="bursty",
        tier=Tier.MUST,
        title="Four pods burst from 100m to 3000m for 20 to 60 s",
        shows="how fast a burst is answered, and what is kept ready for the next one",
        draw_node=_bursty,
    ),
    *(
        Scenario(
            name=f"competition-{overload}",
            tier=Tier.MUST,
            title=f"Eight pods want {overload} times a node of 4000m",
            shows="who gets what where not all can have what they need",
            draw_node=partial(_competition, overload=overload),
        )
        for overload in OVERLOADS
    ),
    Scenario(
        name="noisy-neighbour",
        tier=Tier.MUST,
        title="One pod asks for four times what it declares, beside three services",
        shows="whether who asks for everything is kept from what the others need",
        draw_node=_noisy_neighbour,
    ),
)
