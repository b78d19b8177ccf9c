"""`evaluate --quick`: has a change made MBCAS worse by more than the noise?

The last result is stored beside this module: every seed's figures of MBCAS at its best knob, and
its waste at the matched throttled share. The same seeds run again, so differences are paired and a
change that does nothing gives exactly zero. Worse means both: on average by more than a tolerance
that matters to nobody, and with a one-sided bound above zero at 5 % shared among all comparisons.
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
from mbcas_loadtest.evaluation.board import Board
from mbcas_loadtest.evaluation.registration import FOLDER
from mbcas_loadtest.evaluation.standings import LEAST_COMPARED_SECONDS

STORED_FILE = FOLDER / "quick_result.json"
SCHEMA = "mbcas.evaluation.quick/1"
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

Stored = dict[str, dict[str, list[float | None]]]
"""By scenario and quantity, one number for each seed; None where there is none."""


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
    is_worse: bool

    def __str__(self) -> str:
        return (
            f"{self.scenario}: {self.quantity} was {self.before:.4g} and is {self.now:.4g} "
            f"(difference {self.difference:+.4g}, at least {self.lower_bound:+.4g})"
        )


def measure(board: Board) -> Stored:
    """Collects what is compared."""
    share = board.registration.matched_throttled_ratio
    found: Stored = {}
    for entry in board.entries:
        figures = board.operated(entry, board.system)
        sweep = board.sweep(entry.name, board.system)
        if figures is None or sweep is None:
            continue
        values = {name: figures[name] for name in TOLERANCES if name != MATCHED_WASTE}
        values[MATCHED_WASTE] = sweep.matched("waste", share=share)
        found[entry.name] = {name: _listed(each) for name, each in values.items()}
    return found


def compare(before: Stored, now: Stored) -> list[Change]:
    """Compares what both have; a seed without a number on either side takes no part."""
    pairs = [
        (scenario, quantity)
        for scenario, quantities in now.items()
        for quantity in quantities
        if quantity in before.get(scenario, {})
    ]
    changes = []
    for scenario, quantity in pairs:
        first, second = (
            np.array([np.nan if v is None else v for v in side[scenario][quantity]])
            for side in (before, now)
        )
        if quantity == MATCHED_WASTE:
            first, second = _unreached_as_all_waste(first, second)
        if first.shape == second.shape:
            change = _change(scenario, quantity, first, second, alpha=ALPHA / len(pairs))
            changes += [] if change is None else [change]
    return changes


def missing(before: Stored, now: Stored) -> list[str]:
    """Lists the scenarios that one side lacks: then the stored result must be made anew."""
    return sorted(set(before) ^ set(now))


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
        return {
            str(scenario): {
                str(quantity): [None if v is None else float(v) for v in values]
                for quantity, values in quantities.items()
            }
            for scenario, quantities in content["scenarios"].items()
        }
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}: {remedy}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path}: not a stored result ({error!r}): {remedy}") from error


def to_text(seeds: Sequence[int], now: Stored) -> str:
    """Returns the content of a stored result, a line for each quantity."""
    head = [f'  "schema": {json.dumps(SCHEMA)},', f'  "seeds": {list(seeds)},']
    lines = ["{", *head, '  "scenarios": {']
    for index, (scenario, quantities) in enumerate(now.items()):
        rows = [
            f"      {json.dumps(name)}: {json.dumps(each)}" for name, each in quantities.items()
        ]
        lines += [f"    {json.dumps(scenario)}: {{", ",\n".join(rows)]
        lines += ["    }" + ("," if index + 1 < len(now) else "")]
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _change(
    scenario: str, quantity: str, before: FloatArray, now: FloatArray, *, alpha: float
) -> Change | None:
    both = np.isfinite(before) & np.isfinite(now)
    first, second = before[both], now[both]
    if len(first) < 2:  # noqa: PLR2004 - no spread of one.
        return None
    if quantity == "p99_seconds":
        floors = (np.maximum(side, LEAST_COMPARED_SECONDS) for side in (first, second))
        low, high = (np.log(side) for side in floors)
        differences = high - low
    else:
        differences = second - first
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / math.sqrt(len(differences)))
    lower = mean - float(stats.t.ppf(1 - alpha, len(differences) - 1)) * error
    return Change(
        scenario=scenario,
        quantity=quantity,
        before=float(first.mean()),
        now=float(second.mean()),
        difference=mean,
        lower_bound=lower,
        is_worse=mean > TOLERANCES[quantity] and lower > 0,
    )


def _unreached_as_all_waste(before: FloatArray, now: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts a seed that reaches the throttled share on one side alone as 1 on the other."""
    if before.shape != now.shape:
        return before, now
    none: BoolArray = np.isnan(before) & np.isnan(now)
    return (
        np.where(np.isnan(before) & ~none, 1.0, before),
        np.where(np.isnan(now) & ~none, 1.0, now),
    )


def _listed(values: FloatArray) -> list[float | None]:
    """Numbers with as many digits as a result is worth: the file is read by people, too."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
