"""`evaluate --quick`: has a change made MBCAS worse by more than the noise?

The last result is stored beside this module: every seed's figures of MBCAS at its best knob, and
its waste at the matched throttled share. The same seeds run again, so differences are paired and a
change that does nothing gives exactly zero. Worse means one of two: on average by more than a
tolerance that matters to nobody, and with a one-sided bound above zero at 5 % shared among all
comparisons; or broken down at any seed, however few: far worse there, or without the figure.
What was not measured alike is not compared: then the stored result must be made anew.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats  # type: ignore[import-untyped] # It comes without types.

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.errors import EvaluationError
from mbcas_loadtest.evaluation.board import Board, mean_of_finite
from mbcas_loadtest.evaluation.registration import FOLDER
from mbcas_loadtest.evaluation.standings import LEAST_COMPARED_SECONDS

STORED_FILE = FOLDER / "quick_result.json"
SCHEMA = "mbcas.evaluation.quick/2"
ALPHA = 0.05
MATCHED_WASTE = "waste at 5 % throttled"
TOLERANCES: Mapping[str, float] = {
    "waste": 0.005,
    "throttled": 0.002,
    "p99_seconds": 0.02,
    "changes_per_hour": 1.0,
    MATCHED_WASTE: 0.005,
}
"""About a quarter of the registered margins; that of P99 is relative."""

BREAKDOWNS: Mapping[str, float] = {
    "waste": 0.05,
    "throttled": 0.05,
    "p99_seconds": math.log(2.0),
    "changes_per_hour": 30.0,
    MATCHED_WASTE: 0.05,
}
"""By how much one seed may be worse. Changes of the plant moved single seeds of a sound MBCAS by up
to 0.02 of waste, 0.05 throttled and 38 changes/h."""
LEAST_BREAKDOWN_SECONDS = 0.1
"""A P99 that doubles by less than a period breaks nothing down."""
REMEDY = "if that is meant, run mbcas-loadtest evaluate --quick --update"
_SEEDS_SHOWN_MAX = 10

Values = dict[str, dict[str, list[float | None]]]
"""By scenario and quantity, one number for each seed; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A result of MBCAS, as it is stored."""

    seeds: tuple[int, ...]
    knobs: dict[str, list[float]]
    """Of each scenario: the best, at which it was measured, and then all that ran."""
    scenarios: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One quantity in one scenario, before and now; the less, the better."""

    scenario: str
    quantity: str
    before: float
    now: float
    difference: float
    """Mean of the seeds' differences; of logarithms for P99."""
    lower_bound: float
    """One-sided, at 5 % shared among all comparisons."""
    broken_seeds: tuple[int, ...]
    """Where it is worse by more than `BREAKDOWNS`, or has no figure any more."""
    is_worse: bool

    def __str__(self) -> str:
        broken = ", ".join(str(seed) for seed in self.broken_seeds[:_SEEDS_SHOWN_MAX])
        return (
            f"{self.scenario}: {self.quantity} was {self.before:.4g} and is {self.now:.4g} "
            f"(difference {self.difference:+.4g}, at least {self.lower_bound:+.4g})"
            + (f"; it broke down or is missing at seed {broken}" if broken else "")
        )


def measure(board: Board, seeds: Sequence[int]) -> Stored:
    """Collects what is compared."""
    share = board.registration.matched_throttled_ratio
    found: Values = {}
    knobs = {}
    for entry in board.entries:
        figures = board.operated(entry, board.system)
        sweep = board.sweep(entry.name, board.system)
        if figures is None or sweep is None:
            continue
        values = {name: figures[name] for name in TOLERANCES if name != MATCHED_WASTE}
        values[MATCHED_WASTE] = sweep.matched("waste", share=share)
        found[entry.name] = {name: _listed(each) for name, each in values.items()}
        knobs[entry.name] = [board.knob(board.system, entry.tier), *sweep.knobs]
    return Stored(seeds=tuple(seeds), knobs=knobs, scenarios=found)


def differences(before: Stored, now: Stored) -> list[str]:
    """Says in which scenarios the two did not measure alike, and why; empty: they can be compared.

    Nothing is left out because only one of them has it.
    """
    found = []
    for scenario in sorted({*before.scenarios, *now.scenarios}):
        first, second = (side.scenarios.get(scenario, {}) for side in (before, now))
        pairs: dict[str, tuple[Sequence[object], Sequence[object]]] = {
            "quantities": (sorted(first), sorted(second)),
            "seeds": (list(before.seeds), list(now.seeds)),
            "knobs": (before.knobs.get(scenario, []), now.knobs.get(scenario, [])),
        }
        if not first or not second:
            found.append(f"{scenario}: was {'not stored' if second else 'stored and did not run'}")
        else:
            found += [
                f"{scenario}: {what} {_joined(one)} were stored, {_joined(other)} ran"
                for what, (one, other) in pairs.items()
                if one != other
            ]
    return found


