"""The whole result of an evaluation; page and JSON are made from it and nothing else."""

import dataclasses
import math
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from typing import Any

import numpy as np
from pydantic import BaseModel

from mbcas_core.units import FloatArray
from mbcas_loadtest.evaluation import registration as registered
from mbcas_loadtest.evaluation import standings, targets
from mbcas_loadtest.evaluation.board import ORACLE_EXCESS_MAX, Board, Entry, best_knob
from mbcas_loadtest.evaluation.family import Test, family_size, family_tests
from mbcas_loadtest.evaluation.grid import CLUSTERS, Wish
from mbcas_loadtest.evaluation.prototype import Row, table_rows
from mbcas_loadtest.evaluation.registration import Kind
from mbcas_loadtest.evaluation.runner import Results
from mbcas_loadtest.versions import code_version

SCHEMA = "mbcas.evaluation/1"
_PACKAGES = ("numpy", "scipy", "matplotlib")
_MODULES = ("mbcas_loadtest.evaluation.report", "mbcas_loadtest.rivals.catalog")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRow:
    """One system at its best knob in one scenario, in clusters of different size."""

    scenario: str
    system: str
    knob: float
    figures: dict[int, dict[str, float]]
    """Means over seeds of each quantity, by the number of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullCluster:
    """All nodes of a cluster against a sample of them with its share of the budget."""

    scenario: str
    system: str
    nodes: int
    sample: int
    full_figures: dict[str, float]
    sample_figures: dict[str, float]
    sample_spread: dict[str, float]
    """Standard error of the sample's means, from its nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is shown."""

    kind: Kind
    seeds: tuple[int, ...]
    registration_sha256: str
    frozen_on: str | None
    deviations: tuple[str, ...]
    """Why it is not the registered evaluation."""
    versions: dict[str, str]
    targets: tuple[targets.Target, ...]
    tests: tuple[Test, ...]
    family_size: int
    """Tests that are registered for a tier; those that could not be made count as p = 1."""
    scenarios: tuple[standings.ScenarioStandings, ...]
    clusters: tuple[ClusterRow, ...]
    full_cluster: FullCluster | None
    table: tuple[Row, ...]
    unsound_oracle: dict[str, float]
    """Scenarios in which the oracle throttles more than its tau, and by how much."""
    best_knobs: dict[str, dict[str, float]]
    """Of each system and tier, on these seeds: what tuning seeds choose, test seeds report."""
    best_at_end: dict[str, list[str]]
    """Tiers in which a system's registered best lies at its sweep's end: no claim is made there."""
    sources: dict[str, str]
    """Where each system's rule comes from."""
    knobs: dict[str, str]
    goods: dict[str, int]
    speeds: dict[str, float]
    """Seconds per container-hour of each system, on one core of this machine."""
    counts: dict[str, dict[str, int]]
    """Violations of MBCAS's rules, and what else each system's runs counted, summed. Who shares by
    another rule violates what that rule does not promise."""
    failed: dict[str, str]
    """Runs that ended in an error, by label."""
    ignored: tuple[str, ...]
    """Cache entries that could not be used, and why."""
    runs: int
    runs_cached: int
    matched_throttled_ratio: float
    alpha: float
    short_of_cpu: tuple[str, ...]
    """Scenarios in which no knob avoids throttling."""
    main_systems: tuple[str, ...]
    """The system, its family, and the oracle: what stands out."""


