"""Clearing: many markets at once, each shared by weighted max-min of the surplus.

**Problem.** Bidders i of one market have needs r_i, floors b_i and weights w_i, and there is C to
share. With b'_i = min(b_i, r_i), what is wished for above the floors is s_i = r_i - b'_i, and the
surplus is S = C - sum b'. Among all x with b' <= x <= r and sum x <= C, choose the one that
maximises prod (x_i - b'_i)^{w_i} over the bidders with s_i > 0.

**Equation.** Where everything fits (sum s <= S), x = r. Otherwise

    x_i = b'_i + min(s_i, w_i L),    and the level L solves    f(L) = sum min(s_i, w_i L) = S.

Picture vessels of width w_i and height s_i / w_i filled from one pipe: L is the water's height.
Where the floors alone do not fit (sum b' > C), nothing is surplus, and C itself is shared by the
same rule with floors 0, needs b' and weights b: x_i = min(b'_i, b_i L).

**Method.** f is concave and piecewise linear, so Newton's method started below the root stays below
it: L_0 = S / sum w, then L = (S - sum of the s_i that L fills) / (sum of the other weights). Each
step fills at least one more vessel or ends, so it is finite; five or six steps are usual. Nothing
is sorted, and as every step adds up the weights that are left afresh, a weight of 10^-6 beside one
of 10^6 loses nothing.

**Integers.** Floors and needs stay in whole millicores; what comes on top is counted in units of
the quantum q. The share w_i L / q is fixed to 24 binary places, which makes every comparison that
follows one of integers, and bidders that tie in exact arithmetic tie here. (Shares above 10^8
quanta outgrow a float's 53 bits: there a unit may go to another bidder. The sum is exact always.)
Its whole part is handed out; a bidder that L fills gets s_i whole. The remainder goes out by
largest fraction, rows in their order where these are equal, q each or what is left up to r_i.

**Cost.** O(n) per Newton step over the rows of markets that still move, and one sort of the rows
that wait for a part of the remainder, by (market, fraction). Markets are cleared in blocks whose
arrays fit the processor's cache; what is written anew in main memory takes longer than counting.

**Example.** C = 1000, q = 10, needs 600, 500, 100, floors 300, 200, 200, weights 3, 1, 1.
b' = 300, 200, 100, so S = 400 and s = 300, 300, 0. L_0 = 400 / 4 = 100 fills the first vessel,
L_1 = (400 - 300) / 1 = 100 fills no other: x = 600, 300, 100.
"""

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mbcas_core.units import BoolArray, FloatArray, IntArray

_Number = TypeVar("_Number", np.int64, np.float64)

BLOCK_ROWS = 20_000
"""Rows cleared together: some ten arrays of them, 160 kB each, are in use at a time."""
FRACTION_BITS = 24
"""Binary places of a share in quanta: 10^4 rows, each off by 2^-25, stay well below one quantum."""
_FRACTION_UNIT = 1 << FRACTION_BITS
_STEP_DOWN = 1.0 - 2.0**-36
"""Lowers a level whose shares add up to too much: more than rounding errors in a sum amount to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bids:
    """The n bids of m markets, sorted by market; row i is the same bidder in every array."""

    market: IntArray
    """Index of the bid's market, 0 to m - 1, ascending. A market may have no bid."""
    need_millicores: IntArray
    floor_millicores: IntArray
    """What is promised, above the need as well: min(floor, need) is what counts."""
    weight: FloatArray
    """Above 0."""

    def __post_init__(self) -> None:
        shape = self.market.shape
        assert self.need_millicores.shape == shape, "one need per bid"
        assert self.floor_millicores.shape == shape, "one floor per bid"
        assert self.weight.shape == shape, "one weight per bid"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clearing:
    """What every bid gets, and the levels at which the markets cleared."""

    allocation_millicores: IntArray
    """(n,): at most the need; sums to min(capacity, sum of needs) in each market."""
    level: FloatArray
    """(m,) millicores per unit of weight; inf where everybody got their need."""
    floors_reduced: BoolArray
    """(m,) True where the floors did not fit: the level is then one of millicores per floor."""
    demand_millicores: IntArray
    """(m,) sum of the needs."""
    floor_sum_millicores: IntArray
    """(m,) sum of min(floor, need)."""
    asking_weight: FloatArray
    """(m,) weight of the bids that ask for more than their floor."""


