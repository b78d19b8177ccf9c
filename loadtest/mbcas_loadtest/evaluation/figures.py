"""A run's outcome as one number for each seed: the five endpoints, and what explains them.

Sums come before ratios: a seed's waste is 1 - used / allocated over all containers of its node, not
a mean of ratios. Throttling and delay are means over the containers that somebody waits for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mbcas_core.units import BoolArray, FloatArray
from mbcas_loadtest.simulation.outcome import Outcome, Phase

_SECONDS_PER_HOUR = 3600.0

Figures = Mapping[str, FloatArray]
"""(m,) of each quantity, NaN where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How a figure is called and written."""

    title: str
    unit: str
    """`%`: a ratio, written as a percentage."""
    decimals: int
    about: str


QUANTITIES: Mapping[str, Quantity] = {
    "waste": Quantity(
        title="waste",
        unit="%",
        decimals=1,
        about="used / limit, taken from 1, sums over containers and time",
    ),
    "throttled": Quantity(
        title="throttled",
        unit="%",
        decimals=1,
        about="throttled periods of wall time, mean over containers that are not batch",
    ),
    "p99_seconds": Quantity(
        title="P99 delay",
        unit="s",
        decimals=3,
        about="from a request's arrival to its end, mean over containers that are not batch",
    ),
    "changes_per_hour": Quantity(
        title="changes", unit="/h", decimals=1, about="applied, of a container in an hour"
    ),
    "settling_seconds": Quantity(
        title="settling",
        unit="s",
        decimals=0,
        about="until the limit stays within 10 % for 5 min with throttling at most 5 %; "
        "the whole run where that never happens; mean over containers",
    ),
    "peak_throttled": Quantity(
        title="peak throttled",
        unit="%",
        decimals=1,
        about="throttled periods in the tenth of a container's seconds in which most work arrives, "
        "mean over containers that are not batch",
    ),
    "reservation_waste": Quantity(
        title="reserved, unused",
        unit="%",
        decimals=1,
        about="reserved and not used in the same second / reserved",
    ),
    "jain": Quantity(
        title="Jain",
        unit="",
        decimals=3,
        about="Jain's index of what each container got of the demand that its request covers",
    ),
    "useful": Quantity(
        title="useful",
        unit="%",
        decimals=1,
        about="work served in the second it arrived / what the node's CPUs could have served",
    ),
    "denied": Quantity(
        title="denied",
        unit="%",
        decimals=2,
        about="of the demand that declared requests cover: not served within its second",
    ),
    "starved": Quantity(
        title="starved",
        unit="%",
        decimals=2,
        about="runnable within its quota and not run, of what arrived",
    ),
    "patches_per_hour": Quantity(
        title="PATCHes", unit="/h", decimals=1, about="sent, of a container in an hour"
    ),
    "unfunded": Quantity(
        title="waited for budget",
        unit="%",
        decimals=1,
        about="time for which a change waited for the resize budget",
    ),
    "learning_waste": Quantity(
        title="waste, warm-up", unit="%", decimals=1, about="the same in the first minutes"
    ),
    "learning_throttled": Quantity(
        title="throttled, warm-up", unit="%", decimals=1, about="the same in the first minutes"
    ),
}


def figures(outcome: Outcome, *, batch: tuple[bool, ...]) -> Figures:
    """Computes all quantities of a run.

    Args:
        outcome: Of m seeds.
        batch: (n,) of which containers nobody waits.
    """
    part, waited_for = outcome.measured, np.array([not one for one in batch])
    hours = part.seconds.sum(axis=1) / _SECONDS_PER_HOUR
    return {
        "waste": _waste(part),
        "throttled": _throttled(part, waited_for),
        "p99_seconds": _mean(part.delay_p99_seconds, waited_for),
        "changes_per_hour": _ratio(part.changes.sum(axis=1), hours),
        "settling_seconds": _settling_seconds(outcome),
        "peak_throttled": _mean(outcome.peak_throttled_ratio, waited_for),
        "reservation_waste": _ratio(
            part.idle_core_seconds.sum(axis=1), part.request_core_seconds.sum(axis=1)
        ),
        "jain": _jain(part),
        "useful": _ratio(
            part.useful_core_seconds.sum(axis=1), part.possible_core_seconds.sum(axis=1)
        ),
        "denied": _ratio(
            part.denied_core_seconds.sum(axis=1), part.entitled_core_seconds.sum(axis=1)
        ),
        "starved": _ratio(
            part.starved_core_seconds.sum(axis=1), part.demand_core_seconds.sum(axis=1)
        ),
        "patches_per_hour": _ratio(part.patches.sum(axis=1), hours),
        "unfunded": _ratio(part.unfunded_seconds.sum(axis=1), part.seconds.sum(axis=1)),
        "learning_waste": _waste(outcome.warmup),
        "learning_throttled": _throttled(outcome.warmup, waited_for),
    }


def _waste(part: Phase) -> FloatArray:
    used = _ratio(part.usage_core_seconds.sum(axis=1), part.limit_core_seconds.sum(axis=1))
    return 1.0 - used


def _throttled(part: Phase, waited_for: BoolArray) -> FloatArray:
    return _mean(_ratio(part.throttled_periods, part.wall_periods), waited_for)


def _settling_seconds(outcome: Outcome) -> FloatArray:
    """Counts a container that never settles with all of its time."""
    there = outcome.warmup.seconds + outcome.measured.seconds
    settled = np.where(np.isfinite(outcome.settling_seconds), outcome.settling_seconds, there)
    mean: FloatArray = settled.mean(axis=1)
    return mean


def _jain(part: Phase) -> FloatArray:
    """Computes (Σ s)² / (n Σ s²) over containers that were owed anything (Jain 1984)."""
    share = 1.0 - _ratio(part.denied_core_seconds, part.entitled_core_seconds)
    owed = np.isfinite(share)
    share = np.where(owed, share, 0.0)
    return _ratio(share.sum(axis=1) ** 2, owed.sum(axis=1) * (share**2).sum(axis=1))


def _mean(values: FloatArray, chosen: BoolArray) -> FloatArray:
    """Returns the mean over the chosen of n containers that have a value, (m,)."""
    there = np.isfinite(values) & chosen
    return _ratio(np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1))


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Divides; NaN where there is nothing to divide by."""
    result: FloatArray = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=np.asarray(below) > 0)
    return result
