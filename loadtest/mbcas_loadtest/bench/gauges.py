"""Does the shortage gauge rank nodes as measured contention does (mechanism.md: Spearman > 0.8)?

The core as it is (`mbcas`, hard-quota, its default tau) lives on simulated nodes from idle to twice
too small. Of each node, over the seconds after the warm-up:

- **Gauge**: the mean over seconds of what `Rounds` last recorded as the reservation's shortage.
- **Contention**: (denied + starved) / demand, each summed over the node's containers. Denied: of
  each second's demand what the declared request covers (scaled down where requests exceed the
  CPUs) and was not served within that second. Starved: at the end of each period, runnable within
  its quota and not run, because the CPUs were busy. Demand: work that arrived.

Contention in this sense leaves out what a closed loop does not send because too much is waiting,
and counts limits that were too low on a node with CPU to spare. So its parts stand beside it, and:

- **Unmet**: (wanted - useful) / wanted, where wanted is demand and what was not sent, and useful is
  what was served within the second in which it arrived.
- **Throttled**: throttled periods of the containers' wall time, which mechanism.md names.
- **Lacking**: of the demand, what the node's CPUs are too few for, second by second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped] # It comes without types.

from mbcas_core.state import RESERVATION
from mbcas_core.units import FloatArray
from mbcas_loadtest.simulation.mbcas import MBCAS
from mbcas_loadtest.simulation.outcome import Phase
from mbcas_loadtest.simulation.run import simulate_together
from mbcas_loadtest.simulation.server import Server
from mbcas_loadtest.simulation.world import World
from mbcas_loadtest.workloads import catalog

OVERLOADED = ("competition-1.0", "competition-1.3", "competition-2.0", "noisy-neighbour")
SCENARIOS = ("constant", "bursty", "competition-0.8", *OVERLOADED)
CONTENTION = "contention"
ASKED_RHO = 0.8
RESAMPLES = 2000
INTERVAL_RATIO = 0.95


def bench_gauges(
    nodes: int,
    seconds: int,
    seed: int,
    *,
    scenarios: Sequence[str] = SCENARIOS,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Returns rank correlations over all nodes and over the overloaded ones, and each node's pair.

    Args:
        nodes: Of each scenario.
        seconds: Of each world; the first third warms up, at most as much as in an evaluation.
        seed: Of the first node of each scenario; the others follow.
        scenarios: Names in the catalog of workloads.
        tell: Is told what is measured now.
    """
    drawn = [catalog.draw(name, range(seed, seed + nodes), seconds=seconds) for name in scenarios]
    warmup = seconds // 3
    worlds = [replace(one, warmup_seconds=min(one.warmup_seconds, warmup)) for one in drawn]
    tell(f"{len(worlds)} scenarios of {nodes} nodes, {seconds} s each")
    found = dict(zip(scenarios, _measure(worlds), strict=True))
    groups = {
        "all": list(scenarios),
        "overloaded": [name for name in scenarios if name in OVERLOADED],
    }
    return {
        "nodes": nodes,
        "seconds": seconds,
        "seed": seed,
        "asked": ASKED_RHO,
        "spearman": {
            group: _correlations([found[name] for name in names])
            for group, names in groups.items()
            if names
        },
        "scenarios": {name: _describe(each) for name, each in found.items()},
    }


def measured_contention(part: Phase) -> dict[str, FloatArray]:
    """Returns the measures (m,) of each node; the module says what they are."""
    demand = part.demand_core_seconds.sum(axis=1)
    wanted = demand + part.unsent_core_seconds.sum(axis=1)
    denied = part.denied_core_seconds.sum(axis=1) / demand
    starved = part.starved_core_seconds.sum(axis=1) / demand
    return {
        CONTENTION: denied + starved,
        "denied": denied,
        "starved": starved,
        "unmet": 1.0 - part.useful_core_seconds.sum(axis=1) / wanted,
        "throttled": part.throttled_periods.sum(axis=1) / part.wall_periods.sum(axis=1),
        "lacking": 1.0 - part.possible_core_seconds.sum(axis=1) / demand,
    }


def _measure(worlds: Sequence[World]) -> list[dict[str, FloatArray]]:
    """Lives through worlds of m nodes each; the gauge and the measures of each node."""
    total: FloatArray = np.zeros((len(worlds), worlds[0].shape[0]))
    counted = 0

    def watch(server: Server, seconds: float) -> None:
        nonlocal counted
        if seconds > worlds[0].warmup_seconds:
            fleet, market = server.rounds.state.fleet, server.rounds.state.market
            rows = [[fleet.find_node(name) for name in each] for each in server.nodes.values()]
            total[...] += market.shortage[np.array(rows, np.int64), RESERVATION]
            counted += 1

    outcomes = simulate_together(worlds, MBCAS, MBCAS.default, watch=watch)
    return [
        {"shortage": gauge / max(counted, 1)} | measured_contention(outcome.measured)
        for gauge, outcome in zip(total, outcomes, strict=True)
    ]


def _correlations(parts: Sequence[Mapping[str, FloatArray]]) -> dict[str, Any]:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    gauge = joined.pop("shortage")
    return {"nodes": len(gauge)} | {
        name: _spearman(gauge, measured) for name, measured in joined.items()
    }


def _spearman(gauge: FloatArray, measured: FloatArray) -> dict[str, Any]:
    """Returns rho and its bootstrap interval; None where one side is the same everywhere."""
    rho = float(_rho(gauge, measured))
    draw = np.random.default_rng(len(gauge))
    chosen = draw.integers(0, len(gauge), (RESAMPLES, len(gauge)))
    resampled = _rho(gauge[chosen], measured[chosen])
    tail = (1.0 - INTERVAL_RATIO) / 2.0
    ends = np.nanquantile(resampled, [tail, 1.0 - tail]) if np.isfinite(rho) else None
    return {
        "rho": _rounded(rho),
        "interval": None if ends is None else [round(float(end), 3) for end in ends],
    }


def _rho(gauge: FloatArray, measured: FloatArray) -> FloatArray:
    """Returns Spearman's rho along the last axis; NaN where one side is the same everywhere."""
    first, second = (stats.rankdata(side, axis=-1) for side in (gauge, measured))
    first, second = (side - side.mean(axis=-1, keepdims=True) for side in (first, second))
    spread = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    together = (first * second).sum(axis=-1)
    rho: FloatArray = np.full(np.shape(together), np.nan)
    np.divide(together, spread, out=rho, where=spread > 0)
    return rho


def _rounded(rho: float) -> float | None:
    return round(rho, 3) if np.isfinite(rho) else None


def _describe(part: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Returns means, rho within the scenario, and each node's gauge and contention."""
    rho = float(_rho(part["shortage"], part[CONTENTION]))
    return {
        "mean": {name: round(float(values.mean()), 4) for name, values in part.items()},
        "rho_within": _rounded(rho),
        "shortage": np.round(part["shortage"], 4).tolist(),
        CONTENTION: np.round(part[CONTENTION], 4).tolist(),
    }
