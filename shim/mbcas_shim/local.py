"""Local mode: containers that a file declares, each a pod of its own."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.cgroup import CgroupTree
from mbcas_shim.containers import ContainersWatch, DeclaredContainer
from mbcas_shim.counters import Counters
from mbcas_shim.inventory import Row
from mbcas_shim.orders import cpu_message


class LocalSource:
    """The containers file, looked at again when it changes."""

    def __init__(self, file: Path, tree: CgroupTree, counters: Counters) -> None:
        self._watch = ContainersWatch(file, counters)
        self._tree = tree
        self._cpu_count = os.cpu_count() or 1

    @property
    def declared(self) -> Iterable[DeclaredContainer]:
        return self._watch.content.containers

    def refresh(self) -> bool:
        return self._watch.refresh()

    def container_facts(self, row: Row) -> pb.ContainerFacts:
        declared, in_force = row.declared, cpu_message(row.in_force())
        assert isinstance(declared, DeclaredContainer), "rows come from this source"
        return pb.ContainerFacts(
            handle=row.handle,
            pod_uid=declared.pod_uid,
            namespace=declared.namespace,
            pod=declared.name,
            container=declared.name,
            container_id=row.container_id,
            owner=f"local/{declared.pod_uid}",
            qos_class=_qos_class(row),
            spec=in_force,
            allocated=in_force,
            actual=in_force,
            admitted=cpu_message(row.admitted),
            annotations=declared.annotations(),
            ready=True,
        )

    def node_facts(self, rows: Iterable[Row]) -> pb.NodeFacts:
        del rows  # What is beside them the file says.
        return pb.NodeFacts(
            allocatable_millicores=self._allocatable_millicores(),
            unmanaged_millicores=self._watch.content.node.unmanaged_millicores,
            cpu_count=self._cpu_count,
            cgroup_version=self._tree.version,
            enforcement=pb.ENFORCEMENT_CGROUP,
        )

    async def wait(self) -> None:
        """Returns at once: the file was read."""

    async def run(self) -> None:
        """Does nothing: the file is looked at once a second."""
        await asyncio.Event().wait()

    def room_millicores(self) -> int:
        """What requests of managed containers may sum to."""
        return self._allocatable_millicores() - self._watch.content.node.unmanaged_millicores

    def _allocatable_millicores(self) -> int:
        return self._watch.content.node.allocatable_millicores or self._cpu_count * 1000


def _qos_class(row: Row) -> pb.QosClass.ValueType:
    # Guaranteed would also need equal memory, of which nothing is declared here.
    admitted = row.admitted
    if admitted.request_millicores or admitted.limit_millicores:
        return pb.QOS_CLASS_BURSTABLE
    return pb.QOS_CLASS_BEST_EFFORT
