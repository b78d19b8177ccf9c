"""Made-up outcomes: each system has its own waste and throttling, each seed its own difficulty."""

from dataclasses import fields

import numpy as np

from mbcas_core.units import FloatArray
from mbcas_loadtest.evaluation.board import Board, Entry
from mbcas_loadtest.evaluation.figures import figures
from mbcas_loadtest.evaluation.jobs import Job
from mbcas_loadtest.evaluation.registration import Registration
from mbcas_loadtest.evaluation.runner import Results
from mbcas_loadtest.simulation.outcome import Outcome, Phase, Series
from mbcas_loadtest.simulation.system import Rival

SEEDS = tuple(range(1000, 1010))
TIER = "T1"
KNOBS = (0.01, 0.05, 0.2)
WASTE = {"mbcas": 0.35, "captain-api": 0.40, "vpa-pretrained": 0.5, "oracle-15s": 0.3, "vpa": 0.6}


def phase(shape: tuple[int, int] = (2, 2), **changes: FloatArray | float) -> Phase:
    """Builds a phase of an hour in which everything is 1 unless said otherwise."""
    values: dict[str, FloatArray | float] = {field.name: 1.0 for field in fields(Phase)}
    values |= {"seconds": 3600.0, "wall_periods": 36_000.0, "limit_core_seconds": 2.0}
    values |= changes
    return Phase(**{name: np.broadcast_to(value, shape) * 1.0 for name, value in values.items()})


def outcome(
    shape: tuple[int, int] = (2, 2),
    *,
    settling_seconds: float = 60.0,
    peak_throttled_ratio: FloatArray | float = 0.1,
    **changes: FloatArray | float,
) -> Outcome:
    """Builds an outcome; changes are of what is measured."""
    return Outcome(
        scenario="steady",
        system="mbcas",
        knob=0.05,
        seeds=tuple(range(1000, 1000 + shape[0])),
        cpus=4,
        warmup=phase(shape, seconds=600.0, wall_periods=6_000.0),
        measured=phase(shape, **changes),
        settling_seconds=np.full(shape, settling_seconds),
        peak_throttled_ratio=np.broadcast_to(peak_throttled_ratio, shape) * 1.0,
        counts={"violation-1": 0},
    )


def series_outcome(seconds: int = 40) -> Outcome:
    """Builds an outcome that kept what happened each second."""
    steps = np.linspace(0, 800, seconds * 2, dtype=np.float32).reshape(seconds, 2)
    one = outcome((1, 2))
    limits = steps + 100
    limits[:, 1] = np.inf
    series = Series(
        node=0,
        usage_millicores=steps,
        demand_millicores=steps,
        limit_millicores=limits,
        request_millicores=steps,
        throttled_ratio=np.full_like(steps, 0.3),
        backlog_core_seconds=steps * 0,
    )
    return Outcome(
        **{
            field.name: getattr(one, field.name)
            for field in fields(Outcome)
            if field.name != "series"
        },
        series=series,
    )


def registration(**changes: object) -> Registration:
    """Builds a registration of one scenario."""
    content: dict[str, object] = {
        "schema": "mbcas.preregistration/1",
        "alpha": 0.05,
        "matched_throttled_ratio": 0.05,
        "hypervolume_reference": [0.2, 1.0],
        "test_seeds": {"first": 1000, "count": 10},
        "tuning_seeds": {"first": 0, "count": 10},
        "system": "mbcas",
        "family": ["vpa-pretrained", "captain-api"],
        "base": "vpa-pretrained",
        "oracle": "oracle-15s",
        "endpoints": [
            {"name": "waste", "compared": "difference", "margin": 0.02},
            {"name": "throttled", "compared": "difference", "margin": 0.01},
            {"name": "p99_seconds", "compared": "ratio", "margin": 0.05},
            {"name": "changes_per_hour", "compared": "difference", "margin": 5.0},
            {"name": "settling_seconds", "compared": "difference"},
        ],
        "scenarios": {TIER: ["constant"]},
        "sweeps": {"mbcas": KNOBS, "captain-api": KNOBS, "vpa-pretrained": KNOBS},
    }
    return Registration.model_validate(content | changes)


def rivals() -> dict[str, Rival]:
    """Lists the systems of the made-up outcomes."""
    return {
        name: Rival(name=name, knob="tau", default=0.05, sweep=KNOBS, source="made up")
        for name in WASTE
    }


def runs(scenario: str = "constant", nodes: int = 60) -> dict[Job, dict[str, FloatArray]]:
    """Makes figures for every system and knob; a higher knob throttles more and wastes less."""
    made = {}
    difficulty = np.random.default_rng(7).normal(0.0, 0.03, len(SEEDS))
    for place, (system, waste) in enumerate(WASTE.items()):
        noise = np.random.default_rng(place).normal(0.0, 0.005, len(SEEDS))
        for knob in KNOBS:
            wasted = waste - 0.2 * (knob - 0.05) + difficulty + noise
            one = outcome(
                (len(SEEDS), 2),
                limit_core_seconds=(1.0 / (1.0 - wasted))[:, np.newaxis],
                throttled_periods=36_000.0 * knob,
                delay_p99_seconds=(0.2 + waste * knob + 0.1 * difficulty)[:, np.newaxis],
                changes=10.0 + 100 * knob + 20 * noise[:, np.newaxis],
            )
            job = Job(scenario=scenario, system=system, knob=knob, seeds=SEEDS, cluster_nodes=nodes)
            made[job] = dict(figures(one, batch=(False, False)))
    return made


def board(made: dict[Job, dict[str, FloatArray]] | None = None, **changes: object) -> Board:
    """Builds a board of one scenario, with clusters of two sizes."""
    entry = Entry(name="constant", tier=TIER, title="Constant loads", shows="how calm it stays")
    return Board(
        registration=registration(**changes),
        entries=[entry],
        rivals=rivals(),
        runs={**(made or runs()), **runs(nodes=600)},
    )


def results() -> Results:
    """Builds the results that the board was made of."""
    return Results(figures=dict(runs()), counts={job: {"violation-1": 0} for job in runs()})
