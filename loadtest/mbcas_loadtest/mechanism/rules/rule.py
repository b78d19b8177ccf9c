"""What every rule is to the code around it: the clearing's signature, and three optional parts.

A rule turns the bids of m markets into allocations, exactly as `mbcas_core.market.clearing.clear`
does, so `rule.clear` can stand wherever that function stands. Beyond that a rule may

- charge money (`pay`): only VCG does, the others charge nothing;
- remember (`reset` forgets): Karma keeps credits, `frozen` its gauges. Row i of each call is then
  the same bidder in the same market as in the call before. State is replaced, never written into,
  so `copy.copy(rule)` keeps a moment of it;
- know what no bid says (`observe`): the kernel sees real demand, VCG knows how the value of CPU
  falls with the share of the need that is met, the price response how willing a bidder is to wait.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, sum_by
from mbcas_core.units import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What is known of the n bidders apart from their bids."""

    demand_millicores: IntArray
    """What each would really use."""
    elasticity: FloatArray
    """How much of its comfort each gives up at a high price: 0.2 critical, 0.5 normal, 0.9 low."""
    throttling_target_ratio: FloatArray
    """The share of throttling that each accepts at price 0."""
    relax: Callable[[FloatArray], FloatArray]
    """From throttling targets, shape (n,), to the need at them, as a share of the need at price 0.
    At most 1, as a price only ever raises the target."""
    acceptable_millicores: IntArray
    """What each declared as `min-acceptable-cpu`, 0 where it did not."""
    part_ratio: FloatArray
    """(n, parts) the need in parts within which a millicore is worth the same; rows sum to 1."""
    part_value: FloatArray
    """(n, parts) what a millicore of each part is worth, descending, above 0."""


class Rule(Protocol):
    """One way to share CPU. Only `clear` must be written; what is here serves a rule without it."""

    name: str
    """A short word for tables: letters, digits and underscores."""

    settling_rounds: int = 0
    """How many rounds pass before a rule with memory answers to what goes on, and not to its start.
    """

    _facts: Facts | None = None

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        """Clears m markets, see `mbcas_core.market.clearing.clear`.

        Allocations are at least 0 and sum to at most the capacity in each market. More than the
        need, or less than min(floor, need), is what some rules give, and says why they are here.
        """
        ...

    def pay(
        self, bids: Bids, capacity_millicores: IntArray, *, rows: IntArray | None = None
    ) -> FloatArray:
        """Returns what each bidder is charged for what `clear` gives it, shape (n,).

        Args:
            bids: As they were cleared.
            capacity_millicores: As it was handed out.
            rows: Where given, the others' charges are not worked out, and 0.
        """
        del capacity_millicores, rows
        payment: FloatArray = np.zeros(bids.market.size)
        return payment

    def observe(self, facts: Facts) -> None:
        """Is told the facts that hold from the next clearing on, and keeps them as `_facts`."""
        self._facts = facts

    def reset(self) -> None:
        """Forgets all rounds before; a rule without memory has nothing to forget."""
        del self


def with_needs(bids: Bids, need_millicores: IntArray) -> Bids:
    """Returns the same bids with these needs."""
    return replace(bids, need_millicores=need_millicores)


def with_floors(bids: Bids, floor_millicores: IntArray) -> Bids:
    """Returns the same bids with these floors."""
    return replace(bids, floor_millicores=floor_millicores)


def describe_clearing(
    bids: Bids, capacity_millicores: IntArray, allocation_millicores: IntArray, level: FloatArray
) -> Clearing:
    """Puts an allocation that some other rule found into the clearing's terms."""
    markets = capacity_millicores.size
    counted: IntArray = np.minimum(bids.floor_millicores, bids.need_millicores)
    floor_sum = sum_by(bids.market, counted, markets)
    asking_weight = np.bincount(
        bids.market, bids.weight * (bids.need_millicores > counted), markets
    )
    return Clearing(
        allocation_millicores=allocation_millicores,
        level=level,
        floors_reduced=floor_sum > capacity_millicores,
        demand_millicores=sum_by(bids.market, bids.need_millicores, markets),
        floor_sum_millicores=floor_sum,
        asking_weight=asking_weight.astype(np.float64),
    )
