"""The nodes' markets as their last rounds left them: what `Allocate` clears bids against.

They are copies that nobody changes, replaced by the driver after each tick. So a scheduler that
asks about a node waits neither for a tick nor for the other callers of the core.
"""

from collections.abc import Set as AbstractSet

from mbcas_core.errors import UnknownNodeError
from mbcas_core.market.allocate import LiveMarket


class LiveMarkets:
    """The market of each node that has had a round."""

    def __init__(self) -> None:
        self._markets: dict[str, LiveMarket] = {}

    def update(self, cleared: dict[str, LiveMarket], *, nodes: AbstractSet[str]) -> None:
        """Takes over the markets that a tick cleared; forgets all but these nodes."""
        self._markets |= cleared
        for name in self._markets.keys() - nodes:
            del self._markets[name]

    def names(self) -> list[str]:
        """The nodes that have one, ascending."""
        return sorted(self._markets)

    def market(self, node: str) -> LiveMarket:
        """Returns a node's market.

        Raises:
            UnknownNodeError: No shim of this node has reported.
        """
        market = self._markets.get(node)
        if market is None:
            raise UnknownNodeError(node)
        return market
