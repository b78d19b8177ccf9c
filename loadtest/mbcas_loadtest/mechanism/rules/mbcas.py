"""The production clearing: weighted max-min of the surplus above floors.

Theory, method and example stand in `mbcas_core.market.clearing`, whose function this calls.
"""

from mbcas_core.market.clearing import Bids, Clearing, clear
from mbcas_core.units import IntArray
from mbcas_loadtest.mechanism.rules.rule import Rule


class Mbcas(Rule):
    """Floors up to the need first, then the surplus by weight."""

    name = "mbcas"

    def clear(
        self, bids: Bids, capacity_millicores: IntArray, *, quantum_millicores: int
    ) -> Clearing:
        return clear(bids, capacity_millicores, quantum_millicores=quantum_millicores)
