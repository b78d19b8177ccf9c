"""What an audit knows of a round: what the market was told and what it answered, row by row."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mbcas_core.events import Policy
from mbcas_core.market.targets import MarketNodes, MarketPods, MarketRows, Targets
from mbcas_core.parameters import Parameters
from mbcas_core.units import BoolArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """What a round was told and what it answered."""

    rows: MarketRows
    pods: MarketPods
    nodes: MarketNodes
    targets: Targets
    parameters: Parameters

    @cached_property
    def node_of_row(self) -> IntArray:
        node: IntArray = self.pods.node[self.rows.pod]
        return node

    def sum_pods(self, values: IntArray) -> IntArray:
        """Adds up the rows of each pod."""
        total: IntArray = np.zeros(self.pods.node.size, np.int64)
        np.add.at(total, self.rows.pod, values)
        return total

    def sum_nodes(self, values: IntArray) -> IntArray:
        """Adds up the rows of each node."""
        total: IntArray = np.zeros(self.nodes.allocatable_millicores.size, np.int64)
        np.add.at(total, self.node_of_row, values)
        return total

    @cached_property
    def reserves(self) -> BoolArray:
        """True for rows that bid for a reservation."""
        bids: BoolArray = self.rows.takes_part & (self.rows.policy != Policy.LIMITS_ONLY)
        return bids

    @cached_property
    def heads(self) -> BoolArray:
        """True for rows that bid for headroom."""
        policy = self.rows.policy
        two = (policy == Policy.LIMITS_ONLY) | (policy == Policy.REQUESTS_AND_LIMITS)
        bids: BoolArray = self.rows.takes_part & self.rows.has_limit & two
        return bids

    @cached_property
    def fixed_headroom(self) -> IntArray:
        """What the ceilings of rows that do not bid have above their reservations."""
        rows, reservation = self.rows, self.targets.reservation_millicores
        follows = rows.takes_part & (rows.policy == Policy.HARD_QUOTA)
        fixed = rows.has_limit & ~self.heads & ~follows
        headroom: IntArray = np.maximum(rows.fixed_ceiling_millicores - reservation, 0)
        return np.where(fixed, headroom, 0)
