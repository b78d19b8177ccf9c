"""The PodAllocations: what every resized pod was admitted with, beyond any restart of the server.

What the server has written or found at its start is remembered as long as it runs; what the API has
is known from a watch. Where the two differ (somebody deleted or changed an object), what is
remembered counts, and the object is written again before the pod's next order is sent.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mbcas_core.events import CpuResources
from mbcas_server.clock import Clock
from mbcas_server.kube import allocation, pod_nodes
from mbcas_server.kube.allocation import ContainerAllocation, Containers, PodKey, UnusableError
from mbcas_server.kube.client import (
    MERGE_PATCH,
    NOT_FOUND,
    ApiError,
    KubeClient,
    Object,
    api_path,
)
from mbcas_server.kube.mirror import Mirror
from mbcas_server.logs import LimitedLog
from mbcas_server.metrics import Metrics

ENTRIES_MAX = 150_000  # As many pods as the largest cluster that one server is built for.
GONE_SECONDS = 3600.0  # An object that is deleted goes mostly with its pod; of that a shim tells.
WRITE_SECONDS = 3.0  # The order that waits for it expires after five.
FIELD_MANAGER = {"fieldManager": "mbcas"}
CONFLICT = 409
INSUFFICIENT = 507

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Entry:
    """One pod's."""

    pod: PodKey
    remembered: dict[str, ContainerAllocation]
    node: str = ""
    """Where the API has its pod; empty until it was asked."""
    claimed_by: str = ""
    """The node whose shim alone knows of the pod, while that is all that is remembered."""
    written: dict[str, ContainerAllocation] | None = None
    """What the API has; None where it has nothing usable."""
    object_uid: str = ""
    version: int = 0
    """Its resource version: what is older is no news."""
    status: Object = field(default_factory=dict)
    gone_seconds: float = math.inf
    """Since when the object is deleted."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A write replaces all containers: of two at one time, one would undo the other."""