def make_report(
    board: Board,
    results: Results,
    *,
    wish: Wish,
    file_hash: str,
    frozen: Mapping[str, str],
    speeds: Mapping[str, float],
    ignored: tuple[str, ...] = (),
    full_cluster: FullCluster | None = None,
) -> Report:
    """Computes everything that is shown."""
    deviations = registered.find_deviations(
        board.registration,
        file_hash=file_hash,
        frozen=frozen,
        seeds=wish.seeds,
        seconds=wish.seconds,
        ran=board.ran(),
    )
    systems = {job.system for job in results.figures}
    return Report(
        kind=registered.kind_of(wish.seeds, deviations),
        seeds=wish.seeds,
        registration_sha256=file_hash,
        frozen_on=frozen.get(file_hash),
        deviations=tuple(deviations),
        versions=_versions(),
        targets=tuple(targets.find_targets(board)),
        tests=tuple(test for tier in board.tiers() for test in family_tests(board, tier)),
        family_size=family_size(board.registration),
        scenarios=tuple(standings.scenario_standings(board, entry) for entry in board.entries),
        clusters=tuple(_clusters(board)),
        full_cluster=full_cluster,
        table=tuple(table_rows(board)),
        unsound_oracle={
            entry.name: excess
            for entry in board.entries
            if entry.name not in board.registration.short_of_cpu
            and (excess := board.oracle_excess(entry.name)) > ORACLE_EXCESS_MAX
        },
        best_knobs=_best_knobs(board),
        best_at_end=_best_at_end(board),
        sources={name: one.source for name, one in board.rivals.items() if name in systems},
        knobs={name: one.knob for name, one in board.rivals.items() if name in systems},
        goods={name: one.goods for name, one in board.rivals.items() if name in systems},
        speeds={name: speed for name, speed in speeds.items() if name in systems},
        counts=_counts(results),
        failed={job.label: error for job, error in results.failed.items()},
        ignored=ignored,
        runs=len(results.figures),
        runs_cached=results.cached_count,
        matched_throttled_ratio=board.registration.matched_throttled_ratio,
        alpha=board.registration.alpha,
        short_of_cpu=board.registration.short_of_cpu,
        main_systems=tuple(
            dict.fromkeys((board.system, *board.registration.family, board.registration.oracle))
        ),
    )


def to_json(report: Report) -> dict[str, Any]:
    """Returns the report as JSON can hold it: what is not finite is null."""
    plain = _plain({"schema": SCHEMA, **dataclasses.asdict(report)})
    assert isinstance(plain, dict), "a mapping stays one"
    return plain


def make_full_cluster(
    scenario: str, system: str, full: Mapping[str, FloatArray], sample: Mapping[str, FloatArray]
) -> FullCluster:
    """Holds a sample of nodes against the whole cluster."""
    count = len(sample["waste"])
    return FullCluster(
        scenario=scenario,
        system=system,
        nodes=len(full["waste"]),
        sample=count,
        full_figures={name: _mean(values) for name, values in full.items()},
        sample_figures={name: _mean(values) for name, values in sample.items()},
        sample_spread={
            name: float(np.std(values, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
            for name, values in sample.items()
        },
    )


def _clusters(board: Board) -> list[ClusterRow]:
    registration = board.registration
    rows = []
    for entry in board.entries:
        for system in (registration.system, *registration.family):
            found = _cluster_figures(board, entry, system)
            if len(found) > 1:
                rows.append(
                    ClusterRow(
                        scenario=entry.name,
                        system=system,
                        knob=board.knob(system, entry.tier),
                        figures=found,
                    )
                )
    return rows


def _cluster_figures(board: Board, entry: Entry, system: str) -> dict[int, dict[str, float]]:
    found = {}
    for nodes in CLUSTERS:
        figures = board.operated(entry, system, nodes=nodes)
        if figures is not None:
            found[nodes] = {name: _mean(values) for name, values in figures.items()}
    return found


def _best_knobs(board: Board) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for system in board.rivals:
        for tier in board.tiers():
            knob = best_knob(board, system, tier)
            if knob is not None:
                found.setdefault(system, {})[tier] = knob
    return found


def _best_at_end(board: Board) -> dict[str, list[str]]:
    ran = {(system, one.tier): None for one in board.entries for system in board.systems(one.name)}
    found: dict[str, list[str]] = {}
    for system, tier in ran:
        if board.is_at_end(system, tier):
            found.setdefault(system, []).append(tier)
    return found


def _counts(results: Results) -> dict[str, dict[str, int]]:
    total: dict[str, Counter[str]] = {}
    for job, counts in results.counts.items():
        if counts:
            total.setdefault(job.system, Counter()).update(counts)
    return {system: dict(sorted(total[system].items())) for system in sorted(total)}


def _versions() -> dict[str, str]:
    return {
        "code": code_version(_MODULES)[:12],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        "machine": platform.machine(),
    }


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _plain(value: object) -> object:
    match value:
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case Enum():
            return value.value
        case BaseModel():
            return _plain(value.model_dump())
        case float():  # Numpy's floats are floats, too.
            return float(value) if math.isfinite(value) else None
        case _:
            return value
