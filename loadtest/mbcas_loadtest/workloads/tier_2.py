"""Tier 2 of evaluation.md F.1: delays, batch beside services, periods, ramps, request rates."""

from dataclasses import replace
from functools import partial

import numpy as np

from mbcas_core.events import PriorityClass
from mbcas_loadtest.workloads.loads import Constant, Levels, Periodic, Ramp
from mbcas_loadtest.workloads.noise import GammaWork
from mbcas_loadtest.workloads.parts import draw_requests, draw_service
from mbcas_loadtest.workloads.rates import RATES_MODELLED, draw_rate
from mbcas_loadtest.workloads.scenario import Container, Dice, Node, Scenario, Tier

SLO_DELAY_SECONDS = 0.1


def draw_queue(
    generator: np.random.Generator, name: str, *, priority: PriorityClass = PriorityClass.NORMAL
) -> Container:
    """Returns a service with Poisson requests, a level that moves, and a bound on its P99."""
    mean = generator.uniform(400.0, 1_200.0)
    noise = draw_requests(generator, mean)
    return Container(
        name=name,
        load=Levels(
            mean_millicores=mean,
            spread=generator.uniform(0.1, 0.3),
            shortest_seconds=60.0,
            longest_seconds=300.0,
        ),
        noise=noise,
        request_millicores=2_000,
        limit_millicores=2_000,
        priority=priority,
        request_usec=noise.request_usec,
        slo_delay_seconds=SLO_DELAY_SECONDS,
    )


def _slo_queue(dice: Dice, seconds: int) -> Node:
    del seconds
    return Node(
        containers=tuple(draw_queue(dice.of_container(i), f"queue-{i}") for i in range(3)), cpus=8
    )


def draw_batch(generator: np.random.Generator, name: str) -> Container:
    """Returns a few workers that always have the next piece of work."""
    workers = int(generator.integers(2, 5))
    piece_usec = generator.uniform(100_000.0, 2_000_000.0)
    return Container(
        name=name,
        load=Constant(mean_millicores=workers * 1_000.0),
        noise=GammaWork(cv=0.0),
        request_millicores=1_000,
        limit_millicores=1_000,
        priority=PriorityClass.LOW,
        is_batch=True,
        threads=workers,
        request_usec=piece_usec,
        max_backlog_usec=workers * piece_usec,
    )


def _batch_and_services(dice: Dice, seconds: int) -> Node:
    del seconds
    services = [
        replace(
            draw_queue(dice.of_container(i), f"service-{i}", priority=PriorityClass.CRITICAL),
            request_millicores=1_500,
            limit_millicores=1_500,
        )
        for i in range(2)
    ]
    batch = [draw_batch(dice.of_container(i), f"batch-{i - 2}") for i in (2, 3)]
    return Node(containers=(*services, *batch), cpus=6)


def draw_periodic(
    generator: np.random.Generator, name: str, *, period_seconds: float, peak_seconds: float
) -> Container:
    """Returns a container with a peak in every period, at a phase of its own."""
    high = generator.uniform(1_500.0, 2_500.0)
    load = Periodic(
        low_millicores=generator.uniform(100.0, 300.0),
        high_millicores=high,
        period_seconds=period_seconds,
        peak_seconds=peak_seconds,
        phase_seconds=generator.uniform(0.0, period_seconds),
    )
    return draw_service(
        generator, name, load, mean_millicores=high, declared_millicores=2_500, threads=6
    )


def _periodic(dice: Dice, seconds: int, *, period_seconds: float) -> Node:
    del seconds
    containers = []
    for i in range(4):
        generator = dice.of_container(i)
        peak_seconds = generator.uniform(30.0, 60.0) * (period_seconds / 300.0) ** 0.5
        containers.append(
            draw_periodic(
                generator, f"cron-{i}", period_seconds=period_seconds, peak_seconds=peak_seconds
            )
        )
    return Node(containers=tuple(containers), cpus=12)


def draw_ramp(generator: np.random.Generator, name: str) -> Container:
    """Returns a container that grows from 100m to 2000m in five minutes, and falls later."""
    start = generator.uniform(700.0, 1_500.0)
    load = Ramp(
        from_millicores=100.0,
        to_millicores=2_000.0,
        start_seconds=start,
        rise_seconds=300.0,
        fall_start_seconds=start + 300.0 + generator.uniform(300.0, 1_200.0),
    )
    return draw_service(
        generator, name, load, mean_millicores=1_000.0, declared_millicores=2_500, threads=6
    )


def _ramp(dice: Dice, seconds: int) -> Node:
    del seconds
    return Node(
        containers=tuple(draw_ramp(dice.of_container(i), f"ramp-{i}") for i in range(4)), cpus=12
    )


def _request_rate(dice: Dice, seconds: int, *, shape: str) -> Node:
    containers = []
    for i in range(4):
        generator = dice.of_container(i)
        mean = generator.uniform(500.0, 1_500.0)
        noise = draw_requests(generator, mean)
        containers.append(
            Container(
                name=f"service-{i}",
                load=draw_rate(generator, shape, mean_millicores=mean, seconds=seconds),
                noise=noise,
                request_millicores=3_000,
                limit_millicores=3_000,
                threads=6,
                request_usec=noise.request_usec,
                slo_delay_seconds=SLO_DELAY_SECONDS,
            )
        )
    return Node(containers=tuple(containers), cpus=16)


SCENARIOS = (
    Scenario(
        name="slo-queue",
        tier=Tier.SHOULD,
        title="Three services with Poisson requests; their P99 delay must stay below 100 ms",
        shows="what a bound on delay costs, in CPU",
        draw_node=_slo_queue,
    ),
    Scenario(
        name="batch-and-services",
        tier=Tier.SHOULD,
        title="Two greedy batch jobs beside two critical services",
        shows="whether batch gets what services leave, and no more",
        draw_node=_batch_and_services,
    ),
    Scenario(
        name="periodic-300s",
        tier=Tier.SHOULD,
        title="Four pods with a peak every 300 s",
        shows="whether the next peak is met, not followed",
        draw_node=partial(_periodic, period_seconds=300.0),
    ),
    Scenario(
        name="periodic-1800s",
        tier=Tier.SHOULD,
        title="Four pods with a peak every half an hour, for three hours",
        shows="the same for a period that takes an hour and a half to see three times",
        seconds=3 * 3600,
        draw_node=partial(_periodic, period_seconds=1_800.0),
    ),
    Scenario(
        name="ramp",
        tier=Tier.SHOULD,
        title="Four pods grow from 100m to 2000m in five minutes, and fall later",
        shows="how far behind a growing load a limit runs",
        draw_node=_ramp,
    ),
    *(
        Scenario(
            name=f"autothrottle-{shape}",
            tier=Tier.SHOULD,
            title=f"Four services under Autothrottle's {shape} request rate",
            shows="rates as applications meet them, with the noise of Poisson requests",
            modelled=f"{RATES_MODELLED[shape]}; modelled: its scale, Poisson arrivals, what a "
            "request costs",
            draw_node=partial(_request_rate, shape=shape),
        )
        for shape in RATES_MODELLED
    ),
)
