"""The table of evaluation.md, section 2: a prototype's figures, and the same cells measured anew.

Each cell is efficiency (used / limit), throttled share and resizes of a container in an hour. The
prototype's figures were announced as to be re-measured; its *agent* was not MBCAS as it is today.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_loadtest.evaluation.board import Board

Cell = tuple[float, float, float | None]
"""Efficiency, throttled share, resizes per hour (the prototype gave none for its oracles)."""

COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("VPA, 5 min half-life", "vpa-fast", 0.9),
    ("Autopilot-like", "autopilot-window", 0.15),
    ("mean + 3 sigma", "three-sigma", 3.0),
    ("K8s-Fast 0.6", "k8s-cpu-fast", 0.6),
    ("Captain 0.06", "captain-api", 0.06),
    ("agent, tau 5 %", "mbcas", 0.05),
    ("oracle 15 s", "oracle-15s", 0.05),
    ("oracle 2 s", "oracle-2s", 0.05),
)
"""Heading, system and value of its knob. The prototype wrote through the API, as captain-api."""

PROTOTYPE: dict[str, tuple[Cell, ...]] = {
    "table-2-steady": (
        (0.86, 0.05, 0),
        (0.82, 0.02, 0),
        (0.93, 0.31, 0),
        (0.57, 0.0, 324),
        (0.81, 0.01, 94),
        (0.84, 0.04, 1),
        (0.85, 0.05, None),
        (0.87, 0.05, None),
    ),
    "table-2-service": (
        (0.84, 0.38, 0),
        (0.72, 0.12, 1),
        (0.81, 0.31, 0),
        (0.51, 0.01, 336),
        (0.61, 0.04, 353),
        (0.64, 0.05, 21),
        (0.64, 0.05, None),
        (0.68, 0.05, None),
    ),
    "table-2-idle": (
        (0.63, 0.22, 2),
        (0.64, 0.18, 1),
        (0.73, 0.31, 1),
        (0.46, 0.03, 337),
        (0.49, 0.04, 450),
        (0.53, 0.08, 125),
        (0.51, 0.05, None),
        (0.55, 0.05, None),
    ),
    "table-2-ramp": (
        (0.48, 0.38, 26),
        (0.42, 0.07, 16),
        (0.35, 0.42, 64),
        (0.52, 0.0, 418),
        (0.69, 0.04, 344),
        (0.67, 0.04, 72),
        (0.74, 0.05, None),
        (0.77, 0.05, None),
    ),
    "table-2-periodic": (
        (0.51, 0.30, 13),
        (0.21, 0.11, 25),
        (0.46, 0.41, 16),
        (0.31, 0.07, 571),
        (0.41, 0.04, 385),
        (0.44, 0.05, 145),
        (0.62, 0.05, None),
        (0.76, 0.05, None),
    ),
    "table-2-bursty": (
        (0.50, 0.36, 7),
        (0.20, 0.08, 14),
        (0.23, 0.20, 38),
        (0.25, 0.15, 848),
        (0.25, 0.06, 505),
        (0.57, 0.14, 199),
        (0.49, 0.05, None),
        (0.66, 0.05, None),
    ),
    "table-2-diurnal": (
        (0.66, 0.14, 5),
        (0.61, 0.05, 18),
        (0.73, 0.24, 7),
        (0.50, 0.0, 346),
        (0.61, 0.04, 359),
        (0.63, 0.04, 34),
        (0.64, 0.05, None),
        (0.68, 0.05, None),
    ),
    "table-2-noisy": (
        (0.84, 0.46, 5),
        (0.67, 0.10, 6),
        (0.73, 0.19, 2),
        (0.48, 0.01, 471),
        (0.60, 0.04, 503),
        (0.58, 0.06, 215),
        (0.63, 0.05, None),
        (0.68, 0.05, None),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One cell then and now."""

    heading: str
    system: str
    knob: float
    prototype: Cell
    measured: tuple[float, float, float] | None
    """Means over seeds; None where it did not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One load."""

    scenario: str
    title: str
    cells: tuple[Compared, ...]


def table_rows(board: Board) -> list[Row]:
    """Measures the rows whose scenario ran."""
    return [
        Row(
            scenario=entry.name,
            title=entry.title,
            cells=tuple(
                Compared(
                    heading=heading,
                    system=system,
                    knob=knob,
                    prototype=cell,
                    measured=_measured(board, entry.name, system, knob),
                )
                for (heading, system, knob), cell in zip(
                    COLUMNS, PROTOTYPE[entry.name], strict=True
                )
            ),
        )
        for entry in board.entries
        if entry.name in PROTOTYPE
    ]


def _measured(
    board: Board, scenario: str, system: str, knob: float
) -> tuple[float, float, float] | None:
    sweep = board.sweep(scenario, system)
    found = None if sweep is None else sweep.at(knob)
    if found is None:
        return None
    waste, throttled, changes = (
        float(np.mean(found[name])) for name in ("waste", "throttled", "changes_per_hour")
    )
    return 1.0 - waste, throttled, changes
