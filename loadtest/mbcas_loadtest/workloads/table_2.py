"""The loads of the table in evaluation.md, section 2: half an hour, one container, Gamma work.

What the table does not say is chosen here: the levels of `periodic` (100m and 2000m), the gaps of
`bursty` (exponential, 90 s in the mean), that `ramp` grows once, from minute 12 on, and then stays,
that the traces have a mean of one core, what is declared (one and a half times the peak), and that
nothing else runs on a node that is large enough.
"""

from collections.abc import Callable

import numpy as np

from mbcas_loadtest.workloads.loads import Bursts, Constant, Load, Periodic, Ramp
from mbcas_loadtest.workloads.noise import GammaWork
from mbcas_loadtest.workloads.parts import draw_request_usec
from mbcas_loadtest.workloads.rates import RATES_MODELLED, draw_rate
from mbcas_loadtest.workloads.scenario import Container, Dice, Node, Scenario, Tier

SECONDS = 1_800
CPUS = 16
DECLARED_RATIO = 1.5
FROM_RATES = ("diurnal", "noisy")
"""Loads that follow the recorded rate of their name; `bursty` does not."""


def _steady(generator: np.random.Generator, seconds: int) -> Load:
    del generator, seconds
    return Constant(mean_millicores=1_000.0)


def _idle(generator: np.random.Generator, seconds: int) -> Load:
    del generator, seconds
    return Constant(mean_millicores=20.0)


def _ramp(generator: np.random.Generator, seconds: int) -> Load:
    del seconds
    return Ramp(
        from_millicores=100.0,
        to_millicores=2_000.0,
        start_seconds=720.0 + generator.uniform(0.0, 60.0),
        rise_seconds=300.0,
    )


def _periodic(generator: np.random.Generator, seconds: int) -> Load:
    del seconds
    return Periodic(
        low_millicores=100.0,
        high_millicores=2_000.0,
        period_seconds=300.0,
        peak_seconds=45.0,
        phase_seconds=generator.uniform(0.0, 300.0),
    )


def _bursty(generator: np.random.Generator, seconds: int) -> Load:
    del generator, seconds
    return Bursts(
        low_millicores=100.0,
        high_millicores=3_000.0,
        shortest_seconds=20.0,
        longest_seconds=40.0,
        gap_mean_seconds=90.0,
    )


def _diurnal(generator: np.random.Generator, seconds: int) -> Load:
    return draw_rate(generator, "diurnal", mean_millicores=1_000.0, seconds=seconds)


def _noisy(generator: np.random.Generator, seconds: int) -> Load:
    return draw_rate(generator, "noisy", mean_millicores=1_000.0, seconds=seconds)


def _scenario(
    name: str,
    title: str,
    make: Callable[[np.random.Generator, int], Load],
    *,
    cv: float,
    peak_millicores: float,
    threads: int,
) -> Scenario:
    def draw_node(dice: Dice, seconds: int) -> Node:
        generator = dice.of_container(0)
        load = make(generator, seconds)
        one = Container(
            name=name,
            load=load,
            noise=GammaWork(cv=cv),
            request_millicores=DECLARED_RATIO * peak_millicores,
            limit_millicores=DECLARED_RATIO * peak_millicores,
            threads=threads,
            request_usec=draw_request_usec(generator, peak_millicores, cv),
        )
        return Node(containers=(one,), cpus=CPUS)

    measured = RATES_MODELLED[name] if name in FROM_RATES else "nothing is measured"
    return Scenario(
        name=f"table-2-{name}",
        tier=Tier.TABLE_2,
        title=f"{title}, CV {cv} of 100 ms",
        shows="how the prototype's figures compare with what is measured now",
        modelled=f"{measured}; modelled: all else, as Gamma work",
        seconds=SECONDS,
        draw_node=draw_node,
    )


SCENARIOS = (
    _scenario("steady", "Steady, 1 core", _steady, cv=0.1, peak_millicores=1_000.0, threads=2),
    _scenario("service", "A service, 1 core", _steady, cv=0.3, peak_millicores=1_000.0, threads=2),
    _scenario("idle", "Idle, 20m", _idle, cv=0.5, peak_millicores=20.0, threads=1),
    _scenario(
        "ramp",
        "From 100m to 2000m in five minutes",
        _ramp,
        cv=0.2,
        peak_millicores=2_000.0,
        threads=5,
    ),
    _scenario(
        "periodic",
        "A peak of 45 s every 300 s",
        _periodic,
        cv=0.2,
        peak_millicores=2_000.0,
        threads=5,
    ),
    _scenario(
        "bursty",
        "100m to 3000m for 20 to 40 s",
        _bursty,
        cv=0.3,
        peak_millicores=3_000.0,
        threads=8,
    ),
    _scenario(
        "diurnal",
        "Autothrottle's diurnal rate",
        _diurnal,
        cv=0.3,
        peak_millicores=1_500.0,
        threads=4,
    ),
    _scenario(
        "noisy", "Autothrottle's noisy rate", _noisy, cv=0.3, peak_millicores=1_500.0, threads=4
    ),
)
