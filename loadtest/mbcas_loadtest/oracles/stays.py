"""What it costs to stay at a level: the known arrivals, cut into stays that begin and end empty.

A *stay* begins at the boundary of two slots with nothing waiting, at one limit (a level), and ends
at the first boundary at which nothing waits again. Stays of one level follow each other without a
trace of the past, so a plan that changes levels only between stays is an exact sum of their costs:
that is what makes the dynamic programme of `churn` exact. Most stays are one slot long; one that is
longer than WAIT_SLOTS_MAX is not allowed, since work would wait too long.

Who wants more CPUs than its threads waits that long at any limit. There the top level alone holds,
for as long as anything waits: nothing is dropped, and no plan could have been through sooner, since
a lower limit leaves at least as much waiting. These slots are told as *unmet*.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import BoolArray, FloatArray, IntArray
from mbcas_loadtest.oracles.search import Stretch, count_throttled, find_enough, find_least_limit
from mbcas_loadtest.simulation.world import PERIODS_PER_SECOND

SLOT_SECONDS = 15
SLOT_PERIODS = SLOT_SECONDS * PERIODS_PER_SECOND
LEVELS = 20
WAIT_SLOTS_MAX = 4
"""A minute: a plan may let work wait, but not for as long as the budget of a whole run allows."""
EMPTY_USEC = 1.0
"""Less work than this counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Stays:
    """Of one container: s slots, g levels."""

    level_millicores: IntArray
    """(g,) ascending; the last throttles nothing."""
    end: IntArray
    """(s, g) slot at whose beginning the stay that begins at slot i ends; 0: not allowed."""
    throttled: IntArray
    """(s, g) throttled periods of that stay."""
    is_unmet: BoolArray
    """(s,) slots in which work waits for longer than allowed, or beyond the last, at any limit."""


