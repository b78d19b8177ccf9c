"""What the cluster adds to a shim's facts, from the caches of this package."""

from collections.abc import Mapping
from dataclasses import dataclass

from mbcas.v1 import node_link_pb2 as pb
from mbcas_core.events import CpuResources
from mbcas_server.kube.allocation import PodKey
from mbcas_server.kube.facts import ClusterFacts
from mbcas_server.kube.pod_allocations import PodAllocations
from mbcas_server.kube.templates import Templates, controller_of
from mbcas_server.surroundings import Remembered, SetValues

OF_NAMESPACES_ALONE = "max-priority"
PENDING_REASON = "what it asked for is being looked up"
LOST_REASON = (
    "resized by MBCAS before, and what it asked for is lost: delete the pod, or set its CPU anew"
)

ELSEWHERE_REASON = "its pod runs on another node"


@dataclass(eq=False, slots=True, kw_only=True)
class ClusterSurroundings:
    """Implements `surroundings.Surroundings`."""

    facts: ClusterFacts
    allocations: PodAllocations
    templates: Templates

    def allocatable_millicores(self, node: str) -> int | None:
        return self.facts.allocatable_millicores(node)

    def annotations(self, given: pb.ContainerFacts) -> Mapping[str, str]:
        """Joins both: the nearer wins; how much a pod may claim is its namespace's to say."""
        of_namespace = self.facts.namespace_annotations(given.namespace)
        own = given.annotations
        if not of_namespace and OF_NAMESPACES_ALONE not in own:
            return own
        joined = {**of_namespace, **own}
        joined.pop(OF_NAMESPACES_ALONE, None)
        if OF_NAMESPACES_ALONE in of_namespace:
            joined[OF_NAMESPACES_ALONE] = of_namespace[OF_NAMESPACES_ALONE]
        return joined

    def is_scaled(self, given: pb.ContainerFacts) -> bool:
        return bool(given.owner) and self.facts.is_scaled(given.namespace, given.owner)

    def set_by_mbcas(self, node: str, given: pb.ContainerFacts, spec: CpuResources) -> SetValues:
        """Believes what was written of a container also where its managedFields were cleared."""
        request, limit = given.request_set_by_mbcas, given.limit_set_by_mbcas
        if request and limit:
            return SetValues(request, limit)
        pod = PodKey(given.namespace, given.pod, given.pod_uid)
        part = self.allocations.part(pod, given.container, node)
        if part is None:
            return SetValues(request, limit)
        admitted, desired = part.admitted, part.desired
        return SetValues(
            request
            or _is_ours(
                spec.request_millicores, desired.request_millicores, admitted.request_millicores
            ),
            limit
            or _is_ours(spec.limit_millicores, desired.limit_millicores, admitted.limit_millicores),
        )

    def remember(self, node: str, given: pb.ContainerFacts, ours: SetValues) -> Remembered:
        pod = PodKey(given.namespace, given.pod, given.pod_uid)
        if self.allocations.is_elsewhere(pod, node):
            return Remembered(None, ELSEWHERE_REASON)
        part = self.allocations.part(pod, given.container, node)
        if part is not None:
            return _complete(part.admitted, ours)
        controller = controller_of(given.namespace, given.controller)
        if controller is None:
            return Remembered(None, LOST_REASON)
        found = self.templates.find(node, controller)
        if found is None:
            return Remembered(None, PENDING_REASON)
        if found.template is None or given.container not in found.template:
            return Remembered(None, LOST_REASON)
        told = _complete(found.template[given.container], ours)
        if told.admitted is not None:
            self.allocations.recall(pod, given.container, told.admitted, node=node)
        return told


def _is_ours(spec: int | None, desired: int | None, admitted: int | None) -> bool:
    """Returns whether a value is as MBCAS wanted it, and not as it was admitted."""
    return spec is not None and admitted is not None and spec == desired != admitted


def _complete(admitted: CpuResources, ours: SetValues) -> Remembered:
    """Returns it where it says what the spec no longer does."""
    unknown = (ours.request and admitted.request_millicores is None) or (
        ours.limit and admitted.limit_millicores is None
    )
    return Remembered(None, LOST_REASON) if unknown else Remembered(admitted)