@dataclass(eq=False, slots=True, kw_only=True)
class PodAllocations:
    """Reads, keeps and writes them; nothing but writes waits."""

    client: KubeClient
    clock: Clock
    metrics: Metrics
    mirror: Mirror = field(init=False)
    _entries: OrderedDict[PodKey, Entry] = field(init=False, default_factory=OrderedDict)
    """Those without an object first to go, where there are too many; see `_make_room`."""
    _names: dict[tuple[str, str], PodKey] = field(init=False, default_factory=dict)
    """By namespace and name of the object."""
    _log: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = LimitedLog(logger, self.clock)
        self.mirror = Mirror(
            client=self.client,
            clock=self.clock,
            metrics=self.metrics,
            path=api_path(allocation.GROUP, allocation.RESOURCE),
            replace=self._replace,
            put=self._put,
            remove=self._remove,
        )

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, pod: PodKey) -> Entry | None:
        return self._entries.get(pod)

    def entries(self) -> Iterator[Entry]:
        """Returns a snapshot of all of them."""
        return iter(tuple(self._entries.values()))

    def part(self, pod: PodKey, container: str, node: str) -> ContainerAllocation | None:
        """Returns what is remembered of a container, for the shim of a node."""
        entry = self._entries.get(pod)
        if entry is None or entry.claimed_by not in ("", node):
            return None
        return entry.remembered.get(container)

    def is_elsewhere(self, pod: PodKey, node: str) -> bool:
        """Returns whether the pod is known to run on another node, which is told and counted."""
        entry = self._entries.get(pod)
        if entry is None or entry.node in ("", node):
            return False
        self.tell_elsewhere(pod, node, runs_on=entry.node)
        return True

    def tell_elsewhere(self, pod: PodKey, node: str, *, runs_on: str) -> None:
        """Tells and counts that a shim speaks for a pod that is not on its node."""
        self.metrics.pods_elsewhere.inc()
        self._log.log(
            logging.WARNING,
            "pod of another node",
            f"pod={pod.namespace}/{pod.name} runs_on={runs_on!r} told_by={node!r}",
        )

    async def node_of(self, pod: PodKey) -> str:
        """Returns the node of a pod, which the API server is asked for once.

        Raises:
            ApiError: It does not say.
        """
        entry = self._entries.get(pod)
        if entry is not None and entry.node:
            return entry.node
        node = await pod_nodes.node_of(self.client, pod)
        entry = self._entries.get(pod)
        if entry is not None:
            _bind(entry, node)
        return node

    def recall(self, pod: PodKey, container: str, admitted: CpuResources, *, node: str) -> None:
        """Remembers what others know; the object is written once the pod's turn comes."""
        entry = self._entries.get(pod)
        if entry is None and self._make_room():
            entry = self._add(pod)
            entry.claimed_by = node
        if entry is not None and node in (entry.node, entry.claimed_by):
            entry.remembered.setdefault(
                container, ContainerAllocation(admitted=admitted, desired=CpuResources())
            )

    def is_written(self, pod: PodKey, container: str, admitted: CpuResources) -> bool:
        """Returns whether the API has these values of a container."""
        entry = self._entries.get(pod)
        if entry is None or entry.written is None:
            return False
        part = entry.written.get(container)
        return part is not None and part.admitted == admitted

    def forget_gone(self, pod: PodKey) -> None:
        """Forgets a pod that nobody reports, once its object has been gone for long."""
        entry = self._entries.get(pod)
        if entry is None or entry.written is not None or entry.writing.locked():
            return
        if self.clock.now_seconds() - entry.gone_seconds >= GONE_SECONDS:
            self._forget(entry)
            self._count()

    async def write(self, pod: PodKey, containers: Containers, *, node: str) -> None:
        """Adds these containers to what the API has of a pod.

        Args:
            pod: Whose object it is.
            containers: What to add.
            node: Where the API has the pod.

        Raises:
            ApiError: It does not take them.
        """
        entry = self._entries.get(pod)
        if entry is None:
            if not self._make_room():
                raise ApiError(INSUFFICIENT, f"{ENTRIES_MAX} PodAllocations are there already")
            entry = self._add(pod)
        _bind(entry, node)
        async with entry.writing:
            wanted = {**(entry.written or {}), **entry.remembered, **containers}
            try:
                found = await self._write_spec(entry, wanted)
            except ApiError:
                self.metrics.pod_allocation_writes.labels(part="spec", result="failed").inc()
                is_empty = entry.written is None and not entry.remembered
                if is_empty and self._entries.get(pod) is entry:
                    self._forget(entry)
                raise
            self.metrics.pod_allocation_writes.labels(part="spec", result="written").inc()
            entry.remembered = wanted
            self._put(found)

    async def write_status(self, entry: Entry, status: Object) -> None:
        """Replaces the status of a pod's object.

        Raises:
            ApiError: The API does not take it.
        """
        try:
            found = await self.client.call(
                "PATCH",
                f"{self._path(entry.pod)}/status",
                query=FIELD_MANAGER,
                body={"status": status},
                content_type=MERGE_PATCH,
                timeout_seconds=WRITE_SECONDS,
            )
        except ApiError as error:
            self.metrics.pod_allocation_writes.labels(part="status", result="failed").inc()
            if error.code == NOT_FOUND:
                entry.written = None
            raise
        self.metrics.pod_allocation_writes.labels(part="status", result="written").inc()
        self._put(found)

    async def _write_spec(self, entry: Entry, wanted: Containers) -> Object:
        pod = entry.pod
        if entry.written is None:
            try:
                return await self._send("POST", pod, allocation.to_object(pod, wanted))
            except ApiError as error:
                if error.code != CONFLICT:
                    raise
        body = allocation.to_object(pod, wanted)
        body.pop("apiVersion")
        body.pop("kind")
        try:
            return await self._send("PATCH", pod, body)
        except ApiError as error:
            if error.code != NOT_FOUND or entry.written is None:
                raise
            # It has been deleted, and the watch has not told it yet.
            return await self._send("POST", pod, allocation.to_object(pod, wanted))

    async def _send(self, method: str, pod: PodKey, body: Object) -> Object:
        creates = method == "POST"
        return await self.client.call(
            method,
            api_path(allocation.GROUP, allocation.RESOURCE, namespace=pod.namespace)
            if creates
            else self._path(pod),
            query=FIELD_MANAGER,
            body=body,
            content_type="application/json" if creates else MERGE_PATCH,
            timeout_seconds=WRITE_SECONDS,
        )

    def _path(self, pod: PodKey) -> str:
        return api_path(
            allocation.GROUP,
            allocation.RESOURCE,
            namespace=pod.namespace,
            name=pod.object_name,
        )

    def _replace(self, objects: Sequence[Object]) -> None:
        there = set()
        for given in objects:
            key = _name_of(given)
            there.add(key)
            self._put(given)
        for name, pod in self._names.items():
            entry = self._entries[pod]
            if name not in there and entry.written is not None:
                entry.written, entry.gone_seconds = None, self.clock.now_seconds()
        self._count()

    def _put(self, given: Object) -> None:
        """Takes an object as the API has it now."""
        try:
            pod, containers = allocation.from_object(given)
        except UnusableError as error:
            self._ignore(given, str(error))
            return
        entry = self._entries.get(pod)
        metadata = given["metadata"]
        object_uid, version = str(metadata.get("uid")), _version_of(metadata)
        if entry is None:
            if not self._make_room():
                self._ignore(given, f"{ENTRIES_MAX} are there already")
                return
            entry = self._add(pod)
        elif object_uid == entry.object_uid and version < entry.version:
            return
        entry.written, entry.object_uid, entry.version = containers, object_uid, version
        # What a server has written counts more than what a shim alone knows.
        entry.remembered = {**containers, **({} if entry.claimed_by else entry.remembered)}
        entry.claimed_by = ""
        status = given.get("status")
        entry.status = status if isinstance(status, dict) else {}
        self._count()

    def _remove(self, given: Object) -> None:
        pod = self._names.get(_name_of(given))
        if pod is None:
            return
        entry = self._entries[pod]
        metadata = given.get("metadata")
        if isinstance(metadata, dict) and metadata.get("uid") == entry.object_uid:
            entry.written, entry.status = None, {}
            entry.gone_seconds = self.clock.now_seconds()
            entry.version = max(entry.version, _version_of(metadata))  # Answers may come later.
            self._entries.move_to_end(pod, last=False)
            self._count()

    def _ignore(self, given: Object, why: str) -> None:
        """Leaves an object out; what was remembered before it was changed still counts."""
        namespace, name = _name_of(given)
        self.metrics.pod_allocations_ignored.inc()
        self._log.log(
            logging.WARNING, "PodAllocation ignored", f"name={namespace}/{name} reason={why!r}"
        )
        pod = self._names.get((namespace, name))
        if pod is not None:
            self._entries[pod].written = None
            self._count()

    def _add(self, pod: PodKey) -> Entry:
        entry = self._entries[pod] = Entry(pod, {})
        self._names[pod.namespace, pod.object_name] = pod
        return entry

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.pod]
        del self._names[entry.pod.namespace, entry.pod.object_name]

    def _make_room(self) -> bool:
        """Forgets a pod whose object is gone, most likely with the pod, where there are many."""
        if len(self._entries) < ENTRIES_MAX:
            return True
        first = next(iter(self._entries.values()))
        if first.written is not None:
            return False
        self._forget(first)
        return True

    def _count(self) -> None:
        self.metrics.pod_allocations.set(len(self._entries))


def _bind(entry: Entry, node: str) -> None:
    """Notes where the pod of an entry is; what another node's shim said of it is forgotten."""
    if entry.claimed_by not in ("", node):
        entry.remembered = {}
    entry.node, entry.claimed_by = node, ""


def _name_of(given: Object) -> tuple[str, str]:
    metadata = given.get("metadata")
    if not isinstance(metadata, dict):
        return "", ""
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def _version_of(metadata: Object) -> int:
    """Returns a number that grows with each write, as it is since Kubernetes 1.35; 0 before."""
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isascii() and text.isdecimal() else 0
