"""Orders on their way to the enforcer: the orders of one pod together, emergencies first."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.clock import Clock
from mbcas_shim.counters import Counters
from mbcas_shim.enforce import Enforcer
from mbcas_shim.orders import Order, OrderError, parse_order, result

MAX_QUEUED = 10_000  # As many as one directive may carry.
_LANES = (pb.LANE_EMERGENCY, pb.LANE_NORMAL, pb.LANE_RELEASE)


class ResultSink(Protocol):
    """Where answers go."""

    def add_results(self, results: Iterable[pb.OrderResult]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Batch:
    pod_uid: str
    orders: list[Order]


class OrderQueue:
    """Takes orders in and has them carried out, those of some pods at once and never more."""

    def __init__(
        self,
        *,
        clock: Clock,
        enforcer: Enforcer,
        outbox: ResultSink,
        counters: Counters,
        at_once: int = 1,
    ) -> None:
        self.pod_orders_per_second = 0.0
        """The most orders of one pod; 0 for no bound. The settings directive replaces it."""
        self._clock = clock
        self._enforcer = enforcer
        self._outbox = outbox
        self._counters = counters
        self._lanes: tuple[deque[_Batch], ...] = tuple(deque() for _ in _LANES)
        self._queued = 0
        self._at_once = at_once
        self._begun: set[str] = set()
        self._begun_seconds: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: pb.Orders) -> None:
        """Takes orders in; those that cannot be understood or held are answered at once."""
        now = self._clock.now_seconds()
        by_pod: dict[str, list[Order]] = {}
        refusals: list[pb.OrderResult] = []
        for item in message.orders:
            if self._queued >= MAX_QUEUED:
                self._counters.count("orders_overflow", f"more than {MAX_QUEUED} wait")
                refusals.append(
                    result(
                        item.order_id,
                        pb.OUTCOME_REFUSED,
                        cause="QueueFull",
                        retry_after_seconds=1.0,
                    )
                )
                continue
            try:
                order = parse_order(item, received_seconds=now)
            except OrderError as error:
                self._counters.count("order_invalid", error)
                refusals.append(
                    result(
                        item.order_id,
                        pb.OUTCOME_REFUSED,
                        cause="InvalidOrder",
                        field=error.field,
                    )
                )
                continue
            by_pod.setdefault(order.pod_uid, []).append(order)
            self._queued += 1
        for pod_uid, orders in by_pod.items():
            self._lanes[min(map(_rank, orders))].append(_Batch(pod_uid, orders))
        if refusals:
            self._outbox.add_results(refusals)
        self._wake.set()

    async def void(self) -> None:
        """Drops all orders that have not begun and waits for those that have."""
        for lane in self._lanes:
            lane.clear()
        self._queued = 0
        await self._idle.wait()

    async def run(self) -> None:
        """Carries out orders for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (batch := self._next()) is not None:
                    self._idle.clear()
                    self._begun.add(batch.pod_uid)
                    group.create_task(self._finish(batch), name="order")
                    # Samples are read in between, however many orders came at once.
                    await asyncio.sleep(0)

    async def _finish(self, batch: _Batch) -> None:
        try:
            self._outbox.add_results(await self._carry_out(batch))
        finally:
            self._begun.discard(batch.pod_uid)
            if not self._begun:
                self._idle.set()
            self._wake.set()

    def _next(self) -> _Batch | None:
        """Takes the next batch out, of a pod for which nothing is being done."""
        if len(self._begun) >= self._at_once:
            return None
        for lane in self._lanes:
            for index, batch in enumerate(lane):
                if batch.pod_uid not in self._begun:
                    del lane[index]
                    self._queued -= len(batch.orders)
                    return batch
        return None

    async def _carry_out(self, batch: _Batch) -> list[pb.OrderResult]:
        now = self._clock.now_seconds()
        live = [order for order in batch.orders if now <= order.expires_seconds]
        results = [
            result(order.order_id, pb.OUTCOME_EXPIRED)
            for order in batch.orders
            if now > order.expires_seconds
        ]
        wait_seconds = self._wait_seconds(batch.pod_uid, now)
        if wait_seconds > 0:
            return results + [
                result(
                    order.order_id,
                    pb.OUTCOME_REFUSED,
                    cause="PodRate",
                    retry_after_seconds=wait_seconds,
                )
                for order in live
            ]
        if live:
            results += await self._enforcer.apply(live)
        return results

    def _wait_seconds(self, pod_uid: str, now_seconds: float) -> float:
        """How long a pod must still wait; where it need not, its turn begins now."""
        if self.pod_orders_per_second <= 0:
            self._begun_seconds.clear()
            return 0.0
        spacing = 1 / self.pod_orders_per_second
        remaining = self._begun_seconds.get(pod_uid, now_seconds - spacing) + spacing - now_seconds
        if remaining > 0:
            return remaining
        if len(self._begun_seconds) >= MAX_QUEUED:
            self._begun_seconds = {
                uid: begun
                for uid, begun in self._begun_seconds.items()
                if begun + spacing > now_seconds
            }
        self._begun_seconds[pod_uid] = now_seconds
        return 0.0


def _rank(order: Order) -> int:
    return _LANES.index(order.lane) if order.lane in _LANES else len(_LANES) - 1
