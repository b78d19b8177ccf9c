"""The audit of one clearing: is this outcome the one that was promised?

**Problem.** Finding an outcome takes a method, and a method can be wrong. Recognising it takes only
the conditions that mark it out, so the audit knows nothing of Newton's method, of fixed-point
shares or of handing out remainders. It takes what a market was given and what it answered, and
names every property that does not hold.

**Conditions.** With b' = min(b, r), s = r - b', S = C - sum b' and the quantum q, the programme
max sum w_i log(x_i - b'_i), b' <= x <= r, sum x <= C, has exactly one solution: the x with

| name | what holds otherwise |
|---|---|
| `need-exceeded` | 0 <= x_i <= r_i |
| `floor-broken` | x_i >= b'_i, where sum b' <= C: individually rational |
| `not-pareto` | sum x = min(C, sum r), to the millicore |
| `envy` | x_i < r_i implies (x_i - b'_i) / w_i >= (x_j - b'_j) / w_j for every j |
| `share-broken` | x_i >= min(r_i, b_i + w_i (C - sum b) / sum w), where sum b' <= C |
| `level-inconsistent` | x_i = b'_i + min(s_i, w_i L), and L is infinite iff sum r <= C |
| `sums-wrong` | demand, counted floors, asking weight and the flag say what the bids say |

The first four are the Karush-Kuhn-Tucker conditions: `envy` says that w_i / (x_i - b'_i) is one
number lambda for all who are short of their need, and no less than it for the others. They decide
the outcome; `share-broken` follows from them and is checked because it is promised. Where the
floors do not fit, the same conditions hold with floors 0, needs b' and weights b; shares are not
claimed.

That a bidder's own need does nothing but cap what the others leave it (own-cap form, hence
strategy-proof) speaks of two markets. One outcome shows this much of it: whoever is short has
b'_i + w_i L, in which its need does not appear. That is `level-inconsistent`.

The gauges of a clearing are audited with it:

| name | what holds otherwise |
|---|---|
| `price-range` | finite; lambda in [0, its greatest], the other two in [0, 1] |
| `price-without-scarcity` | all three are 0 iff sum r <= C; where S <= 0, greatest lambda and 1 |
| `price-level` | lambda L = 1 |
| `price-normalized-wrong` | lambda (C - sum b') / sum of w where s > 0 |
| `shortage-wrong` | shortage sum r = sum r - C |

**Rounding.** A share is off by less than a quantum, and by 2^-24 of one where the clearing fixes
fractions; sums of floats add 10^-9 of the number. Everything in whole millicores is exact.

**Cost.** O(n), some thirty passes over the rows.

**Example.** C = 1000, q = 10, needs 600, 500, 100, floors 300, 200, 200, weights 3, 1, 1. The
answer 600, 300, 100 passes. 590, 310, 100 has the first short at (290 + 10) / 3 = 100 and the
second at (110 - 10) / 1 = 100: still within a quantum each. 570, 330, 100 gives 93 against 120:
`envy`.
"""

from dataclasses import dataclass

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing
from mbcas_core.market.findings import Finding, Findings
from mbcas_core.market.price import SHADOW_PRICE_MAX, Prices
from mbcas_core.units import MILLICORES_PER_CORE, BoolArray, FloatArray, IntArray

CLEARING_PROPERTIES = (
    "need-exceeded",
    "floor-broken",
    "not-pareto",
    "envy",
    "share-broken",
    "level-inconsistent",
    "sums-wrong",
)
PRICE_PROPERTIES = (
    "price-range",
    "price-without-scarcity",
    "price-level",
    "price-normalized-wrong",
    "shortage-wrong",
)

