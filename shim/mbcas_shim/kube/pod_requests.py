"""What a pod reserves, as the scheduler and the kubelet count it, and how near it is to Guaranteed.

A pod's containers and sidecars run beside each other; before them its plain init containers run one
after another, each beside the sidecars that were started before it. A pod reserves the most that it
may need at any time (k8s.io/component-helpers/resource, PodRequests):

    max(sum of containers and sidecars, max over init i of request i + sidecars before i) + overhead

where spec.resources, if it is given, stands for the maximum. A container that was resized counts
with the largest of what is asked for, admitted and in force; an infeasible wish does not count.
"""

from collections.abc import Mapping

from mbcas_shim.kube.untrusted import Fields


def is_sidecar(init_container: Fields) -> bool:
    """True for an init container that keeps running beside the others."""
    return init_container.text("restartPolicy") == "Always"


def billed_request_millicores(spec: Fields, status: Fields, *, is_infeasible: bool) -> int:
    """What the scheduler counts for one container that can be resized, or for spec.resources.

    Args:
        spec: Has `resources`.
        status: The same thing's status; empty where there is none yet.
        is_infeasible: The pod's newest spec never fits.
    """
    asked_millicores = _request_millicores(spec)
    if "resources" not in status:
        return asked_millicores
    held_millicores = max(
        _request_millicores(status), status.object("allocatedResources").cpu_millicores() or 0
    )
    return held_millicores if is_infeasible else max(held_millicores, asked_millicores)


def effective_request_millicores(
    spec: Fields, status: Fields, billed_millicores: Mapping[str, int], *, is_infeasible: bool
) -> int:
    """What the scheduler counts for a pod.

    Args:
        spec: Of the pod.
        status: Of the pod.
        billed_millicores: Of each container and sidecar, by name.
        is_infeasible: The pod's newest spec never fits.
    """
    most_millicores, sidecars_millicores = sum(billed_millicores.values()), 0
    for container in spec.objects("initContainers"):
        if is_sidecar(container):
            sidecars_millicores += billed_millicores[container.name("name")]
        else:
            beside_millicores = sidecars_millicores + _request_millicores(container)
            most_millicores = max(most_millicores, beside_millicores)
    if spec.object("resources", "requests").cpu_millicores() is not None:
        most_millicores = billed_request_millicores(spec, status, is_infeasible=is_infeasible)
    return most_millicores + (spec.object("overhead").cpu_millicores() or 0)


def is_guaranteed_but_for_cpu(spec: Fields) -> bool:
    """True where equal CPU requests and limits would make a pod Guaranteed.

    All its containers count, also plain init containers, whose CPU nobody can change any more.
    """
    for container in spec.objects("containers"):
        if not _is_fixed(container, "memory"):
            return False
    return all(
        _is_fixed(container, "memory") and (is_sidecar(container) or _is_fixed(container, "cpu"))
        for container in spec.objects("initContainers")
    )


def _is_fixed(container: Fields, resource: str) -> bool:
    resources = container.object("resources")
    limit = resources.object("limits").quantity(resource)
    return bool(limit) and limit == resources.object("requests").quantity(resource)


def _request_millicores(holder: Fields) -> int:
    return holder.object("resources", "requests").cpu_millicores() or 0
