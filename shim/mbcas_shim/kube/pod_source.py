"""The containers of a node on Kubernetes: what the API server says of its pods."""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import MAX_CONTAINERS, Cpu, Row
from mbcas_shim.kube.container_paths import ContainerPaths
from mbcas_shim.kube.pod_containers import PodContainer
from mbcas_shim.kube.pod_mailbox import PodMailbox
from mbcas_shim.kube.pod_watch import PodApi, PodWatch
from mbcas_shim.kube.pods import Pod, ResizeCondition
from mbcas_shim.orders import cpu_message


@dataclass(frozen=True, slots=True)
class DeclaredPodContainer:
    """A container of a pod, and where its cgroup is."""

    pod: Pod
    container: PodContainer
    cgroup: str

    @property
    def pod_uid(self) -> str:
        return self.pod.uid

    @property
    def name(self) -> str:
        return self.container.name

    @property
    def run_id(self) -> str:
        return self.container.run.container_id

    @property
    def admitted(self) -> Cpu | None:
        return None  # The server keeps it, in a PodAllocation.

    @property
    def is_restored_exactly(self) -> bool:
        return False  # Until an order says so.

    @property
    def is_managed(self) -> bool:
        return False  # A mode may come from the namespace, which the shim does not read.

    @property
    def outlives_cgroup(self) -> bool:
        return True


