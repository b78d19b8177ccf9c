"""What kubectl shows of a PodAllocation, from the core's views.

A pod is looked at soon after an order of it has left, and in turn with all others; its status is
written when it says something new, at most once a minute, and within a budget over all pods. A pod
whose object was deleted while it holds other than admitted values gets a new one here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from mbcas_core.errors import UnknownNodeError, UnknownPodError
from mbcas_server.clock import Clock
from mbcas_server.core import Core
from mbcas_server.core_thread import CoreThread
from mbcas_server.kube.allocation import ContainerAllocation, Containers, PodKey
from mbcas_server.kube.buckets import Bucket
from mbcas_server.kube.client import ApiError, Object
from mbcas_server.kube.pod_allocations import Entry, PodAllocations
from mbcas_server.kube.status_of import Seen, is_news, resources_of, status_of
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

STEP_SECONDS = 1.0
PODS_PER_STEP = 50  # Of the others, in turn.
PODS_PER_READ = 10  # The core answers a few questions at a time: a tick may be waiting.
SPACING_SECONDS = 60.0
SETTLE_SECONDS = 5.0  # From an order to its being in force, for a person to see both at once.
NOTED_MAX = 20_000

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class StatusWriter:
    """Keeps statuses; `run` never returns by itself."""

    allocations: PodAllocations
    core: CoreThread
    clock: Clock
    metrics: Metrics
    writes_per_second: float
    _noted: dict[PodKey, float] = field(init=False, default_factory=dict)
    """When to look at pods with something new, in the order of their turn."""
    _written_seconds: dict[PodKey, float] = field(init=False, default_factory=dict)
    _turn: list[PodKey] = field(init=False, default_factory=list)
    _budget: Bucket = field(init=False)
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._budget = Bucket(
            self.clock,
            per_second=self.writes_per_second,
            burst=max(1.0, 2 * self.writes_per_second),
        )
        self._log = LimitedLog(logger, self.clock)

    def note(self, pod: PodKey) -> None:
        """Notes that something about a pod has changed."""
        if len(self._noted) < NOTED_MAX:
            self._noted.setdefault(pod, self.clock.now_seconds() + SETTLE_SECONDS)

    async def run(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now_seconds() + STEP_SECONDS)
            await self.step()

    async def step(self) -> None:
        """Looks at the pods whose turn it is, and writes what is worth it."""
        due = self._due()
        while due:
            batch, due = due[:PODS_PER_READ], due[PODS_PER_READ:]
            before = {pod: self._remembered(pod) for pod in batch}
            nodes = {pod: entry.node for pod in batch if (entry := self.allocations.find(pod))}
            found = await self.core.read(partial(_look, batch, nodes))
            for pod in before.keys() - {seen.pod for seen in found}:
                self.allocations.forget_gone(pod)
            for seen in found:
                await self._keep(seen, before[seen.pod])

    def _due(self) -> list[PodKey]:
        """Returns who was noted and may be written, then some of the others."""
        now_seconds = self.clock.now_seconds()
        latest_seconds = now_seconds - SPACING_SECONDS
        self._written_seconds = {
            pod: at for pod, at in self._written_seconds.items() if at > latest_seconds
        }
        noted = [
            pod
            for pod, due_seconds in self._noted.items()
            if due_seconds <= now_seconds and pod not in self._written_seconds
        ][:PODS_PER_STEP]
        for pod in noted:
            del self._noted[pod]
        if not self._turn:
            self._turn = [entry.pod for entry in self.allocations.entries()]
        others, self._turn = self._turn[:PODS_PER_STEP], self._turn[PODS_PER_STEP:]
        waiting = self._written_seconds.keys() | self._noted.keys()
        return noted + [pod for pod in others if pod not in waiting]

    def _remembered(self, pod: PodKey) -> Containers | None:
        entry = self.allocations.find(pod)
        return None if entry is None else dict(entry.remembered)

    async def _keep(self, seen: Seen, before: Containers | None) -> None:
        """Writes spec and status where they say something else than what is so."""
        entry = self.allocations.find(seen.pod)
        if entry is None:
            return
        if _is_overtaken(entry, before):
            self.note(seen.pod)
            return
        status = status_of(seen, entry.status, unix_seconds=self.clock.unix_seconds())
        is_kept = _is_kept(entry, seen)
        if is_kept and (entry.written is None or not is_news(status, entry.status)):
            return
        if not self._budget.take():
            self.note(seen.pod)  # Its turn comes again.
            return
        self._written_seconds[seen.pod] = self.clock.now_seconds()
        try:
            node = await self.allocations.node_of(seen.pod)
            if self.allocations.is_elsewhere(seen.pod, seen.market.node):
                return
            if _is_overtaken(entry, before):
                self.note(seen.pod)
            else:
                await self._write(entry, None if is_kept else _parts(entry, seen), status, node)
        except ApiError as error:
            pod = f"{seen.pod.namespace}/{seen.pod.name}"
            self._log.log(logging.WARNING, "status not written", f"pod={pod} error={error}")

    async def _write(
        self, entry: Entry, parts: Containers | None, status: Object, node: str
    ) -> None:
        if parts is not None:
            await self.allocations.write(entry.pod, parts, node=node)
        await self.allocations.write_status(entry, status)


def _look(pods: list[PodKey], nodes: Mapping[PodKey, str], core: Core) -> list[Seen]:
    """Runs in the core's thread.

    Several nodes may speak for a pod; the one that it runs on counts, where that is known.
    """
    found: list[Seen] = []
    for pod in pods:
        try:
            decisions = [
                decision
                for decision in core.explain_pod(pod.namespace, pod.name)
                if decision.container.pod_uid == pod.uid
            ]
            if not decisions:
                continue
            node = nodes.get(pod) or decisions[0].node
            decisions = [decision for decision in decisions if decision.node == node]
            if not decisions:
                continue
            known = (seen.market for seen in found if seen.market.node == node)
            market = next(known, None) or core.market_view(node, include_containers=False)
        except (UnknownPodError, UnknownNodeError):
            continue  # It has gone, or has not come yet.
        found.append(Seen(pod, decisions, market))
    return found


def _is_overtaken(entry: Entry, before: Containers | None) -> bool:
    """Returns whether an order's write has overtaken what the core said."""
    return entry.writing.locked() or entry.remembered != before


def _parts(entry: Entry, seen: Seen) -> dict[str, ContainerAllocation]:
    """Returns the containers that have an object's part, as they are now.

    Of one that is skipped the core may not know what it was admitted with.
    """
    return {
        row.container: entry.remembered[row.container]
        if row.skip_reason
        else ContainerAllocation(
            admitted=resources_of(row, "admitted_millicores"),
            desired=resources_of(row, "desired_millicores"),
        )
        for row in (decision.container for decision in seen.decisions)
        if row.container in entry.remembered
    }


def _is_kept(entry: Entry, seen: Seen) -> bool:
    """Returns whether the API has what it must have; a pod at its admitted values needs nothing."""
    parts = _parts(entry, seen)
    if entry.written is None:
        return all(part.admitted == part.desired for part in parts.values())
    return all(entry.written.get(name) == part for name, part in parts.items())
