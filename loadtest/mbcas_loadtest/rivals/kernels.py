"""Rules of rivals that look at every period of every container, compiled."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.compiled import compiled
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND

SLICE_USEC = 5_000.0
"""Escra's, as all that follows."""
WINDOW_PERIODS = 5
MAX_LEFT_USEC = 5_000.0
UNUSED_RATIO = 0.2
STARVED_RATIO = 0.5
_RESTS, _PAYS, _STARVES, _GROWS, _GIVES = 0, 1, 2, 3, 4


class Escras(NamedTuple):
    """Quotas and pools of m nodes of n containers, in place; (m, n) unless said otherwise."""

    quota_usec: FloatArray
    """0 where there is no container."""
    least_usec: FloatArray
    throttled: NDArray[np.uint8]
    """(5, m, n) of the last five periods, or since the last change."""
    left_usec: FloatArray
    """(5, m, n) of each of them, what was left of the quota."""
    fair_usec: FloatArray
    """(m,)."""
    pool_usec: FloatArray
    """(m,)."""
    overrun_usec: FloatArray
    """(m,)."""


@compiled
def choose_rule(
    escras: Escras, node: int, c: int, left_usec: float, growth_usec: float
) -> tuple[int, float]:
    """Returns the first rule that applies to a container, and the amount it is about."""
    quota, fair = escras.quota_usec[node, c], escras.fair_usec[node]
    throttled, left = 0, 0.0
    for i in range(WINDOW_PERIODS):
        throttled += escras.throttled[i, node, c]
        left += escras.left_usec[i, node, c]
    if escras.overrun_usec[node] > 0.0 and quota > fair:
        over = quota - fair
        over_ratio = over / fair
        amount = over_ratio * (SLICE_USEC if over_ratio > 1.0 else over)
        return _PAYS, over if amount < SLICE_USEC / 2 else amount
    if throttled > STARVED_RATIO * WINDOW_PERIODS and quota < fair:
        lack = fair - quota
        return _STARVES, lack * lack / fair if lack > SLICE_USEC / 2 else lack
    if throttled > 0 and escras.pool_usec[node] > 0.0:
        return _GROWS, growth_usec * throttled
    above_least, unused = quota - escras.least_usec[node, c], UNUSED_RATIO * quota
    if left_usec > unused:
        return _GIVES, min(unused, above_least)
    if left > MAX_LEFT_USEC * WINDOW_PERIODS:
        return _GIVES, min(MAX_LEFT_USEC, above_least)
    return _RESTS, 0.0


@compiled
def settle_node(
    escras: Escras, node: int, rules: NDArray[np.uint8], amount: FloatArray, change: FloatArray
) -> None:
    """Settles all rules of a node, with `change` (m, n) what each quota changes by.

    Who pays comes first, then who starves, who grows, who gives; of these, in the order of rows.
    """
    pool, overrun = escras.pool_usec[node], escras.overrun_usec[node]
    asked = 0.0
    for c in range(rules.size):
        change[node, c] = 0.0
        if rules[c] == _PAYS:
            asked += amount[c]
            change[node, c] = -min(max(overrun - (asked - amount[c]), 0.0), amount[c])
    overrun = max(overrun - asked, 0.0)
    asked = pooled = lent = 0.0
    for c in range(rules.size):
        if rules[c] == _STARVES:
            asked += amount[c]
            before = pool - (asked - amount[c])
            if before > 0.0:
                change[node, c] = min(before, amount[c])
                pooled += change[node, c]
            else:
                change[node, c] = amount[c]
                lent += amount[c]
    pool, overrun = pool - pooled, overrun + lent
    asked = given = 0.0
    for c in range(rules.size):
        if rules[c] == _GROWS:
            asked += amount[c]
            change[node, c] = min(max(pool - (asked - amount[c]), 0.0), amount[c])
        elif rules[c] == _GIVES:
            change[node, c] = -amount[c]
            given += amount[c]
    escras.pool_usec[node] = max(pool - asked, 0.0) + given
    escras.overrun_usec[node] = overrun


@compiled
def run_escras(
    escras: Escras, usage_usec: FloatArray, throttled: BoolArray, slot: int, growth_usec: float
) -> bool:
    """Takes one period (m, n) into place `slot` of the windows; True where a quota changed."""
    nodes, count = usage_usec.shape
    rules, amount = np.zeros(count, np.uint8), np.zeros(count)
    change = np.zeros(usage_usec.shape)
    is_changed = False
    for node in range(nodes):
        for c in range(count):
            left = max(escras.quota_usec[node, c] - usage_usec[node, c], 0.0)
            escras.left_usec[slot, node, c] = left
            escras.throttled[slot, node, c] = throttled[node, c]
            rules[c], amount[c] = choose_rule(escras, node, c, left, growth_usec)
        settle_node(escras, node, rules, amount, change)
        for c in range(count):
            if change[node, c] != 0.0:
                is_changed = True
                escras.quota_usec[node, c] += change[node, c]
                escras.throttled[:, node, c] = 0
                escras.left_usec[:, node, c] = 0.0
    return is_changed


class Watched(NamedTuple):
    """What captains look at in each period; (m, n) unless said otherwise."""

    usage_usec: FloatArray
    """(50, m, n) of the last periods."""
    throttled: IntArray
    """How many periods were, of those that count."""
    is_cut: BoolArray
    alarm_ratio: FloatArray
    """Throttled share of a second above which a cut is undone."""


@compiled
def watch_periods(
    watched: Watched, usage_usec: FloatArray, throttled: BoolArray, place: int
) -> bool:
    """Takes periods (k, m, n) in, from a place on; True where somebody's cut is to be undone."""
    periods, nodes, count = usage_usec.shape
    is_alarming = False
    for node in range(nodes):
        for c in range(count):
            for i in range(periods):
                watched.usage_usec[place + i, node, c] = usage_usec[i, node, c]
                watched.throttled[node, c] += throttled[i, node, c]
            ratio = watched.throttled[node, c] / PERIODS_PER_SECOND
            if watched.is_cut[node, c] and ratio > watched.alarm_ratio[node, c]:
                is_alarming = True
    return is_alarming


class Minute(NamedTuple):
    """What towers note of each period of a minute; (m, n) unless said otherwise."""

    delays_seconds: NDArray[np.float32]
    """(600, m, n), below 0 where no work came."""
    load_usec: FloatArray
    """Of all its periods, as the next."""
    limit_millicores: FloatArray
    is_whole: BoolArray
    """There in all of these."""


@compiled
def note_period(
    minute: Minute,
    place: int,
    delay_seconds: FloatArray,
    came_usec: FloatArray,
    limit_millicores: FloatArray,
    exists: BoolArray,
) -> None:
    """Takes one period in; (m, n) each."""
    nodes, count = came_usec.shape
    for node in range(nodes):
        for c in range(count):
            came = came_usec[node, c]
            delay = delay_seconds[node, c] if came > 0.0 else -1.0
            minute.delays_seconds[place, node, c] = delay
            minute.load_usec[node, c] += came
            minute.limit_millicores[node, c] += limit_millicores[node, c]
            minute.is_whole[node, c] &= exists[node, c]