def compare(before: Stored, now: Stored) -> list[Change]:
    """Compares two results between which there are no `differences`."""
    pairs = [
        (scenario, quantity)
        for scenario, quantities in now.scenarios.items()
        for quantity in quantities
    ]
    changes = []
    for scenario, quantity in pairs:
        first, second = (
            np.array([np.nan if v is None else v for v in side.scenarios[scenario][quantity]])
            for side in (before, now)
        )
        if np.isfinite(first).any() or np.isfinite(second).any():
            place = (scenario, quantity)
            changes.append(_change(place, first, second, now.seeds, alpha=ALPHA / len(pairs)))
    return changes


def _joined(values: Sequence[object]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def read(path: Path = STORED_FILE) -> Stored:
    """Reads a stored result.

    Raises:
        EvaluationError: There is none, or it is something else; the message says what to do.
    """
    remedy = "make it with mbcas-loadtest evaluate --quick --update"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            found = content["schema"]
            raise EvaluationError(f"{path}: schema is {found!r}, not {SCHEMA!r}: {remedy}")
        seeds = tuple(int(seed) for seed in content["seeds"])
        return Stored(
            seeds=seeds,
            knobs={
                str(scenario): [float(knob) for knob in knobs]
                for scenario, knobs in content["knobs"].items()
            },
            scenarios={
                str(scenario): {
                    str(quantity): _read_values(scenario, quantity, values, len(seeds))
                    for quantity, values in quantities.items()
                }
                for scenario, quantities in content["scenarios"].items()
            },
        )
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}: {remedy}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path}: not a stored result ({error!r}): {remedy}") from error


def _read_values(
    scenario: str, quantity: str, values: Sequence[float | None], count: int
) -> list[float | None]:
    if len(values) != count:
        raise ValueError(f"{scenario}: {quantity}: {len(values)} values, {count} seeds")
    return [None if value is None else float(value) for value in values]


def to_text(now: Stored) -> str:
    """Returns the content of a stored result, a line for each quantity."""
    head = [f'  "schema": {json.dumps(SCHEMA)},', f'  "seeds": {list(now.seeds)},']
    knobs = ",\n".join(f"    {json.dumps(name)}: {each}" for name, each in now.knobs.items())
    lines = ["{", *head, '  "knobs": {', knobs, "  },", '  "scenarios": {']
    for index, (scenario, quantities) in enumerate(now.scenarios.items()):
        rows = [
            f"      {json.dumps(name)}: {json.dumps(each)}" for name, each in quantities.items()
        ]
        lines += [f"    {json.dumps(scenario)}: {{", ",\n".join(rows)]
        lines += ["    }" + ("," if index + 1 < len(now.scenarios) else "")]
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _change(
    place: tuple[str, str],
    before: FloatArray,
    now: FloatArray,
    seeds: Sequence[int],
    *,
    alpha: float,
) -> Change:
    scenario, quantity = place
    lost: BoolArray = np.isfinite(before) & ~np.isfinite(now)
    if quantity == MATCHED_WASTE:
        before, now = _unreached_as_all_waste(before, now)
    by = _difference(quantity, before, now)
    known = by[np.isfinite(by)]
    mean, lower = math.nan, -math.inf
    if len(known):
        mean = float(known.mean())
    if len(known) > 1:  # No spread of one.
        error = float(known.std(ddof=1) / math.sqrt(len(known)))
        lower = mean - float(stats.t.ppf(1 - alpha, len(known) - 1)) * error
    broken = lost | (by > BREAKDOWNS[quantity])
    if quantity == "p99_seconds":
        broken &= lost | (now - before > LEAST_BREAKDOWN_SECONDS)
    return Change(
        scenario=scenario,
        quantity=quantity,
        before=float(mean_of_finite(before)),
        now=float(mean_of_finite(now)),
        difference=mean,
        lower_bound=lower,
        broken_seeds=tuple(
            seed for seed, is_broken in zip(seeds, broken, strict=True) if is_broken
        ),
        is_worse=bool(broken.any()) or (mean > TOLERANCES[quantity] and lower > 0),
    )


def _difference(quantity: str, before: FloatArray, now: FloatArray) -> FloatArray:
    """Returns by how much each seed is worse, of logarithms for P99; NaN where a side has none."""
    if quantity == "p99_seconds":
        before, now = (np.log(np.maximum(side, LEAST_COMPARED_SECONDS)) for side in (before, now))
    return now - before


def _unreached_as_all_waste(before: FloatArray, now: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts a seed that reaches the throttled share on one side alone as 1 on the other."""
    none: BoolArray = np.isnan(before) & np.isnan(now)
    return (
        np.where(np.isnan(before) & ~none, 1.0, before),
        np.where(np.isnan(now) & ~none, 1.0, now),
    )


def _listed(values: FloatArray) -> list[float | None]:
    """Numbers with as many digits as a result is worth: the file is read by people, too."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
