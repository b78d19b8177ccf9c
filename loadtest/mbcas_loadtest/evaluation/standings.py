"""Who stands where: each system's frontier in each scenario, and how far it is from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.evaluation import frontier, statistics
from mbcas_loadtest.evaluation.board import Board, Entry, Sweep, mean_of_finite
from mbcas_loadtest.evaluation.figures import QUANTITIES
from mbcas_loadtest.evaluation.registration import Endpoint

LEAST_COMPARED_SECONDS = 1e-3
"""Delays below this are taken as this much: their ratio says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a knob, means over seeds."""

    knob: float
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One system in one scenario."""

    system: str
    goods: int
    points: tuple[Point, ...]
    best_knob: float
    is_best_at_end: bool
    """The best knob lies at the sweep's end: what lies beyond was not tried."""
    default_knob: float
    hypervolume: float
    matched: dict[str, float]
    """Every quantity where the registered share is throttled, NaN where no knob reaches it."""
    is_matched_at_end: bool
    """What is matched is the figures of the last knob that ran."""
    gap_closed: float
    """Of the way from the base's waste to the oracle's, both at that share."""
    waste_difference: statistics.Paired | None
    """MBCAS minus this one, at that share; None for MBCAS itself."""
    differences: dict[str, statistics.Paired]
    """MBCAS minus this one in each endpoint, each at its best knob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioStandings:
    """All systems in one scenario."""

    scenario: Entry
    standings: tuple[Standing, ...]
    rankings: dict[str, statistics.Ranking]
    """Of each endpoint: whether any system differs, each at its best knob."""


def scenario_standings(board: Board, entry: Entry) -> ScenarioStandings:
    """Computes what there is to say about a scenario."""
    systems = board.systems(entry.name)
    return ScenarioStandings(
        scenario=entry,
        standings=tuple(_standing(board, entry, system) for system in systems),
        rankings=_rankings(board, entry, systems),
    )


def endpoint_values(endpoint: Endpoint, values: FloatArray) -> FloatArray:
    """Returns an endpoint on the scale on which it is compared."""
    if endpoint.compared == "difference":
        return values
    known = np.where(np.isfinite(values), np.maximum(values, LEAST_COMPARED_SECONDS), 1.0)
    logs: FloatArray = np.where(np.isfinite(values), np.log(known), np.nan)
    return logs


def _standing(board: Board, entry: Entry, system: str) -> Standing:
    registration, rival = board.registration, board.rivals[system]
    sweep = board.sweep(entry.name, system)
    assert sweep is not None, "it is listed because it ran"
    share = registration.matched_throttled_ratio
    own = board.sweep(entry.name, board.system)
    return Standing(
        system=system,
        goods=rival.goods,
        points=_points(sweep),
        best_knob=board.knob(system, entry.tier),
        is_best_at_end=board.is_at_end(system, entry.tier),
        default_knob=rival.default,
        hypervolume=frontier.hypervolume(
            sweep.mean("throttled"),
            sweep.mean("waste"),
            reference=registration.hypervolume_reference,
        ),
        matched={name: sweep.matched_mean(name, share=share) for name in QUANTITIES},
        is_matched_at_end=len(rival.sweep) > 1 and sweep.is_matched_at_end(share=share),
        gap_closed=_gap_closed(board, entry, sweep),
        waste_difference=None
        if own is None or system == board.system
        else statistics.compare(
            own.matched("waste", share=share), sweep.matched("waste", share=share)
        ),
        differences={} if system == board.system else _differences(board, entry, system),
    )


def _points(sweep: Sweep) -> tuple[Point, ...]:
    means = {name: sweep.mean(name) for name in sweep.values}
    return tuple(
        Point(knob=knob, figures={name: float(each[index]) for name, each in means.items()})
        for index, knob in enumerate(sweep.knobs)
    )


def _gap_closed(board: Board, entry: Entry, sweep: Sweep) -> float:
    share = board.registration.matched_throttled_ratio
    base = board.sweep(entry.name, board.registration.base)
    oracle = board.sweep(entry.name, board.registration.oracle)
    if base is None or oracle is None:
        return np.nan
    return frontier.gap_closed(
        *(one.matched_mean("waste", share=share) for one in (base, sweep, oracle))
    )


def _differences(board: Board, entry: Entry, system: str) -> dict[str, statistics.Paired]:
    own, other = board.operated(entry, board.system), board.operated(entry, system)
    if own is None or other is None:
        return {}
    return {
        endpoint.name: statistics.compare(
            endpoint_values(endpoint, own[endpoint.name]),
            endpoint_values(endpoint, other[endpoint.name]),
        )
        for endpoint in board.registration.endpoints
    }


def _rankings(board: Board, entry: Entry, systems: Sequence[str]) -> dict[str, statistics.Ranking]:
    operated = [board.operated(entry, system) for system in systems]
    there = [figures for figures in operated if figures is not None]
    found = {}
    for endpoint in board.registration.endpoints:
        columns = [endpoint_values(endpoint, figures[endpoint.name]) for figures in there]
        # A system without this quantity, such as one that never settles, is no reason to skip all.
        whole = [column for column in columns if np.isfinite(column).all()]
        if not whole:
            continue
        ranking = statistics.rank_systems(np.stack(whole, axis=1))
        if ranking is not None:
            found[endpoint.name] = ranking
    return found


def tier_values(board: Board, tier: str, system: str, endpoint: Endpoint) -> FloatArray | None:
    """Returns an endpoint of a system at its best knob, for each seed the mean over a tier, (m,).

    Scenarios are fixed and seeds are drawn, so seeds are the units. None where it did not run in
    every scenario of the tier that ran.
    """
    entries = [entry for entry in board.entries if entry.tier == tier]
    operated = [board.operated(entry, system) for entry in entries]
    there = [figures for figures in operated if figures is not None]
    if not there or len(there) != len(operated):
        return None
    values = np.stack([endpoint_values(endpoint, one[endpoint.name]) for one in there], axis=1)
    # A scenario where nobody waits has no delay; it is left out for all seeds and systems alike.
    return mean_of_finite(values)
