"""Credits: a pod may pay, out of a finite purse, for what it would otherwise refuse.

**Problem.** Who gets less than it can use wants a little more now and could give some back later.
Floors that grow with refusals give it away for nothing (`participation`); credits sell it. A
credit is one millicore for one round. Each pod starts with e credits for each core of its admitted
request, and as much as one pays, others receive: on a node nothing is made or lost.

**Equation.** The pods of a node were cleared: x_i, with needs r_i, floors b'_i = min(b_i, r_i),
weights w_i, and surplus S = C - sum b'. Pod i takes at the least m_i = min(a_i, r_i) and has K_i
credits, at most Kmax_i. Who would refuse (x_i < m_i) wishes for l_i; the others have g_j to spare:

    l_i = min(m_i - x_i, K_i)
    g_j = min(x_j - max(h_j, m_j), Kmax_j - K_j)     h_j = min(r_j, b'_j + w_j S / sum w)
    T   = min(sum l, sum g)

T goes to those who wish by the rule of the clearing, min(l_i, w_i M) with sum T; of the others'
spare, sum g - T stays with them by the same rule, min(g_j, w_j N), and the rest is taken: whoever
has most to spare for its weight gives first. Taker and giver settle one credit a millicore.

**What holds.** h_j is what j would get on a node split by weight once and for all (its *static
share*), so no giver is worse off than without a market. Nobody falls below min(floor, need) or into
a refusal, nobody exceeds its need, the sum stays: properties 4, 5 and 7 hold as they do without.
What can be lent is what others leave of their static shares; where all ask for more than those,
nothing moves. A purse is finite and a refusal costs what it moves, so a false a_i buys no more than
K_i millicores for one round, once. Truth is no longer a dominant strategy (declaring a_i pays while
the purse lasts), and a pod that was lifted may be envied.

**Why so.** e is counted by admitted request, so that splitting a pod buys no purses and a pod
without a request has none. A full purse gives no more (rather than giving for nothing), so that the
bound Kmax breaks no sum. Where the floors do not fit, nothing is surplus and nothing moves.

**Cost.** O(n) and two clearings among those who move, where anybody refuses.

**Example.** C = 900; three pods without floors, weights equal, needs 100, 600, 600: x = 100, 400,
400, static shares 100, 300, 300. The second takes 450 at the least and has 30 credits. The third
can spare 100: the second gets 430 and has no credits left, the third 370 and 30 credits more.
"""

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear, sum_by
from mbcas_core.table import Table, column
from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray, IntArray

PURSES_MAX = 3
"""A pod holds at most this many endowments: who saves does not own the node one day."""


class CreditTable(Table):
    """Each pod's purse."""

    endowed: BoolArray = column(np.bool_, fill=False)
    balance: IntArray = column()
    restored: FloatArray = column(np.float64, fill=np.nan)
    """What was in it before it is filled here; NaN: nobody knows of any."""


def endow(
    table: CreditTable, pods: IntArray, admitted_millicores: IntArray, *, per_core: int
) -> IntArray:
    """Fills the purses of pods seen for the first time; returns the most that each may hold.

    One that an earlier server knew gets what it held then, if it may hold that much.

    Args:
        table: Changed.
        pods: Which pods, each once.
        admitted_millicores: The sum of each one's admitted requests.
        per_core: Credits for each core of these.
    """
    endowment: IntArray = admitted_millicores * per_core // MILLICORES_PER_CORE
    most: IntArray = endowment * PURSES_MAX
    new, restored = ~table.endowed[pods], table.restored[pods]
    known = ~np.isnan(restored)
    held = np.where(known, np.minimum(np.where(known, restored, 0.0), most), endowment)
    table.balance[pods[new]] = held[new].astype(np.int64)
    table.endowed[pods[new]] = True
    return most


def lend(
    pods: Bids,
    cleared: Clearing,
    capacity_millicores: IntArray,
    *,
    acceptable_millicores: IntArray,
    balance: IntArray,
    balance_max: IntArray,
    quantum_millicores: int,
) -> IntArray:
    """Returns what credits move, shape (p,): above 0 to a pod, below 0 from it.

    Each pod's balance falls by exactly this.

    Args:
        pods: What the pods bid on their nodes.
        cleared: What they got.
        capacity_millicores: What each node could hand out, shape (m,).
        acceptable_millicores: What each pod declared, shape (p,).
        balance: Credits of each pod, at least 0.
        balance_max: The most that each may hold.
        quantum_millicores: CPU moves in units of this.
    """
    nodes = capacity_millicores.size
    got = cleared.allocation_millicores
    least = np.minimum(acceptable_millicores, pods.need_millicores)
    fits = ~cleared.floors_reduced[pods.market]
    wish: IntArray = np.where(got < least, np.minimum(least - got, balance), 0)
    if not wish.any():
        return np.zeros_like(got)
    kept = np.maximum(find_static_shares(pods, capacity_millicores), least)
    spare: IntArray = np.where(
        fits & (got >= least), np.minimum(got - kept, balance_max - balance), 0
    )
    spare = np.maximum(spare, 0)
    spare_of_node = sum_by(pods.market, spare, nodes)
    moved = np.minimum(sum_by(pods.market, wish, nodes), spare_of_node)
    lifted = _share(pods, wish, moved, quantum_millicores)
    left = _share(pods, spare, spare_of_node - moved, quantum_millicores)
    return lifted - (spare - left)


def find_static_shares(pods: Bids, capacity_millicores: IntArray) -> IntArray:
    """Returns what each pod would get if what is above the floors were split by weight for good.

    In whole millicores, rounded up; its floor where the floors do not fit.
    """
    nodes = capacity_millicores.size
    floor = np.minimum(pods.floor_millicores, pods.need_millicores)
    surplus = np.maximum(capacity_millicores - sum_by(pods.market, floor, nodes), 0)
    weight_sum = np.bincount(pods.market, pods.weight, nodes)
    part: FloatArray = pods.weight * surplus[pods.market] / weight_sum[pods.market]
    share: IntArray = np.minimum(pods.need_millicores, floor + np.ceil(part).astype(np.int64))
    return share


def _share(pods: Bids, wish: IntArray, total: IntArray, quantum: int) -> IntArray:
    """Shares each node's total among those who wish, by weight, up to their wish."""
    rows: IntArray = np.flatnonzero(wish > 0)
    shared: IntArray = np.zeros_like(wish)
    shared[rows] = clear(
        Bids(
            market=pods.market[rows],
            need_millicores=wish[rows],
            floor_millicores=np.zeros_like(rows),
            weight=pods.weight[rows],
        ),
        total,
        quantum_millicores=quantum,
    ).allocation_millicores
    return shared