class Share(Protocol):
    """A rule that shares m markets, `clear` or another."""

    def __call__(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        """See `clear`."""
        ...


def clear(bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int) -> Clearing:
    """Clears m markets.

    Args:
        bids: The bids of all markets.
        capacity_millicores: What each market can hand out, shape (m,), at least 0.
        quantum_millicores: What lies above a floor is handed out in units of this, at least 1.
    """
    assert quantum_millicores >= 1, "a quantum is at least a millicore"
    if bids.market.size <= BLOCK_ROWS:
        return _clear_block(bids, capacity_millicores, quantum_millicores)
    blocks = [
        _clear_block(
            _slice_bids(bids, rows, markets), capacity_millicores[markets], quantum_millicores
        )
        for rows, markets in _cut_into_blocks(bids.market, capacity_millicores.size)
    ]
    names = (field.name for field in fields(Clearing))
    return Clearing(
        **{name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
    )


def _cut_into_blocks(market: IntArray, markets: int) -> list[tuple[slice, slice]]:
    """Returns the rows and the markets of each block: whole markets, about BLOCK_ROWS rows."""
    first_market = np.unique(np.concatenate([[0], market[BLOCK_ROWS::BLOCK_ROWS], [markets]]))
    first_row = np.searchsorted(market, first_market)
    edges = zip(first_row.tolist(), first_market.tolist(), strict=True)
    return [
        (slice(row, next_row), slice(first, following))
        for (row, first), (next_row, following) in pairwise(edges)
    ]


def _slice_bids(bids: Bids, rows: slice, markets: slice) -> Bids:
    return Bids(
        market=bids.market[rows] - markets.start,
        need_millicores=bids.need_millicores[rows],
        floor_millicores=bids.floor_millicores[rows],
        weight=bids.weight[rows],
    )


def _clear_block(bids: Bids, capacity_millicores: IntArray, quantum_millicores: int) -> Clearing:
    markets = capacity_millicores.size
    market, need = bids.market, bids.need_millicores
    counted: IntArray = np.minimum(bids.floor_millicores, need)
    first = _find_runs(market)
    named = market[first]
    demand = _sum_from(first, named, need, markets)
    floor_sum = _sum_from(first, named, counted, markets)
    reduced: BoolArray = floor_sum > capacity_millicores
    rationed: BoolArray = demand > capacity_millicores
    allocation: IntArray = need.copy()
    level: FloatArray = np.full(markets, np.inf)

    if rationed.any():
        base, wished, weight = counted, need - counted, bids.weight
        if reduced.any():
            short = reduced[market]
            base = np.where(short, 0, base)
            wished = np.where(short, counted, wished)
            weight = np.where(short, bids.floor_millicores, weight)
        surplus = np.where(reduced, capacity_millicores, capacity_millicores - floor_sum)
        rows: IntArray = np.flatnonzero(rationed[market] & (wished > 0))
        share, level = _share_surplus(
            market[rows], wished[rows], weight[rows], surplus, quantum_millicores
        )
        allocation = np.where(rationed[market], base, need)
        allocation[rows] += share
        level[~rationed] = np.inf

    return Clearing(
        allocation_millicores=allocation,
        level=level,
        floors_reduced=reduced,
        demand_millicores=demand,
        floor_sum_millicores=floor_sum,
        asking_weight=_sum_from(first, named, bids.weight * (need > counted), markets),
    )


def sum_by(group: IntArray, values: IntArray, groups: int) -> IntArray:
    """Adds up integers by group; exact, as sums of CPU stay far below 2^53."""
    return np.bincount(group, values, groups).astype(np.int64)


def sum_runs(group: IntArray, values: NDArray[_Number], groups: int) -> NDArray[_Number]:
    """Adds up by group where groups ascend: each is a run of neighbours, which is much faster."""
    first = _find_runs(group)
    return _sum_from(first, group[first], values, groups)


def _sum_from(
    first: IntArray, group: IntArray, values: NDArray[_Number], groups: int
) -> NDArray[_Number]:
    """Adds up runs that begin at `first`, each the group with this index."""
    total = np.zeros(groups, dtype=values.dtype)
    total[group] = np.add.reduceat(values, first)
    return total


def _find_runs(group: IntArray) -> IntArray:
    """Returns where each run of equal neighbours begins."""
    begins: BoolArray = np.ones(group.size, dtype=np.bool_)
    np.not_equal(group[1:], group[:-1], out=begins[1:])
    return begins.nonzero()[0]


def sum_counted_floors(bids: Bids, markets: int) -> IntArray:
    """Adds up the floors of each market, each counted up to its need."""
    return sum_runs(bids.market, np.minimum(bids.floor_millicores, bids.need_millicores), markets)


def _share_surplus(
    market: IntArray, wished: IntArray, weight: FloatArray, surplus: IntArray, quantum: int
) -> tuple[IntArray, FloatArray]:
    """Shares each market's surplus among bids that together wish for more.

    Returns:
        What each bid gets, which sums to the surplus, and the level of each market.
    """
    level = _find_levels(market, wished.astype(np.float64), weight, surplus)
    first = _find_runs(market)
    bidders = market[first]
    remainder: IntArray = np.zeros(surplus.size, dtype=np.int64)
    while True:
        share, fraction = _round_down(market, wished, weight, level, quantum)
        remainder[bidders] = surplus[bidders] - np.add.reduceat(share, first)
        too_high = remainder < 0
        if not too_high.any():
            break
        level[too_high] *= _STEP_DOWN
    while remainder.any():
        handed = _hand_out(market, wished - share, fraction, remainder, quantum)
        share = share + handed
        remainder[bidders] -= np.add.reduceat(handed, first)
    return share, level


def _find_levels(
    market: IntArray, wished: FloatArray, weight: FloatArray, surplus: IntArray
) -> FloatArray:
    """Solves sum min(wished, weight * level) = surplus in each market; 0 where nobody bids."""
    markets = surplus.size
    left = surplus.astype(np.float64)
    weight_left = sum_runs(market, weight, markets)
    level: FloatArray = np.zeros(markets)
    np.divide(left, weight_left, out=level, where=weight_left > 0)
    while market.size:
        is_filled = wished <= weight * level[market]
        filled = np.flatnonzero(is_filled)
        if filled.size == 0:
            break
        filled_sum = sum_runs(market[filled], wished[filled], markets)
        moving = filled_sum > 0
        left -= filled_sum
        kept = np.flatnonzero(~is_filled & moving[market])
        market, wished, weight = market[kept], wished[kept], weight[kept]
        weight_left = sum_runs(market, weight, markets)
        np.divide(left, weight_left, out=level, where=moving & (weight_left > 0))
    return level


def _round_down(
    market: IntArray, wished: IntArray, weight: FloatArray, level: FloatArray, quantum: int
) -> tuple[IntArray, IntArray]:
    """Returns the whole quanta of each share in millicores, and what was cut off, in 2^-24."""
    scale = _FRACTION_UNIT / quantum
    wished_fixed = np.rint(wished * scale)
    share_fixed = np.rint(np.minimum(weight * level[market] * scale, wished_fixed))
    fixed = share_fixed.astype(np.int64)
    whole = (fixed >> FRACTION_BITS) * quantum
    filled = share_fixed >= wished_fixed
    return np.where(filled, wished, whole), fixed & (_FRACTION_UNIT - 1)


def _hand_out(
    market: IntArray, open_wish: IntArray, fraction: IntArray, remainder: IntArray, quantum: int
) -> IntArray:
    """Hands each market's remainder out by largest fraction, at most a quantum to each bid."""
    handed: IntArray = np.zeros(market.size, dtype=np.int64)
    waiting = np.flatnonzero((open_wish > 0) & (remainder > 0)[market])
    market, open_wish, fraction = market[waiting], open_wish[waiting], fraction[waiting]
    order_key = market * _FRACTION_UNIT + (_FRACTION_UNIT - 1 - fraction)
    # A market's rows are neighbours and stay so: `market` is the same before and after sorting.
    order = np.argsort(order_key, kind="stable")
    portion = np.minimum(open_wish[order], quantum)
    before = np.cumsum(portion) - portion
    first = _find_runs(market)
    start = np.zeros_like(remainder)
    start[market[first]] = before[first]
    left = (remainder + start)[market] - before
    handed[waiting[order]] = np.minimum(np.maximum(left, 0), portion)
    return handed
