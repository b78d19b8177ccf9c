"""MBCAS with the frozen price response: targets of throttling rise with others' shortage.

The response stands in `mbcas_core.market.response`; here it acts on reports. A report r is read as
the need at price 0; at the gauge in force it is scaled by what the bidder's own demand makes of the
larger target, F^-1(1 - tau_eff) / F^-1(1 - tau). Who ignores the price asks for the inverse of that
factor times its need, and so is at its peak again.

**It may cycle.** Relaxed needs fit, so the shortage is gone and needs return with the next epoch:
four pods of the example on a node of 720 get 180 in one epoch and 100 in the next.

**Example.** Demand is 100 in nine seconds of ten and 300 in the tenth; tau = 5 %, so the need is
300. With gauge 0.2 and elasticity 0.5, tau_eff = 0.05 + 0.5 x 0.2 x 0.95 = 14.5 %, and the need is
100. Where the share is 300, truth costs 200m, which a report of 900 gives back.
"""

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.market.response import (
    Gauges,
    advance,
    find_effective_tau,
    find_shortages_without,
    scale_needs,
)
from mbcas_core.parameters import Parameters
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, with_needs

SETTLING_EPOCHS = 4
"""After so many epochs smoothed gauges are within 1e-4 of where they go, or on their cycle."""


class Frozen(Rule):
    """MBCAS after needs were relaxed; must be told the facts, and remembers the gauges."""

    def __init__(self, *, epochs_later: int = 0) -> None:
        """Settles for so many epochs more: an odd number meets cycles in their other phase."""
        self.name = f"frozen_{epochs_later}_later" if epochs_later else "frozen"
        self._parameters = Parameters()
        self._gauges: Gauges | None = None
        epochs = SETTLING_EPOCHS + epochs_later
        self.settling_rounds = epochs * self._parameters.response_epoch_rounds

    def reset(self) -> None:
        self._gauges = None

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        assert self._facts is not None, "needs follow from demand: call observe first"
        parameters, rows = self._parameters, bids.market.size
        gauges = self._gauges
        if gauges is None:
            gauges = Gauges(
                smoothed=np.zeros(rows),
                frozen=np.zeros(rows),
                round_count=np.zeros(rows, dtype=np.int64),
            )
        assert gauges.frozen.size == rows, "row i stays the same bidder until reset is called"
        tau = find_effective_tau(
            self._facts.throttling_target_ratio,
            self._facts.elasticity,
            gauges.frozen,
            tau_max=parameters.tau_max,
        )
        need = scale_needs(bids.need_millicores, self._facts.relax(tau), least_millicores=0)
        shortage = find_shortages_without(bids.market, need, capacity_millicores)
        self._gauges = advance(
            gauges,
            shortage,
            smoothing=parameters.response_smoothing,
            epoch_rounds=parameters.response_epoch_rounds,
        )
        return clear(
            with_needs(bids, need), capacity_millicores, quantum_millicores=quantum_millicores
        )
