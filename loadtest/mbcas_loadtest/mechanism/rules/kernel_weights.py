"""Weights only: what the kernel gives to actual demand when nobody sets limits.

**Problem.** A control group with cpu.weight w_i may use what it has work for, and where work
exceeds the CPU, time goes to the groups by weight (cgroup-v2.rst, "Weights"; Stoica et al., A
proportional share resource allocation algorithm, 1996).

**Equation.** x_i = min(D_i, w_i L), sum x = min(C, sum D), with D_i what i would really use: a
report is never asked for, so none can lie. `need` and `floor` of a bid are ignored.

**Weights.** On Kubernetes a pod's weight follows its admitted request, as `Bids.weight` does. Pods
without requests all have the same least weight: `equal` takes 1 for every pod. Then, as with any
weight that is counted per pod, splitting a pod into two doubles its weight.

**What it lacks.** It shares time, not promises: nothing is reserved for a scheduler to count with,
and a limit, if there is one, stays where it was set.

**Cost.** That of the clearing. **Example.** C = 1000, q = 10, demand 900, 600, 100, weights 2, 1,
1: L = 300, so 600, 300, 100. Had the second asked for 5000, it would be given 300 all the same.
"""

from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, describe_clearing


class KernelWeights(Rule):
    """Shares actual demand by weight; must be told the facts before it clears."""

    def __init__(self, *, equal: bool = False) -> None:
        self.name = "kernel_equal" if equal else "kernel_weights"
        self._equal = equal

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        assert self._facts is not None, "the kernel must see demand: call observe first"
        seen = replace(
            bids,
            need_millicores=self._facts.demand_millicores,
            floor_millicores=np.zeros_like(bids.floor_millicores),
            weight=np.ones_like(bids.weight) if self._equal else bids.weight,
        )
        shared = clear(seen, capacity_millicores, quantum_millicores=quantum_millicores)
        return describe_clearing(
            bids, capacity_millicores, shared.allocation_millicores, shared.level
        )
