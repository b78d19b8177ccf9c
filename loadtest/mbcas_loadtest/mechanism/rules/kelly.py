"""Proportional share: CPU goes to bidders in proportion to the money they offer.

**Problem.** Bidder i offers money m_i and the market of capacity C hands out

    x_i = C m_i / sum m,      at the price  p = sum m / C  per millicore.

With m_i really charged and bidders who take p as given, the equilibrium maximises the sum of
utilities (Kelly, Charging and rate control for elastic traffic, 1997); bidders who foresee how
their money moves p lose at most a quarter of that (Johari and Tsitsiklis, Efficiency loss in a
network resource allocation game, 2004).

**What a bid means as money.** A cluster charges nobody, so money is a figure of speech: the
*reported need* is the money, a millicore of need a coin, and coins cost nothing. Weights and floors
say nothing here. That is how proportional scaling treats requests, and how it is played: whoever
asks for twice as much is given nearly twice as much as long as the market is short.

**Capped or not.** Where everything fits, p would be below one coin a millicore. `capped`, the
default, lets nobody have more than they asked for: x = r min(1, C / sum r). Not capped, the whole
capacity is handed out always, and truth costs those who need little: they get more, as waste.

**Charged** (`KellyCharged`). With money that is really paid, a report stands for a value function,
as in `vcg`. Price-takers buy up to where a millicore is worth p, so the equilibrium is the most
valuable allocation, and everybody pays p x, with p the worth of the dearest millicore that stays
unsold. Truth is best for whoever cannot move the price; whoever can gains by asking for less.

**Cost.** That of the clearing with weights r and floors 0, whose rounding it shares.

**Example.** C = 600, needs 600 and 300: p = 1.5 coins, x = 400 and 200. If the second reports 600,
both get 300, which is all it needed: the lie pays 100m.
"""

from dataclasses import replace

import numpy as np

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import FloatArray, IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule, describe_clearing
from mbcas_loadtest.mechanism.rules.vcg import Vcg


class Kelly(Rule):
    """Shares in proportion to reported needs; its level is in millicores per millicore asked."""

    def __init__(self, *, capped: bool = True) -> None:
        self.name = "kelly" if capped else "kelly_uncapped"
        self._capped = capped

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        need = bids.need_millicores
        most = need if self._capped else capacity_millicores[bids.market]
        money = replace(
            bids,
            need_millicores=np.where(need > 0, most, 0),
            floor_millicores=np.zeros_like(need),
            weight=np.maximum(need, 1).astype(np.float64),
        )
        shared = clear(money, capacity_millicores, quantum_millicores=quantum_millicores)
        return describe_clearing(
            bids, capacity_millicores, shared.allocation_millicores, shared.level
        )


class KellyCharged(Vcg):
    """Kelly's equilibrium of price-takers: the allocation of VCG, at one price for all."""

    name = "kelly_charged"

    def pay(
        self, bids: Bids, capacity_millicores: IntArray, *, rows: IntArray | None = None
    ) -> FloatArray:
        sold = self.clear(bids, capacity_millicores, quantum_millicores=1)
        payment: FloatArray = sold.allocation_millicores / sold.level[bids.market]
        return payment
