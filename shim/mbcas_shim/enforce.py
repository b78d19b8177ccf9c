"""What carrying out orders means, whoever does it: a cgroup's files here, the API elsewhere."""

from collections.abc import Callable, Sequence
from typing import Protocol

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Row
from mbcas_shim.orders import Order


class Enforcer(Protocol):
    """Changes what containers may use."""

    kind: pb.Enforcement.ValueType

    async def apply(self, orders: Sequence[Order]) -> list[pb.OrderResult]:
        """Carries out the orders of one pod, cuts first, and answers each of them."""

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        """Brings every managed row back to what was admitted, as long as that is needed.

        Returns how many could not be brought back.
        """

    async def zero_bursts(self) -> int:
        """Takes burst credit from every managed row; returns how many kept theirs."""

    async def leave(self) -> int:
        """Does what an orderly end demands; returns how many rows it failed for."""


class NodeEnforcer(Enforcer, Protocol):
    """An enforcer that is told which rows come and go."""

    def admit(self, row: Row) -> None:
        """Prepares a row that appeared, before anything is reported of it."""

    def release(self, row: Row) -> None:
        """Takes leave of a row that is no longer declared; its cgroup may live on."""
