"""The preregistered tests: five endpoints against each rival of the family, in each tier.

Only these p values are adjusted, by Holm, over the tests of their tier: what was not announced
beforehand is shown with intervals and claimed by nobody. "Not worse" is no missing significance but
a bound: the one-sided 95 % upper bound of the difference lies below the margin.
"""

from dataclasses import dataclass, replace

import numpy as np

from mbcas_loadtest.evaluation import statistics
from mbcas_loadtest.evaluation.board import Board
from mbcas_loadtest.evaluation.registration import Endpoint, Registration
from mbcas_loadtest.evaluation.standings import tier_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One endpoint against one rival in one tier; the less, the better."""

    tier: str
    rival: str
    endpoint: Endpoint
    found: statistics.Paired
    """On the scale of the endpoint: logarithms where it is compared as a ratio."""
    p_holm: float | None
    is_better: bool | None
    """Significantly lower (True) or higher (False), None: neither."""
    is_not_inferior: bool | None
    """Below the margin; None where none was registered or too few seeds ran."""


def family_tests(board: Board, tier: str) -> list[Test]:
    """Makes the tests of a tier; none of one that is not registered."""
    registration = board.registration
    if tier not in registration.scenarios:
        return []
    made = []
    for rival in registration.family:
        for endpoint in registration.endpoints:
            own = tier_values(board, tier, registration.system, endpoint)
            other = tier_values(board, tier, rival, endpoint)
            if own is None or other is None:
                continue
            found = statistics.compare(own, other)
            made.append(
                Test(
                    tier=tier,
                    rival=rival,
                    endpoint=endpoint,
                    found=found,
                    p_holm=None,
                    is_better=None,
                    is_not_inferior=_is_not_inferior(endpoint, found),
                )
            )
    return _adjusted(made, count=family_size(registration), alpha=registration.alpha)


def family_size(registration: Registration) -> int:
    """Returns how many tests a tier has, whether or not all of them can be made."""
    return len(registration.family) * len(registration.endpoints)


def _is_not_inferior(endpoint: Endpoint, found: statistics.Paired) -> bool | None:
    if endpoint.margin is None or found.upper_bound is None:
        return None
    is_ratio = endpoint.compared == "ratio"
    return bool(found.upper_bound < (np.log1p(endpoint.margin) if is_ratio else endpoint.margin))


def _adjusted(made: list[Test], *, count: int, alpha: float) -> list[Test]:
    """Adjusts for all that were registered; one that could not be made counts as p = 1.

    Where fewer than three seeds ran, there are no p values.
    """
    p_values = [1.0 if test.found.p_value is None else test.found.p_value for test in made]
    adjusted = statistics.holm(p_values + [1.0] * (count - len(made)))[: len(made)]
    return [
        test
        if test.found.p_value is None
        else replace(
            test,
            p_holm=p_holm,
            is_better=test.found.mean_difference < 0 if p_holm <= alpha else None,
        )
        for test, p_holm in zip(made, adjusted, strict=True)
    ]
