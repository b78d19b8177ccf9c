"""Weighted max-min fair sharing: what the clearing is when nothing was promised.

**Problem.** Needs r_i, weights w_i, capacity C. Nobody's share per weight can be raised except by
lowering that of one who has no more per weight (Bertsekas and Gallager, Data Networks, 1992,
section 6.5.2; with weights and caps: Demers, Keshav and Shenker, SIGCOMM 1989).

**Equation.** x_i = min(r_i, w_i L), with sum x = min(C, sum r): the clearing with every floor at 0.

**Weights** add up in MBCAS: two halves of a pod weigh as much as the pod. Counted per pod
(`equal`), they do not, and it pays to run two small pods instead of one.

**What it lacks.** It is as strategy-proof as MBCAS, but promises nothing: a pod whose neighbours
weigh more can get less than the request it was admitted with, although it needs it.

**Example.** C = 1000, q = 10, needs 600, 500, 100, weights 3, 1, 1. At L = 300 the first and the
third have their need: x = 600, 300, 100. Had the second been promised 400, MBCAS would share the
other 600 among s = 600, 100, 100 at L = 400 / 3: x = 400, 500, 100.
"""

from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule


class MaxMin(Rule):
    """The clearing without floors; with `equal`, every pod weighs the same."""

    def __init__(self, *, equal: bool = False) -> None:
        self.name = "max_min_equal" if equal else "max_min"
        self._equal = equal

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        without_floors = replace(
            bids,
            floor_millicores=np.zeros_like(bids.floor_millicores),
            weight=np.ones_like(bids.weight) if self._equal else bids.weight,
        )
        return clear(without_floors, capacity_millicores, quantum_millicores=quantum_millicores)
