"""What waits to be sent to one node's shim.

Bounded: one settings directive, one heartbeat (the newest, which also carries what the older ones
asked for) and so many orders. An order that waited longer than it may is dropped here: sent late it
would be carried out late, because a shim counts from when it receives it.
"""

import asyncio
from collections import deque
from typing import Literal

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.effects import Order
from mbcas_server.answers import order_message

ORDERS_PER_DIRECTIVE = 1_000
Kind = Literal["settings", "orders", "heartbeat"]


class Outbox:
    """One stream's outbox."""

    def __init__(self, *, server_epoch: int, orders_max: int) -> None:
        self._server_epoch = server_epoch
        self._orders_max = orders_max
        self._sequence = 0
        self._settings: pb.Settings | None = None
        self._orders: deque[tuple[float, Order]] = deque()
        self._heartbeat: pb.Heartbeat | None = None
        self._filled = asyncio.Event()
        self.orders_dropped = 0
        """Orders that were never sent: too many, or too late."""

    async def wait_filled(self) -> None:
        """Waits until there is something to send."""
        await self._filled.wait()

    def put_settings(self, settings: pb.Settings) -> None:
        self._settings = settings
        self._filled.set()

    def put_heartbeat(self, *, tick: int, inventory_requested: bool) -> None:
        wanted = inventory_requested or (
            self._heartbeat is not None and self._heartbeat.inventory_requested
        )
        self._heartbeat = pb.Heartbeat(tick=tick, inventory_requested=wanted)
        self._filled.set()

    def put_orders(self, orders: tuple[Order, ...], *, now_seconds: float) -> None:
        room = self._orders_max - len(self._orders)
        self.orders_dropped += max(0, len(orders) - room)
        self._orders.extend(
            (now_seconds + order.expires_after_seconds, order) for order in orders[: max(0, room)]
        )
        self._filled.set()

    def take(self, *, now_seconds: float) -> tuple[Kind, pb.NodeDirective] | None:
        """Returns the next directive, None where nothing waits."""
        while self._orders and self._orders[0][0] <= now_seconds:
            self._orders.popleft()
            self.orders_dropped += 1
        directive = pb.NodeDirective(server_epoch=self._server_epoch, sequence=self._sequence + 1)
        kind: Kind
        if self._settings is not None:
            directive.settings.CopyFrom(self._settings)
            self._settings, kind = None, "settings"
        elif self._orders:
            count = min(ORDERS_PER_DIRECTIVE, len(self._orders))
            orders = [self._orders.popleft()[1] for _ in range(count)]
            directive.orders.orders.extend(order_message(order) for order in orders)
            kind = "orders"
        elif self._heartbeat is not None:
            directive.heartbeat.CopyFrom(self._heartbeat)
            self._heartbeat, kind = None, "heartbeat"
        else:
            self._filled.clear()
            return None
        self._sequence += 1
        return kind, directive
