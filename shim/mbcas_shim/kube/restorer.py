"""The fail-safe's calls: what was admitted is learned, and given back at the pace of one node."""

import asyncio
import functools
from collections.abc import Callable

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.clock import Clock
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.api import KubeApiError, KubeApiUnreachableError
from mbcas_shim.kube.pod_allocations import AllocationUnknownError, read_admitted
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.resizer import UNREACHABLE, Resizer
from mbcas_shim.kube.restoring import (
    Admitted,
    Held,
    Restore,
    find_blocked,
    is_restorable,
    plan_restore,
)

SPACING_SECONDS = 0.5  # Between calls: two a second and node.
_MAX_NAMED = 5  # Containers in one log line.


class Restorer:
    """Gives back admitted values, once for each time it is asked."""

    def __init__(
        self, resizer: Resizer, *, clock: Clock, room_millicores: Callable[[], int]
    ) -> None:
        self.calling = asyncio.Lock()
        """Held while a PATCH is on its way."""
        self._resizer = resizer
        self._pods = resizer.pods
        self._counters = resizer.counters
        self._clock = clock
        self._room_millicores = room_millicores
        self._next_call_seconds = 0.0

    async def restore(self, is_needed: Callable[[], bool]) -> int:
        """Gives back as long as that is needed; returns how much must be tried again."""
        failed = 0
        try:
            failed += await self._withdraw(is_needed)
            failed += await self._learn_admitted(is_needed)
            for step in self._plan_restore():
                if not is_needed():
                    break
                failed += not await self._restore(step)
        except KubeApiUnreachableError as error:
            # All the rest would meet the same; whoever asked for it tries again.
            self._counters.count("restore_failed", error)
            failed += 1
        return failed

    async def _learn_admitted(self, is_needed: Callable[[], bool]) -> int:
        """Gets admitted values that no order told; returns of how many pods they stay unknown."""
        unknown = 0
        for pod in list(self._pods.pods):
            names = {each.name for each in pod.containers if is_restorable(each)}
            memory = self._resizer.memory(pod.uid)
            if not names - memory.admitted.keys():
                continue
            if not is_needed():
                break
            await self._space_out()
            try:
                found = await self._resizer.in_thread(
                    functools.partial(read_admitted, self._resizer.api, pod)
                )
            except KubeApiUnreachableError:
                raise
            except (AllocationUnknownError, KubeApiError) as error:
                self._counters.count("admitted_unknown", error)
                unknown += 1
                continue
            for name, cpu in found.items():
                memory.admitted.setdefault(name, Admitted(cpu, _restores_exactly(pod)))
        return unknown

    def _plan_restore(self) -> list[Restore]:
        resizer, pods = self._resizer, list(self._pods.pods)
        held = [Held(pod, resizer.specs(pod), resizer.memory(pod.uid).admitted) for pod in pods]
        if blocked := find_blocked(held):
            # No failure: to try again helps nobody until somebody changes the pod.
            detail = "; ".join(blocked[:_MAX_NAMED])
            self._counters.count("restore_blocked", detail, by=len(blocked))
        return plan_restore(
            held,
            room_millicores=self._room_millicores(),
            unfitting={pod.uid for pod in pods if resizer.memory(pod.uid).is_unfitting},
        )

    async def _withdraw(self, is_needed: Callable[[], bool]) -> int:
        """Takes back raised requests for which the kubelet has no room; returns failures."""
        failed = 0
        for pod in list(self._pods.pods):
            memory = self._resizer.memory(pod.uid)
            is_pending = any(each.type == "PodResizePending" for each in pod.resize_conditions)
            if not memory.raised or not is_pending or not is_needed():
                continue
            memory.is_unfitting = True
            if await self._restore(Restore(pod, dict(memory.raised), 0)):
                memory.raised.clear()
            else:
                failed += 1
        return failed

    async def _restore(self, step: Restore) -> bool:
        """Sends one PATCH of the fail-safe; false where it must be tried again."""
        specs = self._resizer.specs(step.pod)
        async with self.calling:
            await self._space_out()
            verdict = await self._resizer.send(step.pod, step.changes)
        if verdict.cause == UNREACHABLE:
            raise KubeApiUnreachableError(verdict.message)
        if verdict.retry_after_seconds is not None:
            self._next_call_seconds = self._clock.now_seconds() + verdict.retry_after_seconds
        if verdict.outcome == pb.OUTCOME_APPLIED:
            raised = self._resizer.memory(step.pod.uid).raised
            for name, change in step.changes.items():
                before = specs[name].request_millicores or 0
                if (change.request_millicores or 0) > before:
                    raised[name] = Cpu(before, None)
        is_gone = verdict.outcome == pb.OUTCOME_STALE and verdict.cause != "Conflict"
        return is_gone or verdict.outcome in (pb.OUTCOME_APPLIED, pb.OUTCOME_UNCHANGED)

    async def _space_out(self) -> None:
        await self._clock.sleep_until(self._next_call_seconds)
        self._next_call_seconds = self._clock.now_seconds() + SPACING_SECONDS


def _restores_exactly(pod: Pod) -> bool:
    """What the pod itself says, for want of an order: its namespace is not known here."""
    said = pod.annotations
    return said.get("isolation") == "strict" or said.get("policy") == "hard-quota"
