"""Tier 1 of evaluation.md F.1: what every system that sets CPU must be able to do."""

import numpy as np

from mbcas_loadtest.workloads.loads import Bursts, Constant
from mbcas_loadtest.workloads.noise import GammaWork
from mbcas_loadtest.workloads.parts import draw_cv, draw_request_usec
from mbcas_loadtest.workloads.scenario import Container, Dice, Node, Scenario, Tier


def _idle_overprovisioned(dice: Dice, seconds: int) -> Node:
    del seconds
    return Node(
        containers=tuple(_idle(dice.of_container(i), f"idle-{i}") for i in range(4)), cpus=2
    )


def _idle(generator: np.random.Generator, name: str) -> Container:
    mean = generator.uniform(10.0, 30.0)
    cv = draw_cv(generator)
    return Container(
        name=name,
        load=Constant(mean_millicores=mean),
        noise=GammaWork(cv=cv),
        request_millicores=100,
        limit_millicores=100,
        threads=2,
        request_usec=draw_request_usec(generator, mean, cv),
    )


def _bursty(dice: Dice, seconds: int) -> Node:
    del seconds
    return Node(
        containers=tuple(_burster(dice.of_container(i), f"bursty-{i}") for i in range(4)), cpus=16
    )


def _burster(generator: np.random.Generator, name: str) -> Container:
    low, high = generator.uniform(80.0, 120.0), generator.uniform(2_500.0, 3_500.0)
    cv = draw_cv(generator)
    return Container(
        name=name,
        load=Bursts(
            low_millicores=low,
            high_millicores=high,
            shortest_seconds=20.0,
            longest_seconds=60.0,
            gap_mean_seconds=generator.uniform(120.0, 300.0),
        ),
        noise=GammaWork(cv=cv),
        request_millicores=3_500,
        limit_millicores=3_500,
        threads=8,
        request_usec=draw_request_usec(generator, high, cv),
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
        name="bursty",
        tier=Tier.MUST,
        title="Four pods burst from 100m to 3000m for 20 to 60 s",
        shows="how fast a burst is answered, and what waits for the next one",
        draw_node=_bursty,
    ),
)