def cut_slots(known_usec: NDArray[np.floating]) -> FloatArray:
    """Cuts a container's work (periods,) into (SLOT_PERIODS, s); zeros fill the last slot."""
    work = known_usec.astype(np.float64)
    slots = -(-work.size // SLOT_PERIODS)
    filled = np.zeros(slots * SLOT_PERIODS)
    filled[: work.size] = work
    cut: FloatArray = filled.reshape(slots, SLOT_PERIODS).T
    return cut


def find_stays(
    work_usec: FloatArray,
    *,
    threads: float,
    max_backlog_usec: float,
    request_usec: float,
    tau_ratio: float,
    has_burst: bool,
    levels: int = LEVELS,
) -> Stays:
    """Finds levels worth having, and the stays at each.

    Args:
        work_usec: Arrivals by slot, (k, s).
        threads: Of the container.
        max_backlog_usec: Of its closed loop.
        request_usec: Mean CPU time of its requests.
        tau_ratio: Around which throttling levels are chosen.
        has_burst: Whether unused quota is carried over.
        levels: How many; they are quantiles of what single slots need.
    """
    k, s = work_usec.shape
    alone = Stretch(
        arrivals_usec=work_usec[:, :, np.newaxis],
        backlog_usec=np.zeros((s, 1)),
        threads=np.full((s, 1), threads),
        max_backlog_usec=np.full((s, 1), max_backlog_usec),
        request_usec=request_usec,
        has_burst=has_burst,
    )
    needs = find_least_limit(alone, int(tau_ratio * k + 1e-9))
    top = int(find_enough(alone).max())
    chosen = np.quantile(needs, np.linspace(0.0, 1.0, levels - 1), method="closest_observation")
    level_millicores = np.unique(np.append(chosen.astype(np.int64), top))
    return _wait_out(alone, follow_stays(alone, level_millicores))


def follow_stays(alone: Stretch, level_millicores: IntArray) -> Stays:
    """Follows the stays at these levels; each slot of `alone` is a node of one container."""
    s, g = alone.backlog_usec.shape[0], level_millicores.size
    limits = np.broadcast_to(level_millicores.astype(np.float64)[:, None, None], (g, s, 1))
    counted, left = count_throttled(alone, limits)
    throttled, left_usec = counted[..., 0].T.copy(), left[..., 0].T
    end: IntArray = np.where(left_usec <= EMPTY_USEC, np.arange(1, s + 1)[:, None], 0)
    begin, level = np.nonzero(end == 0)
    waits = left_usec[begin, level]
    for length in range(2, WAIT_SLOTS_MAX + 1):
        inside = begin + length <= s
        begin, level, waits = begin[inside], level[inside], waits[inside]
        if not begin.size:
            break
        own = begin + length - 1
        more, waits = _go_on(alone, own, waits, level_millicores[level])
        throttled[begin, level] += more
        is_done = waits <= EMPTY_USEC
        end[begin[is_done], level[is_done]] = begin[is_done] + length
        begin, level, waits = begin[~is_done], level[~is_done], waits[~is_done]
    return Stays(
        level_millicores=level_millicores,
        end=end,
        throttled=throttled,
        is_unmet=np.zeros(s, np.bool_),
    )


def _wait_out(alone: Stretch, stays: Stays) -> Stays:
    """Lets the top level hold where no stay is allowed, until nothing waits or the run is over."""
    end, throttled, is_unmet = stays.end.copy(), stays.throttled.copy(), stays.is_unmet.copy()
    s, over = end.shape[0], 0
    for begin in np.flatnonzero(end[:, -1] == 0):
        if begin < over:
            continue  # It is known already: see below.
        more, waits, over = [], np.zeros(1), int(begin)
        while over == begin or (over < s and waits.item() > EMPTY_USEC):
            count, waits = _go_on(alone, np.array([over]), waits, stays.level_millicores[-1:])
            more.append(count.item())
            over += 1
        is_unmet[begin:over] = True
        # No plan comes to a slot within it with nothing waiting: the rest stands in for its stay.
        within = begin + np.flatnonzero(end[begin:over, -1] == 0)
        end[within, -1] = over
        throttled[within, -1] = np.cumsum(more[::-1])[::-1][within - begin]
    return replace(stays, end=end, throttled=throttled, is_unmet=is_unmet)


def _go_on(
    alone: Stretch, own: IntArray, waits_usec: FloatArray, level_millicores: IntArray
) -> tuple[IntArray, FloatArray]:
    """Runs one more slot each of some stays: slots `own`, with what waits, at these levels.

    Returns:
        Throttled periods, and what waits then.
    """
    more, left = count_throttled(
        replace(
            alone,
            arrivals_usec=alone.arrivals_usec[:, own],
            backlog_usec=waits_usec[:, None],
            threads=alone.threads[own],
            max_backlog_usec=alone.max_backlog_usec[own],
        ),
        level_millicores.astype(np.float64)[None, :, None],
    )
    return more[0, :, 0], left[0, :, 0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # Arrays have no single ==.
class Table:
    """The stays of p containers, filled up to one number of levels."""

    level_millicores: FloatArray
    """(p, g)."""
    end: IntArray
    """(s, p, g)."""
    throttled: FloatArray
    """(s, p, g)."""


def tabulate(stays: list[Stays]) -> Table:
    """Puts containers beside each other; levels that one lacks are not allowed to it."""
    levels = max(each.level_millicores.size for each in stays)

    def fill(values: NDArray[np.int64]) -> NDArray[np.int64]:
        wide = np.zeros((*values.shape[:-1], levels), np.int64)
        wide[..., : values.shape[-1]] = values
        return wide

    return Table(
        level_millicores=np.stack([fill(each.level_millicores) for each in stays]).astype(float),
        end=np.stack([fill(each.end) for each in stays], axis=1),
        throttled=np.stack([fill(each.throttled) for each in stays], axis=1).astype(float),
    )
