"""One PATCH of a pod, and what is known of pods beyond what the watch has seen.

The watch lags behind what was just written: until it has caught up, the answer to the last PATCH
counts.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.api import STRATEGIC_MERGE, KubeApi, KubeApiError, KubeApiUnreachableError
from mbcas_shim.kube.managed_fields import MANAGER
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.resize_answers import FORBIDDEN, UNSUPPORTED, Verdict, sentence, verdict_on
from mbcas_shim.kube.resize_patch import merged, patch_body
from mbcas_shim.kube.restoring import Admitted
from mbcas_shim.kube.start_check import StartCheck
from mbcas_shim.orders import Order

AT_ONCE = 2  # Calls in flight: an emergency need not wait for one slow answer.
PATCH_SECONDS = 10.0  # As long as the server waits for a result.
UNREACHABLE = "Unreachable"
"""The cause where no answer came."""
_DENIED = "AccessDenied"
_REMEMBERED_GENERATIONS = 16  # Of one pod: a minute of changes at one every four seconds.
_SPARE_MEMORIES = 64

_Found = TypeVar("_Found")


class PodsView(Protocol):
    """The pods of this node as the watch knows them."""

    @property
    def pods(self) -> Iterable[Pod]:
        """All of them."""

    def find(self, uid: str) -> Pod | None:
        """The pod of a uid, while it is there."""


@dataclass(slots=True)
class Memory:
    """What is known of a pod beyond what its object says."""

    admitted: dict[str, Admitted] = field(default_factory=dict)
    generation: int = 0
    """After the last PATCH of this shim."""
    specs: dict[str, Cpu] = field(default_factory=dict)
    """At that generation, of the containers in it."""
    sent: dict[int, frozenset[str]] = field(default_factory=dict)
    """Which containers changed with which generation."""
    raised: dict[str, Cpu] = field(default_factory=dict)
    """Requests as they were before the fail-safe raised them."""
    is_unfitting: bool = False
    """The kubelet has no room for the requests that the fail-safe wanted."""


class Resizer:
    """Patches pods; its calls run in threads, its state belongs to the event loop."""

    def __init__(
        self, api: KubeApi, pods: PodsView, counters: Counters, *, check: StartCheck
    ) -> None:
        self.api = api
        self.pods = pods
        self.counters = counters
        self.check = check
        self._memories: dict[str, Memory] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="resize")

    def close(self) -> None:
        """Lets the threads end, whenever what they wait for has come."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def memory(self, uid: str) -> Memory:
        """What is remembered of a pod."""
        if uid not in self._memories:
            known = {pod.uid for pod in self.pods.pods}
            if len(self._memories) > len(known) + _SPARE_MEMORIES:
                self._memories = {
                    uid: memory for uid, memory in self._memories.items() if uid in known
                }
            self._memories[uid] = Memory()
        return self._memories[uid]

    def specs(self, pod: Pod) -> Mapping[str, Cpu]:
        """The newest known CPU of a pod's containers."""
        specs = {container.name: container.spec for container in pod.containers}
        memory = self._memories.get(pod.uid)
        if memory is not None and memory.generation > pod.generation:
            specs.update((name, cpu) for name, cpu in memory.specs.items() if name in specs)
        return specs

    def is_stale(self, pod: Pod, order: Order) -> bool:
        """True where more has changed since the decision than what this shim sent for others."""
        memory = self.memory(pod.uid)
        expected, known = order.expected_generation, max(pod.generation, memory.generation)
        if not expected or expected == known:
            return False
        if not known - _REMEMBERED_GENERATIONS <= expected < known:
            return True
        everything = frozenset({order.container})
        return any(
            order.container in memory.sent.get(generation, everything)
            for generation in range(expected + 1, known + 1)
        )

    async def send(self, pod: Pod, changes: Mapping[str, Cpu]) -> Verdict:
        """Makes one PATCH."""
        call = functools.partial(
            self.api.request,
            "PATCH",
            f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/resize",
            query={"fieldManager": MANAGER},
            body=patch_body(pod, changes),
            content_type=STRATEGIC_MERGE,
            timeout_seconds=PATCH_SECONDS,
        )
        known = max(pod.generation, self.memory(pod.uid).generation)
        specs = self.specs(pod)
        try:
            verdict = verdict_on(await self.in_thread(call))
        except KubeApiError as error:
            cause = UNREACHABLE if isinstance(error, KubeApiUnreachableError) else "BadAnswer"
            verdict = Verdict(outcome=pb.OUTCOME_FAILED, cause=cause, message=sentence(str(error)))
        if verdict.outcome == pb.OUTCOME_APPLIED:
            return self._took(pod, changes, verdict, specs=specs, known_generation=known)
        name = "order_failed" if verdict.outcome == pb.OUTCOME_FAILED else "order_refused"
        words = f"{pod.namespace}/{pod.name}: {verdict.status} {verdict.cause}: {verdict.message}"
        self.counters.count(name, words)
        return await self._explained(pod, verdict)

    def _took(
        self,
        pod: Pod,
        changes: Mapping[str, Cpu],
        verdict: Verdict,
        *,
        specs: Mapping[str, Cpu],
        known_generation: int,
    ) -> Verdict:
        """Notes what the API server has taken over."""
        if verdict.generation <= known_generation:
            return Verdict(
                outcome=pb.OUTCOME_UNCHANGED, status=verdict.status, generation=verdict.generation
            )
        memory = self.memory(pod.uid)
        memory.generation = verdict.generation
        memory.specs = {
            name: merged(spec, changes.get(name, Cpu())) for name, spec in specs.items()
        }
        memory.sent[verdict.generation] = frozenset(changes)
        while len(memory.sent) > _REMEMBERED_GENERATIONS:
            del memory.sent[min(memory.sent)]
        return verdict

    async def _explained(self, pod: Pod, verdict: Verdict) -> Verdict:
        """Finds out whether a refusal concerns every pod: no subresource, or no right."""
        if verdict.cause not in (UNSUPPORTED, FORBIDDEN):
            return verdict
        if verdict.cause == FORBIDDEN:
            if not await self.check.is_denied(pod.namespace):
                return verdict
            verdict = dataclasses.replace(verdict, cause=_DENIED, field="")
        await self.check.check_again()
        return verdict

    async def in_thread(self, call: Callable[[], _Found]) -> _Found:
        """Makes a blocking call."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
