"""What a way of playing came to, and what an attack gained over truthful play of the same games.

**Gain** of one game: (attack's payoff - truthful payoff) / |truthful payoff|, of the attacker's
pods together. The games are paired, so the interval is that of a mean of differences: 1.96 standard
errors either way. A game counts as *exploited* where the gain is above 1 %.

**What is bought.** An inflated request is no lie but a purchase: it counts against the namespace's
quota for as long as the pod lives, held or not. `priced` gains charge each admitted millicore
above the honest ones what an idle one costs.

**Fairness.** What the other pods miss of min(want, fair share), as a share of it, with the attack
and without: an attack that leaves this alone takes from surplus or waste, one that raises it takes
what others are owed. The fair share is that of property 7 with honest admissions. On needs a pod
wants its need and has its allocation; on the core it wants its demand of a second and has what is
served of it in time.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbcas_core.units import FloatArray

WASTE_COST = 1.0
"""Of a millicore that idles, per step; a millicore that is lacking costs THROTTLED_COST."""
TAU = 0.05
"""Throttling target of every pod of a game."""
THROTTLED_COST = WASTE_COST * (1.0 - TAU) / TAU
EXPLOITED_RATIO = 0.01
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """g games of p pods, (g, p) each; amounts of CPU in millicores, added up over time."""

    payoff: FloatArray
    demand: FloatArray
    useful: FloatArray
    held: FloatArray
    """What was reserved (core) or allocated (needs)."""
    admitted: FloatArray
    owed: FloatArray
    """Of min(want, fair share)."""
    missed: FloatArray
    """What a pod did not have of it."""
    violations: int = 0
    """Rules that the core saw broken."""


class Tally:
    """Adds up seconds or rounds."""

    def __init__(self, fair_share_millicores: FloatArray) -> None:
        self._fair_share = fair_share_millicores
        self._sums: dict[str, FloatArray] = {}

    def add(
        self,
        *,
        payoff: FloatArray,
        demand: FloatArray,
        useful: FloatArray,
        held: FloatArray,
        admitted: FloatArray,
        want: FloatArray,
        has: FloatArray,
    ) -> None:
        """Adds a step; all (g, p)."""
        owed = np.minimum(want, self._fair_share)
        step = {
            "payoff": payoff,
            "demand": demand,
            "useful": useful,
            "held": held,
            "admitted": admitted,
            "owed": owed,
            "missed": np.maximum(owed - has, 0.0),
        }
        self._sums = {name: self._sums.get(name, 0.0) + amount for name, amount in step.items()}

    def outcome(self, violations: int = 0) -> Outcome:
        """Returns the sums; at least one step must have been added."""
        return Outcome(**self._sums, violations=violations)


def join(parts: list[Outcome]) -> Outcome:
    """Returns the games of several outcomes as one."""
    names = ("payoff", "demand", "useful", "held", "admitted", "owed", "missed")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Outcome(**arrays, violations=sum(part.violations for part in parts))


def find_gains(
    attacked: Outcome, truthful: Outcome, pods: int, *, priced: bool = False
) -> FloatArray:
    """Returns the gain of the attacker, who owns the first `pods` pods, in each game, (g,)."""
    gained = attacked.payoff[:, :pods] - truthful.payoff[:, :pods]
    if priced:
        bought = attacked.admitted[:, :pods] - truthful.admitted[:, :pods]
        gained = gained - WASTE_COST * np.maximum(bought, 0.0)
    due = np.abs(truthful.payoff[:, :pods].sum(axis=1))
    gains: FloatArray = gained.sum(axis=1) / due
    return gains


def compare(attacked: Outcome, truthful: Outcome, pods: int) -> dict[str, Any]:
    """Returns the figures of one attack, as the report has them."""
    gains = find_gains(attacked, truthful, pods)
    spread = float(gains.std(ddof=1)) if gains.size > 1 else math.inf
    priced = find_gains(attacked, truthful, pods, priced=True)
    return {
        "gain_mean": float(gains.mean()),
        "gain_interval_95": None if math.isinf(spread) else NORMAL_95 * spread / gains.size**0.5,
        "gain_max": float(gains.max()),
        "exploited_ratio": float((gains > EXPLOITED_RATIO).mean()),
        "gain_priced_mean": float(priced.mean()),
        "admitted_factor": _own(attacked.admitted, pods) / _own(truthful.admitted, pods),
        "held_factor": _own(attacked.held, pods) / _own(truthful.held, pods),
        "served_ratio": _own(attacked.useful, pods) / _own(attacked.demand, pods),
        "served_truthful_ratio": _own(truthful.useful, pods) / _own(truthful.demand, pods),
        "others_payoff_change": _others(attacked.payoff, pods) / _others(truthful.payoff, pods) - 1,
        "others_missed_ratio": _others(attacked.missed, pods) / _others(attacked.owed, pods),
        "others_missed_truthful_ratio": (
            _others(truthful.missed, pods) / _others(truthful.owed, pods)
        ),
        "violations": attacked.violations,
    }


def _own(amount: FloatArray, pods: int) -> float:
    return float(amount[:, :pods].sum())


def _others(amount: FloatArray, pods: int) -> float:
    return float(amount[:, pods:].sum())
