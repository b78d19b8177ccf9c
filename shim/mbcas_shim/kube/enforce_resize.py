"""Carries out orders through the resize subresource of pods.

An order is tried once; whoever sent it hears what the API server said, by status and cause.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.clock import Clock
from mbcas_shim.inventory import Cpu, Row
from mbcas_shim.kube.bursts import Bursts
from mbcas_shim.kube.resize_answers import UNSUPPORTED, Verdict
from mbcas_shim.kube.resize_patch import merged, plan_orders
from mbcas_shim.kube.resizer import Memory, Resizer
from mbcas_shim.kube.restorer import Restorer
from mbcas_shim.kube.restoring import Admitted
from mbcas_shim.orders import Order, result

SETTLE_SECONDS = 1.0  # The kubelet writes a quota within tens of milliseconds; a burst may wait.


class ResizeEnforcer:
    """Patches pods as ordered, and gives back admitted values when nobody orders any more."""

    kind = pb.ENFORCEMENT_RESIZE

    def __init__(
        self,
        resizer: Resizer,
        *,
        clock: Clock,
        room_millicores: Callable[[], int],
        bursts: Bursts | None = None,
    ) -> None:
        """Prepares; makes no call.

        Args:
            resizer: Patches pods.
            clock: Spaces the fail-safe's calls.
            room_millicores: What may still be added to the requests of the node.
            bursts: Keeps burst credit, where this shim may write it.
        """
        self._resizer = resizer
        self._clock = clock
        self._bursts = bursts
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
        results = _all(stale, pb.OUTCOME_STALE, "Generation")
        if self._bursts is not None:
            self._bursts.note(fresh)
            moved = self._bursts.settle_pod(pod.uid, _later(resizer.specs(pod), plan.changes))
            if moved is None:
                return results + _all(fresh, pb.OUTCOME_REFUSED, "BurstRefused")
            _note_moved(plan.results, fresh, moved)
        results += plan.results
        if plan.changes:
            verdict = await resizer.send(pod, plan.changes)
            results += [_result(order, verdict) for order in plan.sent]
        return results

    async def run_bursts(self) -> None:
        """Raises burst credit once the kernel has the quotas for it, and lowers it, for ever."""
        while self._bursts is not None:
            self._bursts.settle(self._specs_of)
            await self._clock.sleep_until(self._clock.now_seconds() + SETTLE_SECONDS)

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        return await self._restorer.restore(is_needed)

    async def zero_bursts(self) -> int:
        return 0 if self._bursts is None else self._bursts.zero()

    def admit(self, row: Row) -> None:
        """Takes burst credit that another shim left; the kubelet has set what the pod asks for."""
        if self._bursts is not None:
            self._bursts.zero([row])

    def release(self, row: Row) -> None:
        """Takes burst credit back; for the rest, the pod ends, and its cgroups with it."""
        if self._bursts is not None:
            self._bursts.zero([row])

    async def leave(self) -> int:
        """Changes no limit: what is in force stays right while another shim starts."""
        self._resizer.close()
        return await self.zero_bursts()

    def _specs_of(self, uid: str) -> Mapping[str, Cpu] | None:
        pod = self._resizer.pods.find(uid)
        return None if pod is None else self._resizer.specs(pod)


def _later(specs: Mapping[str, Cpu], changes: Mapping[str, Cpu]) -> dict[str, Cpu]:
    """What containers have once some changes are made."""
    return {name: merged(spec, changes.get(name, Cpu())) for name, spec in specs.items()}


def _note_moved(
    results: Iterable[pb.OrderResult], orders: Iterable[Order], moved: Collection[str]
) -> None:
    """Calls an order that changed nothing but burst credit what it is."""
    names = {order.order_id: order.container for order in orders}
    for answer in results:
        if answer.outcome == pb.OUTCOME_UNCHANGED and names[answer.order_id] in moved:
            answer.outcome = pb.OUTCOME_APPLIED


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
    answer.message = verdict.message
    return answer
