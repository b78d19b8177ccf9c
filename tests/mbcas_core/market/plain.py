"""The clearing as one would do it by hand: one market, plain loops, exact rationals.

It follows the words of the mechanism: sort by s / w, fill, round down, hand out the remainder by
largest fraction. Only one thing it shares with the vectorised code by agreement: fractions are
compared in steps of 2^-24 of a quantum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

STEPS = 2**24


@dataclass(frozen=True)
class PlainMarket:
    """One market; entry i of every list is about the same bidder."""

    needs: list[int]
    floors: list[int]
    weights: list[float]
    capacity: int
    quantum: int


@dataclass(frozen=True)
class PlainClearing:
    allocations: list[int]
    level: Fraction | None
    floors_reduced: bool
    shares: list[Fraction]
    """What each gets before rounding."""


def clear_plainly(market: PlainMarket) -> PlainClearing:
    counted = [min(floor, need) for floor, need in zip(market.floors, market.needs, strict=True)]
    if sum(market.needs) <= market.capacity:
        return PlainClearing(
            allocations=list(market.needs),
            level=None,
            floors_reduced=False,
            shares=[Fraction(need) for need in market.needs],
        )
    reduced = sum(counted) > market.capacity
    if reduced:
        base = [0] * len(counted)
        wished = counted
        weights = [Fraction(floor) for floor in market.floors]
        surplus = market.capacity
    else:
        base = counted
        wished = [need - floor for need, floor in zip(market.needs, counted, strict=True)]
        weights = [Fraction(weight) for weight in market.weights]
        surplus = market.capacity - sum(counted)
    level = find_level(wished, weights, surplus)
    shares = [min(Fraction(s), w * level) for s, w in zip(wished, weights, strict=True)]
    given = round_shares(shares, wished, surplus, market.quantum)
    return PlainClearing(
        allocations=[low + extra for low, extra in zip(base, given, strict=True)],
        level=level,
        floors_reduced=reduced,
        shares=[low + share for low, share in zip(base, shares, strict=True)],
    )


def find_level(wished: Sequence[int], weights: Sequence[Fraction], surplus: int) -> Fraction:
    """Solves sum min(s, w L) = S where sum s > S: fills vessels from the lowest on."""
    vessels = sorted((Fraction(s) / w, s, w) for s, w in zip(wished, weights, strict=True) if s > 0)
    left = Fraction(surplus)
    weight_left = sum((w for _, _, w in vessels), Fraction(0))
    for height, s, w in vessels:
        if left <= height * weight_left:
            return left / weight_left
        left -= s
        weight_left -= w
    raise AssertionError("everything fits: there is no level")


def round_shares(
    shares: Sequence[Fraction], wished: Sequence[int], surplus: int, quantum: int
) -> list[int]:
    steps = [round(share / quantum * STEPS) for share in shares]
    full = [round(Fraction(s, quantum) * STEPS) for s in wished]
    given = [
        s if step >= most else step // STEPS * quantum
        for s, step, most in zip(wished, steps, full, strict=True)
    ]
    left = surplus - sum(given)
    for row in sorted(range(len(given)), key=lambda row: (-(steps[row] % STEPS), row)):
        portion = min(quantum, wished[row] - given[row], left)
        given[row] += portion
        left -= portion
    assert left == 0, "the remainder is at most a quantum for each row that was rounded"
    return given
