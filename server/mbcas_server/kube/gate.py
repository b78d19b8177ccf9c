"""No order leaves before what its container was admitted with is written down.

The first order of a pod waits until its PodAllocation is there; later ones pass at once, because
admitted values seldom change. Emergencies have writers of their own: they wait for their own pod's
write, not for other pods'.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mbcas_core.effects import Lane, Order
from mbcas_core.events import OrderResult, Outcome
from mbcas_server.clock import Clock
from mbcas_server.kube.allocation import ContainerAllocation, PodKey
from mbcas_server.kube.client import ApiError
from mbcas_server.kube.pod_allocations import PodAllocations
from mbcas_server.leadership import Leadership
from mbcas_server.links import Link, Links
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

WRITERS = 10  # For each of the two queues.
HELD_MAX = 20_000  # Orders; more than the budget gives in the time that one may wait.
CAUSE = "PodAllocation"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    link: Link
    order: Order
    since_seconds: float


@dataclass(eq=False, slots=True)
class _Pod:
    waiting: deque[_Held] = field(default_factory=deque)
    is_served: bool = False


@dataclass(eq=False, slots=True, kw_only=True)
class Gate:
    """Holds orders, writes what they rest on, and passes them on."""

    allocations: PodAllocations
    leadership: Leadership
    links: Links
    clock: Clock
    metrics: Metrics
    _pods: dict[PodKey, _Pod] = field(init=False, default_factory=dict)
    _held_count: int = field(init=False, default=0)
    _urgent: asyncio.Queue[PodKey] = field(init=False, default_factory=asyncio.Queue)
    _normal: asyncio.Queue[PodKey] = field(init=False, default_factory=asyncio.Queue)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = LimitedLog(logger, self.clock)

    def put(self, link: Link, orders: Iterable[Order]) -> None:
        """Passes orders on, now or later; those of one pod stay in this order."""
        now_seconds = self.clock.now_seconds()
        ready: list[_Held] = []
        for order in orders:
            held = _Held(link, order, now_seconds)
            pod = pod_of(order)
            if self.allocations.is_elsewhere(pod, link.node):
                self._refuse([held], Outcome.REFUSED)
            elif pod not in self._pods and self._is_written(order):
                ready.append(held)
            elif self._held_count >= HELD_MAX:
                self._refuse([held], Outcome.REFUSED)
            else:
                self._hold(pod, held)
        self._pass(ready)

    async def run(self) -> None:
        """Writes, for as long as it is let."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._serve(self._urgent), name=f"urgent gate {number}")
                group.create_task(self._serve(self._normal), name=f"gate {number}")

    def _hold(self, pod: PodKey, held: _Held) -> None:
        known = self._pods.get(pod)
        if known is None:
            known = self._pods[pod] = _Pod()
            self._normal.put_nowait(pod)
        if held.order.lane is Lane.EMERGENCY and not known.is_served:
            self._urgent.put_nowait(pod)  # Whichever writer comes first serves it.
        known.waiting.append(held)
        self._held_count += 1

    async def _serve(self, queue: asyncio.Queue[PodKey]) -> None:
        while True:
            key = await queue.get()
            pod = self._pods.get(key)
            if pod is None or pod.is_served:
                continue
            pod.is_served = True
            while pod.waiting:
                await self._serve_batch(key, pod)
            del self._pods[key]

    async def _serve_batch(self, key: PodKey, pod: _Pod) -> None:
        batch = self._drop_late(pod.waiting)
        written = batch
        if any(not self._is_written(held.order) for held in batch):
            written = await self._write(key, batch)
        for _ in batch:
            pod.waiting.popleft()
        self._held_count -= len(batch)
        now_seconds = self.clock.now_seconds()
        for held in batch:
            self.metrics.orders_held_seconds.observe(now_seconds - held.since_seconds)
        self._pass(written)
        self._refuse([held for held in batch if held not in written], Outcome.REFUSED)

    def _drop_late(self, waiting: deque[_Held]) -> list[_Held]:
        """Returns what is worth a write; what has expired in the queue leaves it."""
        now_seconds = self.clock.now_seconds()
        late = [held for held in waiting if _left_seconds(held, now_seconds) <= 0]
        if late:
            kept = [held for held in waiting if held not in late]
            waiting.clear()
            waiting.extend(kept)
            self._held_count -= len(late)
            self._refuse(late, Outcome.EXPIRED)
        return list(waiting)

    async def _write(self, pod: PodKey, batch: list[_Held]) -> list[_Held]:
        """Writes what orders rest on; returns those of the node that the pod runs on.

        A shim is believed about pods of its own node alone: the API server says which these are.
        """
        try:
            node = await self.allocations.node_of(pod)
            own = [held for held in batch if held.link.node == node]
            for held in batch:
                if held.link.node != node:
                    self.allocations.tell_elsewhere(pod, held.link.node, runs_on=node)
            if any(not self._is_written(held.order) for held in own):
                await self.allocations.write(pod, _parts(own), node=node)
        except ApiError as error:
            self._log.log(
                logging.WARNING,
                "PodAllocation not written",
                f"pod={pod.namespace}/{pod.name} error={error}",
            )
            return []
        return own

    def _is_written(self, order: Order) -> bool:
        return self.allocations.is_written(pod_of(order), order.container, order.admitted)

    def _pass(self, batch: list[_Held]) -> None:
        """Puts orders into their streams; those of a stream that is over are void.

        While one waited, an operator may have frozen, or another server begun to decide.
        """
        stopped = self.leadership.frozen or not self.leadership.may_order
        now_seconds = self.clock.now_seconds()
        by_link: dict[Link, list[Order]] = {}
        for held in batch:
            left_seconds = _left_seconds(held, now_seconds)
            if stopped or self.links.link(held.link.node) is not held.link:
                self.metrics.orders_dropped.inc()
            elif left_seconds <= 0:
                self._refuse([held], Outcome.EXPIRED)
            else:
                order = replace(held.order, expires_after_seconds=left_seconds)
                by_link.setdefault(held.link, []).append(order)
        for link, orders in by_link.items():
            link.outbox.put_orders(tuple(orders), now_seconds=now_seconds)

    def _refuse(self, batch: list[_Held], outcome: Outcome) -> None:
        """Tells the core, as a shim would."""
        for held in batch:
            self.metrics.orders_refused.inc()
            if self.links.link(held.link.node) is held.link:
                result = OrderResult(order_id=held.order.order_id, outcome=outcome, cause=CAUSE)
                held.link.inbox.put_results((result,))
                self.links.mark_due(held.link)


def pod_of(order: Order) -> PodKey:
    """Returns the pod that an order is about."""
    return PodKey(order.namespace, order.pod, order.pod_uid)


def _parts(batch: list[_Held]) -> dict[str, ContainerAllocation]:
    return {
        held.order.container: ContainerAllocation(
            admitted=held.order.admitted, desired=held.order.desired
        )
        for held in batch
    }


def _left_seconds(held: _Held, now_seconds: float) -> float:
    return held.since_seconds + held.order.expires_after_seconds - now_seconds