_FRACTION = 2.0**-20
"""Of a quantum: above the 2^-24 to which the clearing fixes shares."""
_RELATIVE = 1e-9
"""Above what adding up ten thousand floats loses."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sharing:
    """What m markets shared among n bidders, at whichever level; row i is one bidder."""

    market: IntArray
    need: IntArray
    floor: IntArray
    weight: FloatArray
    got: IntArray
    capacity: IntArray
    """(m,)"""
    level: FloatArray
    """(m,)"""
    level_is_claimed: BoolArray
    """(m,) False where the level says nothing, as where a market has one bidder."""
    fairness_is_claimed: BoolArray
    """(m,) False where more than bids decided, such as credits: there, envy and level are open."""


def audit_clearing(
    bids: Bids,
    capacity_millicores: IntArray,
    clearing: Clearing,
    *,
    quantum_millicores: int,
    prices: Prices | None = None,
) -> list[Finding]:
    """Returns every property that a clearing violates; its prices are audited where given."""
    claimed = np.ones(capacity_millicores.size, np.bool_)
    sharing = Sharing(
        market=bids.market,
        need=bids.need_millicores,
        floor=bids.floor_millicores,
        weight=bids.weight,
        got=clearing.allocation_millicores,
        capacity=capacity_millicores,
        level=clearing.level,
        level_is_claimed=claimed,
        fairness_is_claimed=claimed,
    )
    findings = Findings(market_of_row=bids.market)
    check_sharing(sharing, findings, quantum_millicores=quantum_millicores)
    check_sums(
        sharing,
        findings,
        demand=clearing.demand_millicores,
        floor_sum=clearing.floor_sum_millicores,
        floors_reduced=clearing.floors_reduced,
    )
    asking_weight = find_asking_weight(sharing)
    off = np.abs(clearing.asking_weight - asking_weight) > _RELATIVE * asking_weight
    findings.markets("sums-wrong", off, asking_weight=clearing.asking_weight, by_hand=asking_weight)
    if prices is not None:
        check_prices(sharing, findings, prices)
    return findings.found


def check_sharing(sharing: Sharing, findings: Findings, *, quantum_millicores: int) -> None:
    """Checks who got what."""
    counted: IntArray = np.minimum(sharing.floor, sharing.need)
    floor_sum = add_up(sharing, counted)
    demand = add_up(sharing, sharing.need)
    sold = add_up(sharing, sharing.got)
    reduced: BoolArray = floor_sum > sharing.capacity
    outside = (sharing.got > sharing.need) | (sharing.got < 0)
    findings.rows("need-exceeded", outside, got=sharing.got, need=sharing.need)
    broken = (sharing.got < counted) & ~reduced[sharing.market]
    findings.rows("floor-broken", broken, got=sharing.got, owed=counted)
    due: IntArray = np.minimum(sharing.capacity, demand)
    findings.markets("not-pareto", sold != due, sold=sold, due=due)

    short = reduced[sharing.market]
    unit = quantum_millicores * (1.0 + _FRACTION)
    surplus = _Surplus(
        sharing=sharing,
        base=np.where(short, 0, counted),
        wish=np.where(short, counted, sharing.need - counted),
        weight=np.where(short, sharing.floor.astype(np.float64), sharing.weight),
        unit_millicores=unit,
    )
    _check_envy(surplus, findings)
    _check_shares(sharing, findings, fits=~reduced, unit=unit)
    _check_levels(surplus, findings, rationed=demand > sharing.capacity)


def check_sums(
    sharing: Sharing,
    findings: Findings,
    *,
    demand: IntArray,
    floor_sum: IntArray,
    floors_reduced: BoolArray,
) -> None:
    """Checks what a clearing says of its bids, shape (m,) each."""
    counted: IntArray = np.minimum(sharing.floor, sharing.need)
    floors, needs = add_up(sharing, counted), add_up(sharing, sharing.need)
    findings.markets("sums-wrong", demand != needs, demand=demand, by_hand=needs)
    findings.markets("sums-wrong", floor_sum != floors, floors=floor_sum, by_hand=floors)
    wrong = floors_reduced != (floors > sharing.capacity)
    flag = floors_reduced.astype(np.int64)
    findings.markets("sums-wrong", wrong, reduced=flag, floors=floors, capacity=sharing.capacity)


def check_prices(sharing: Sharing, findings: Findings, prices: Prices) -> None:
    """Checks the gauges of markets cleared at these levels."""
    price, normalized, shortage = (
        prices.shadow_price,
        prices.shadow_price_normalized,
        prices.shortage,
    )
    fine = np.isfinite(price) & (price >= 0) & (price <= SHADOW_PRICE_MAX)
    for gauge in (normalized, shortage):
        fine &= (gauge >= 0) & (gauge <= 1)
    numbers = {"price": price, "normalized": normalized, "shortage": shortage}
    findings.markets("price-range", ~fine, **numbers)

    demand = add_up(sharing, sharing.need)
    counted: IntArray = np.minimum(sharing.floor, sharing.need)
    surplus = sharing.capacity - add_up(sharing, counted)
    rationed = demand > sharing.capacity
    sold_out = rationed & (surplus <= 0)
    shared = rationed & (surplus > 0)
    wrong = rationed != (shortage > 0)
    wrong |= ~rationed & ((price != 0) | (normalized != 0))
    wrong |= sold_out & ((price != SHADOW_PRICE_MAX) | (normalized != 1))
    findings.markets("price-without-scarcity", wrong, **numbers)

    level = np.where(shared & np.isfinite(sharing.level), sharing.level, 1.0)
    by_level = np.minimum(MILLICORES_PER_CORE / level, SHADOW_PRICE_MAX)
    wrong = shared & ~_close(price, by_level)
    findings.markets("price-level", wrong, price=price, by_hand=by_level)
    weight = find_asking_weight(sharing)
    asking = np.where(shared, weight, 1.0)
    by_hand = np.minimum(np.where(shared, surplus, 0) / (level * asking), 1.0)
    wrong = shared & ~_close(normalized, by_hand)
    findings.markets("price-normalized-wrong", wrong, normalized=normalized, by_hand=by_hand)
    missing: IntArray = np.maximum(demand - sharing.capacity, 0)
    wrong = np.abs(shortage * demand - missing) > _RELATIVE * demand
    findings.markets("shortage-wrong", wrong, shortage=shortage, missing=missing, demand=demand)


def find_asking_weight(sharing: Sharing) -> FloatArray:
    """Adds up the weight of those who ask for more than their floor, shape (m,)."""
    weight: FloatArray = np.zeros(sharing.capacity.size)
    asks = sharing.need > sharing.floor
    np.add.at(weight, sharing.market[asks], sharing.weight[asks])
    return weight


def add_up(sharing: Sharing, values: IntArray) -> IntArray:
    """Adds up integers by market."""
    total: IntArray = np.zeros(sharing.capacity.size, np.int64)
    np.add.at(total, sharing.market, values)
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Surplus:
    """What is shared by weight: what lies above floors, or reduced floors themselves."""

    sharing: Sharing
    base: IntArray
    wish: IntArray
    weight: FloatArray
    unit_millicores: float
    """What rounding may move."""


def _check_envy(surplus: _Surplus, findings: Findings) -> None:
    sharing, unit = surplus.sharing, surplus.unit_millicores
    asks = (surplus.wish > 0) & sharing.fairness_is_claimed[sharing.market]
    weight = np.where(asks, surplus.weight, 1.0)
    extra = sharing.got - surplus.base
    most = np.full(sharing.capacity.size, -np.inf)
    np.maximum.at(most, sharing.market[asks], ((extra - unit) / weight)[asks])
    most_seen = most[sharing.market]
    short = asks & (extra < surplus.wish)
    envious = short & ((extra + unit) / weight < most_seen * (1.0 - _RELATIVE))
    per_weight = extra / weight
    findings.rows("envy", envious, has_per_weight=per_weight, others_have=most_seen)


def _check_shares(sharing: Sharing, findings: Findings, *, fits: BoolArray, unit: float) -> None:
    """Sharing incentive: nobody does worse than with its part of the market to itself."""
    weight_sum = np.zeros(fits.size)
    np.add.at(weight_sum, sharing.market, sharing.weight)
    spare = sharing.capacity - add_up(sharing, sharing.floor)
    per_weight = spare / np.where(weight_sum > 0, weight_sum, 1.0)
    extra = sharing.weight * per_weight[sharing.market]
    part = np.minimum(sharing.need, sharing.floor + extra)
    slack = unit + _RELATIVE * (sharing.floor + np.abs(extra))
    broken = fits[sharing.market] & (sharing.got < part - slack)
    findings.rows("share-broken", broken, got=sharing.got, part=part)


def _check_levels(surplus: _Surplus, findings: Findings, *, rationed: BoolArray) -> None:
    sharing = surplus.sharing
    claimed = sharing.level_is_claimed & sharing.fairness_is_claimed
    wrong = claimed & (np.isfinite(sharing.level) != rationed)
    findings.markets(
        "level-inconsistent", wrong, level=sharing.level, rationed=rationed.astype(np.int64)
    )
    level = np.where(np.isfinite(sharing.level), sharing.level, 0.0)[sharing.market]
    share = np.minimum(surplus.wish, surplus.weight * level)
    expected = np.where(rationed[sharing.market], surplus.base + share, sharing.need)
    distance = np.abs(sharing.got - expected)
    off = distance > surplus.unit_millicores + _RELATIVE * expected
    off &= (claimed & np.isfinite(sharing.level) | ~rationed)[sharing.market]
    findings.rows("level-inconsistent", off, got=sharing.got, by_level=expected)


def _close(value: FloatArray, by_hand: FloatArray) -> BoolArray:
    close: BoolArray = np.abs(value - by_hand) <= _RELATIVE * np.abs(by_hand)
    return close
