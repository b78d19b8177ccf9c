"""Voluntary participation: which pods refuse what they are allocated, and what comes of it.

**Problem.** A pod cannot leave its node's market, for the kernel holds it to its quota whether it
agrees or not; but it can say that what it gets is of no use. Its owner declares a_i
(`min-acceptable-cpu`), the market answers with x_i, and r_i is what the pod needs, its cap applied.

**Equation.** With m_i = min(a_i, r_i),

    the pod refuses  where  x_i < m_i,        compliance_i = min(1, x_i / m_i), 1 where m_i = 0.

x_i is the sum of its reservation targets where any of its containers bids for reservations, else
that of its ceiling targets where any bids for ceilings. Containers that do not bid count with what
they hold, on both sides (r_i as well), and one without a limit counts among ceilings with what it
needs, for nothing stops it. A pod that bids for nothing was allocated nothing and cannot refuse;
nor does an idle one that needs less than it declared and has that. As long as floors fit,
x_i >= min(b_i, r_i): a pod that declares no more than its floor never refuses.

**What a refusal does.** It is counted, told and shown, so that owners and schedulers can act. By
default it changes no allocation. Declaring costs nothing, so whatever a refusal paid would be paid
to whoever declares too much: with floors 100, weights equal, needs 1000 and C = 1000, two pods get
500 each; one that declares 900 and is given the floor 900 for refusing leaves the other 100.

**Floors that grow** (`refusal_floor_step`, default 0) are that rule, for comparison. A pod that has
refused three times in a row gets, for each further refusal, a share of a_i on top of its declared
floor for reservations, up to a_i; once it has not refused for three rounds it has its declared
floor again. (So it refuses anew: the rule cycles by itself.) Two bounds hold even then. What floors
grow by on a node comes out of its surplus alone, scaled down to it where it is more, so that no
declared floor and no reserve pays for it; and a floor does not grow above the need. Ceilings are
left out: what floors add up to is supply there, and would exceed the overcommit.

**Episodes.** Around its threshold a pod may refuse every other round. A refusal is told when it
begins and when the pod has not refused for three rounds, so at most twice in four rounds.

**Cost.** O(n).

**Example.** A pod with a = 500 and containers of need 400 and 300 gets 250 and 150. m = 500, it has
400: it refuses, with compliance 0.8. Had it needed 250 and 150, m would be 400.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbcas_core.market.clearing import sum_by
from mbcas_core.market.pods import PodBids
from mbcas_core.market.targets import GoodTargets, MarketRows, Targets
from mbcas_core.table import Table, column
from mbcas_core.units import BoolArray, FloatArray, IntArray

PATIENCE_ROUNDS = 3
"""Refusals in a row that floors stay as declared for, and rounds after which one is over."""
STEPS_MAX = 10_000
"""Bounds the count of steps: with the least step that does anything, more than a floor can use."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compliance:
    """How far each of the p pods agrees with what it is allocated."""

    allocation_millicores: IntArray
    """0 where it bids for nothing."""
    least_millicores: IntArray
    """What it takes at the least, min(acceptable, need); 0 where it bids for nothing."""
    refuses: BoolArray
    level: FloatArray
    """From 0 to 1; 1 where it agrees."""


class RefusalTable(Table):
    """Each pod's refusals so far."""

    refuses: BoolArray = column(np.bool_, fill=False)
    """In its last round."""
    level: FloatArray = column(np.float64, fill=1.0)
    """Compliance in its last round."""
    in_a_row: IntArray = column()
    quiet_rounds: IntArray = column(fill=PATIENCE_ROUNDS)
    """Rounds since the last refusal, counted up to PATIENCE_ROUNDS."""
    steps: IntArray = column()
    """Refusals beyond PATIENCE_ROUNDS in a row that the floor still grows by."""
    told: BoolArray = column(np.bool_, fill=False)
    """Its refusal was told, and its end was not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episodes:
    """Which pods' refusals began or ended with this round, as indices."""

    began: NDArray[np.intp]
    ended: NDArray[np.intp]


