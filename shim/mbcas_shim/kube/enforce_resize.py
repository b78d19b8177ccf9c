"""Carries out orders through the resize subresource of pods.

An order is tried once; whoever sent it hears what the API server said, by status and cause.
"""

from collections.abc import Callable, Iterable, Sequence

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.clock import Clock
from mbcas_shim.inventory import Row
from mbcas_shim.kube.resize_answers import UNSUPPORTED, Verdict
from mbcas_shim.kube.resize_patch import plan_orders
from mbcas_shim.kube.resizer import Memory, Resizer
from mbcas_shim.kube.restorer import Restorer
from mbcas_shim.kube.restoring import Admitted
from mbcas_shim.orders import Order, result


class ResizeEnforcer:
    """Patches pods as ordered, and gives back admitted values when nobody orders any more."""

    kind = pb.ENFORCEMENT_RESIZE

    def __init__(
        self, resizer: Resizer, *, clock: Clock, room_millicores: Callable[[], int]
    ) -> None:
        """Prepares; makes no call.

        Args:
            resizer: Patches pods.
            clock: Spaces the fail-safe's calls.
            room_millicores: What may still be added to the requests of the node.
        """
        self._resizer = resizer
        self._restorer = Restorer(resizer, clock=clock, room_millicores=room_millicores)

    async def apply(self, orders: Sequence[Order]) -> list[pb.OrderResult]:
        async with self._restorer.calling:
            pass  # What the fail-safe has begun to send comes to its end first.
        resizer = self._resizer
        pod = resizer.pods.find(orders[0].pod_uid)
        if pod is None:
            return _all(orders, pb.OUTCOME_STALE, "UnknownPod")
        if resizer.check.skip_reason:
            return _all(orders, pb.OUTCOME_REFUSED, UNSUPPORTED)
        _note(resizer.memory(pod.uid), orders)
        stale = [order for order in orders if resizer.is_stale(pod, order)]
        fresh = [order for order in orders if order not in stale]
        plan = plan_orders(pod, resizer.specs(pod), fresh)
        results = [*_all(stale, pb.OUTCOME_STALE, "Generation"), *plan.results]
        if plan.changes:
            verdict = await resizer.send(pod, plan.changes)
            results += [_result(order, verdict) for order in plan.sent]
        return results

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        return await self._restorer.restore(is_needed)

    async def zero_bursts(self) -> int:
        return 0

    def admit(self, row: Row) -> None:
        """Does nothing: the kubelet has set what the pod asks for."""

    def release(self, row: Row) -> None:
        """Does nothing: the pod ends, and its cgroups with it."""

    async def leave(self) -> int:
        """Changes no limit: what is in force stays right while another shim starts."""
        self._resizer.close()
        return await self.zero_bursts()


def _note(memory: Memory, orders: Sequence[Order]) -> None:
    """Takes over what orders say beside the change; the server speaks, so silence has ended."""
    memory.is_unfitting = False
    memory.raised.clear()
    for order in orders:
        if order.admitted is not None:
            memory.admitted[order.container] = Admitted(order.admitted, order.restores_exactly)


def _all(
    orders: Iterable[Order], outcome: pb.Outcome.ValueType, cause: str
) -> list[pb.OrderResult]:
    return [result(order.order_id, outcome, cause=cause) for order in orders]


def _result(order: Order, verdict: Verdict) -> pb.OrderResult:
    answer = result(
        order.order_id,
        verdict.outcome,
        cause=verdict.cause,
        field=verdict.field,
        retry_after_seconds=verdict.retry_after_seconds,
    )
    answer.status, answer.generation = verdict.status, verdict.generation
    return answer
