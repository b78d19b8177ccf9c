"""Waste against throttling: what a system can trade for what, over all values of its knob.

A point is (throttled share, waste), both to be small. One point of one system says little: any
system wastes less when it may throttle more. So systems are compared by their frontiers: the points
that no other point of the same system beats in both. Between two of them lies a straight line (a
knob between the two, or some containers at each). Compared are the waste at one throttled share,
and the hypervolume: the share of the rectangle up to a reference point that is beaten by the
frontier (Zitzler and Thiele 1998), 1 for a system with neither waste nor throttling.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How a throttled share is reached: between two values of the knob."""

    left: int
    """Index of the point with less throttling."""
    right: int
    weight: float
    """Of the right one, 0 to 1."""


def frontier(throttled: FloatArray, waste: FloatArray) -> IntArray:
    """Returns the indices of the points that no other beats, by rising throttling, (j,).

    Args:
        throttled: (k,) of the values of the knob; what is not finite is left out.
        waste: (k,).
    """
    known = np.flatnonzero(np.isfinite(throttled) & np.isfinite(waste))
    order = known[np.lexsort((waste[known], throttled[known]))]
    lowest = np.minimum.accumulate(waste[order])
    beaten: BoolArray = np.concatenate(([False], lowest[:-1] <= waste[order][1:]))[: len(order)]
    chosen: IntArray = order[~beaten]
    return chosen


def reach(throttled: FloatArray, waste: FloatArray, *, share: float) -> Mix | None:
    """Finds the least waste on the frontier at no more than this throttled share.

    None where even the most cautious knob throttles more.
    """
    points = frontier(throttled, waste)
    within = points[throttled[points] <= share]
    if len(within) == 0:
        return None
    left = int(within[-1])
    if len(within) == len(points):
        return Mix(left=left, right=left, weight=0.0)
    right = int(points[len(within)])
    weight = (share - throttled[left]) / (throttled[right] - throttled[left])
    return Mix(left=left, right=right, weight=float(weight))


def at(mix: Mix, values: FloatArray) -> float:
    """Returns what a quantity (k,) is at this mix."""
    if mix.weight == 0.0:
        return float(values[mix.left])
    return float(values[mix.left] * (1 - mix.weight) + values[mix.right] * mix.weight)


def matched_waste(throttled: FloatArray, waste: FloatArray, *, share: float) -> float:
    """Returns the least waste at this throttled share, NaN where the share is not reached."""
    mix = reach(throttled, waste, share=share)
    return np.nan if mix is None else at(mix, waste)


def hypervolume(
    throttled: FloatArray, waste: FloatArray, *, reference: tuple[float, float]
) -> float:
    """Returns the share of the rectangle from (0, 0) to the reference that the points beat.

    Args:
        throttled: (k,).
        waste: (k,).
        reference: Throttled share and waste beyond which a point counts for nothing.
    """
    points = frontier(throttled, waste)
    x, y = throttled[points], waste[points]
    inside = (x < reference[0]) & (y < reference[1])
    x, y = x[inside], y[inside]
    widths = np.diff(np.append(x, reference[0]))
    return float((widths * (reference[1] - y)).sum() / (reference[0] * reference[1]))


def gap_closed(base: float, system: float, oracle: float) -> float:
    """Returns how much of the way from a base's waste to the oracle's a system has gone.

    0 at the base, 1 at the oracle; NaN where the oracle is no better than the base.
    """
    gap = base - oracle
    return np.nan if not gap > 0 else (base - system) / gap