def judge(rows: MarketRows, targets: Targets, acceptable_millicores: IntArray) -> Compliance:
    """Tells which pods refuse what these targets allocate to them."""
    ceiling = np.where(
        rows.has_limit,
        targets.ceiling_millicores,
        np.maximum(targets.reservation_millicores, rows.ceiling_need_millicores),
    )
    reserved = _offer(rows.pod, targets.reservation, targets.reservation_millicores)
    limited = _offer(rows.pod, targets.ceiling_headroom, ceiling)
    allocation: IntArray = np.where(reserved.bids, reserved.allocation, limited.allocation)
    need = np.where(reserved.bids, reserved.need, limited.need)
    bids = reserved.bids | limited.bids
    least: IntArray = np.where(bids, np.minimum(acceptable_millicores, need), 0)
    level: FloatArray = np.ones(least.size)
    np.divide(allocation, least, out=level, where=least > 0)
    return Compliance(
        allocation_millicores=np.where(bids, allocation, 0),
        least_millicores=least,
        refuses=allocation < least,
        level=np.minimum(level, 1.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Offer:
    """One good of the p pods."""

    bids: BoolArray
    allocation: IntArray
    need: IntArray


def _offer(pod: IntArray, good: GoodTargets, of_row: IntArray) -> _Offer:
    """Adds up what a good's clearing gives each pod, fixed containers included."""
    pods = good.pod_need_millicores.size
    allocation = sum_by(pod, of_row, pods)
    return _Offer(
        bids=np.bincount(pod, good.takes_part, pods) > 0,
        allocation=allocation,
        need=allocation - good.pod_allocation_millicores + good.pod_need_millicores,
    )


def remember(table: RefusalTable, pods: IntArray, compliance: Compliance) -> Episodes:
    """Notes one round of these pods; tells which refusals began or ended."""
    refuses = compliance.refuses
    row = np.where(refuses, table.in_a_row[pods] + 1, 0)
    quiet = np.where(refuses, 0, np.minimum(table.quiet_rounds[pods] + 1, PATIENCE_ROUNDS))
    over = quiet >= PATIENCE_ROUNDS
    steps = np.minimum(table.steps[pods] + (row > PATIENCE_ROUNDS), STEPS_MAX)
    told = table.told[pods]
    table.refuses[pods] = refuses
    table.level[pods] = compliance.level
    table.in_a_row[pods] = row
    table.quiet_rounds[pods] = quiet
    table.steps[pods] = np.where(over, 0, steps)
    table.told[pods] = (told | refuses) & ~over
    return Episodes(began=np.flatnonzero(refuses & ~told), ended=np.flatnonzero(told & over))


def find_growth(
    table: RefusalTable, pods: IntArray, acceptable_millicores: IntArray, *, step: float
) -> IntArray:
    """Returns what refusals have earned these pods, in millicores on top of their floors."""
    share = np.minimum(table.steps[pods] * step, 1.0)
    growth: IntArray = (share * acceptable_millicores).astype(np.int64)
    return growth


def grow_floors(
    bids: PodBids,
    *,
    acceptable_millicores: IntArray,
    growth_millicores: IntArray,
    surplus_millicores: IntArray,
) -> IntArray:
    """Returns the containers' floors, each pod's grown out of its node's surplus.

    Args:
        bids: With the declared floors.
        acceptable_millicores: The most that a pod's floor may grow to, shape (p,).
        growth_millicores: What it should grow by, shape (p,).
        surplus_millicores: What each node has above the declared floors, shape (m,); below 0 where
            these do not fit.
    """
    pods, nodes = bids.node.size, surplus_millicores.size
    room = np.maximum(bids.need_millicores - bids.floor_millicores, 0)
    room_of_pod = sum_by(bids.pod, room, pods)
    declared = sum_by(bids.pod, bids.floor_millicores, pods)
    grown = np.minimum(declared + growth_millicores, acceptable_millicores)
    wish = np.clip(grown - declared, 0, room_of_pod)
    wished = sum_by(bids.node, wish, nodes)
    given = np.clip(surplus_millicores, 0, wished)
    wish = wish * given[bids.node] // np.maximum(wished, 1)[bids.node]
    more = room * wish[bids.pod] // np.maximum(room_of_pod, 1)[bids.pod]
    floors: IntArray = bids.floor_millicores + more
    return floors
