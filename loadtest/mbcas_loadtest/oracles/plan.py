"""The cheapest plans of levels with at most K changes, by dynamic programming over stays.

With a price mu of a throttled period, W(i, g, k) is the least cost from slot i on, at level g, with
nothing waiting and k changes left:

    stay(i, g, k) = g x slots + mu x throttled + W(end, g, k),      W(s, ., .) = 0,
    W(i, g, k)    = min( stay(i, g, k),  min over g' of stay(i, g', k - 1) ).

A plan that is best at some mu is the least allocation of all plans (of these levels and stays) that
throttle no more than it does. mu is then searched, for each container apart, for the plan that
throttles most within its share tau; between two such plans there may be others that are no plan's
best (a duality gap). Its size is known: the dual bound W - mu x budget is returned too.

Cost: O(s p g K) for one mu.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.oracles.kernels import plan_rows
from mbcas_loadtest.oracles.stays import Table

PRICE_STEPS = 18
PRICE_LEAST = 1e-3
"""Millicores x slots for a throttled period; below it throttling is as good as free."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Plans:
    """Of p containers over s slots."""

    level_millicores: FloatArray
    """(s, p) limit in each slot."""
    throttled: FloatArray
    """(p,) periods in all."""
    bound_millicore_slots: FloatArray
    """(p,) no plan within the budget allocates less."""


def find_plans(table: Table, *, throttled_max: float, changes_max: int) -> Plans:
    """Finds for each container the least allocation within its budgets.

    Args:
        table: The stays; at every slot the highest level of each container must be allowed.
        throttled_max: Periods that may be throttled.
        changes_max: Changes of level, the first setting included, at least 1.
    """
    assert changes_max >= 1, "something must be set once"
    top = table.level_millicores.argmax(axis=1)
    assert table.end[:, np.arange(top.size), top].all(), (
        "at every slot the highest level is allowed"
    )
    s, p = table.end.shape[:2]
    low = np.full(p, PRICE_LEAST)
    high = table.level_millicores.max(axis=1) * s + 1.0
    chosen, total, _ = plan_at(table, high, changes_max)
    bound = np.full(p, -np.inf)
    for step in range(PRICE_STEPS):
        price = low if step == 0 else np.sqrt(low * high)
        levels, throttled, cost = plan_at(table, price, changes_max)
        bound = np.maximum(bound, cost - price * throttled_max)
        fits = throttled <= throttled_max
        chosen = np.where(fits, levels, chosen)
        total = np.where(fits, throttled, total)
        if step == 0:
            # Free throttling fits: there is nothing to search.
            high = np.where(fits, low, high)
        else:
            low, high = np.where(fits, low, price), np.where(fits, price, high)
    return Plans(level_millicores=chosen, throttled=total, bound_millicore_slots=bound)


def plan_at(
    table: Table, price: FloatArray, changes_max: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Solves the programme at these prices (p,).

    Returns:
        Levels (s, p), throttled periods (p,) and least cost (p,), in millicores x slots.
    """
    chosen = np.empty(table.end.shape[:2])
    throttled, cost = plan_rows(
        table.level_millicores, table.end, table.throttled, price, changes_max, chosen
    )
    return chosen, throttled, cost


def count_changes(level_millicores: FloatArray) -> IntArray:
    """Returns how often each of p plans (s, p) sets something, the first setting included."""
    changes: IntArray = (np.diff(level_millicores, axis=0) != 0).sum(axis=0) + 1
    return changes