class PodSource:
    """The pods of this node, followed by a thread."""

    def __init__(
        self,
        api: PodApi,
        paths: ContainerPaths,
        counters: Counters,
        *,
        node_name: str,
        uniform: Callable[[], float],
        cgroup_version: int,
        burst_writable: bool = False,
        skip_reason: Callable[[], str] = lambda: "",
    ) -> None:
        """Prepares; makes no call.

        Args:
            api: Calls the API server.
            paths: Finds the cgroups of containers.
            counters: Counts what goes wrong.
            node_name: As the API server knows this node.
            uniform: A source of chance, from 0 to 1.
            cgroup_version: 1 or 2.
            burst_writable: This shim may write burst credit.
            skip_reason: Why no pod of this node can be resized; empty where nothing is known.
        """
        self._mailbox = PodMailbox(on_first=self._tell_known)
        self._watch = PodWatch(api, self._mailbox, counters, node_name=node_name, uniform=uniform)
        self._paths = paths
        self._counters = counters
        self._skip_reason = skip_reason
        self._fixed_facts = pb.NodeFacts(
            cpu_count=os.cpu_count() or 1,
            cgroup_version=cgroup_version,
            enforcement=pb.ENFORCEMENT_RESIZE,
            burst_writable=burst_writable,
        )
        self._pods: list[Pod] = []
        self._declared: dict[tuple[str, str], DeclaredPodContainer] = {}
        self._has_layout = False
        self._known = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def declared(self) -> Iterable[DeclaredPodContainer]:
        return self._declared.values()

    @property
    def pods(self) -> Iterable[Pod]:
        """All pods that hold CPU, as `refresh` last took them in."""
        return self._pods

    def find(self, uid: str) -> Pod | None:
        """A pod as last heard of, which may be newer than what rows say."""
        return self._mailbox.find(uid)

    def room_millicores(self) -> int:
        """What may at most be added to requests; what the node keeps for itself is not known."""
        held_millicores = sum(pod.effective_request_millicores for pod in self._pods)
        return self._fixed_facts.cpu_count * 1000 - held_millicores

    def pod_cgroup(self, pod: Pod) -> str:
        """The path of a pod's own cgroup; empty where that cannot be said."""
        return self._paths.pod(pod.cgroup_uid, pod.qos_class)

    def refresh(self) -> bool:
        pods = self._mailbox.take()
        had_layout, self._has_layout = self._has_layout, self._paths.layout is not None
        if pods is None and had_layout == self._has_layout:
            return False
        if pods is not None:
            self._pods = pods
        if not self._has_layout:
            self._counters.count(
                "kubepods_not_found", f"none of {self._paths.looked_for()} can be read"
            )
        before, self._declared = self._declared, {}
        for item in itertools.chain.from_iterable(map(self._declare, self._pods)):
            if len(self._declared) >= MAX_CONTAINERS:
                self._counters.count("too_many_containers", f"more than {MAX_CONTAINERS} here")
                break  # The others count as what the node holds beside its rows.
            key = (item.pod_uid, item.name)
            same = before.get(key)
            self._declared[key] = same if same == item else item
        return True

    def container_facts(self, row: Row) -> pb.ContainerFacts:
        declared = row.declared
        assert isinstance(declared, DeclaredPodContainer), "rows come from this source"
        pod, container = declared.pod, declared.container
        facts = pb.ContainerFacts(
            handle=row.handle,
            pod_uid=pod.uid,
            namespace=pod.namespace,
            pod=pod.name,
            container=container.name,
            container_id=row.container_id,
            owner=pod.owner_of(container.name),
            image_id=container.run.image_id,
            qos_class=pod.qos_class,
            sidecar=container.is_sidecar,
            spec=cpu_message(container.spec),
            generation=pod.generation,
            observed_generation=pod.observed_generation,
            resize_conditions=map(_condition_message, pod.resize_conditions),
            restarts_on_resize=container.restarts_on_resize,
            restart_count=container.run.restart_count,
            annotations=pod.annotations,
            skip_reason=container.skip_reason or self._skip_reason(),
            priority_class_name=pod.priority_class_name,
            request_set_by_mbcas=container.request_set_by_mbcas,
            limit_set_by_mbcas=container.limit_set_by_mbcas,
            guaranteed_but_for_cpu=pod.guaranteed_but_for_cpu,
            controller=pod.controller,
            ready=container.run.is_ready,
        )
        if container.allocated is not None:
            facts.allocated.CopyFrom(cpu_message(container.allocated))
        if container.actual is not None:
            facts.actual.CopyFrom(cpu_message(container.actual))
        if container.run.start_unix_seconds is not None:
            facts.start_time.CopyFrom(Timestamp(seconds=int(container.run.start_unix_seconds)))
        return facts

    def node_facts(self, rows: Iterable[Row]) -> pb.NodeFacts:
        """What the node has; what it may give to pods only the server knows."""
        keys = {(row.declared.pod_uid, row.declared.name) for row in rows}
        facts = pb.NodeFacts(unmanaged_millicores=sum(_beside(pod, keys) for pod in self._pods))
        facts.MergeFrom(self._fixed_facts)
        return facts

    async def wait(self) -> None:
        await self._known.wait()

    async def run(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def follow() -> None:
            try:
                self._watch.run()
            except Exception as error:  # noqa: BLE001  # Whatever it is, it must end the shim too.
                loop.call_soon_threadsafe(ended.set_exception, error)

        # Nobody waits for its end: it may hang in a call that a silent API server does not answer.
        threading.Thread(target=follow, name="pod-watch", daemon=True).start()
        try:
            await ended
        finally:
            self._watch.close()

    def _declare(self, pod: Pod) -> Iterator[DeclaredPodContainer]:
        """A pod that was told to end leaves the market at once, though it holds its CPU still."""
        if pod.is_terminating:
            return
        pod_path = self.pod_cgroup(pod)
        for container in pod.containers:
            run = container.run
            path = self._paths.container(pod_path, run.runtime, run.container_id)
            yield DeclaredPodContainer(pod, container, path)

    def _tell_known(self) -> None:
        assert self._loop is not None, "the thread was started by run"
        self._loop.call_soon_threadsafe(self._known.set)


def _beside(pod: Pod, keys: set[tuple[str, str]]) -> int:
    """What a pod reserves beside the requests of those of its containers that are rows."""
    rows_millicores = sum(
        container.billed_request_millicores
        for container in pod.containers
        if (pod.uid, container.name) in keys
    )
    return max(0, pod.effective_request_millicores - rows_millicores)


def _condition_message(condition: ResizeCondition) -> pb.ResizeCondition:
    return pb.ResizeCondition(
        type=condition.type,
        reason=condition.reason,
        message=condition.message,
        observed_generation=condition.observed_generation,
    )
