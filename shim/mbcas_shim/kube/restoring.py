"""What the fail-safe sends to give back admitted values: pure, the calls are made elsewhere.

Only values that MBCAS was the last to set come back; what somebody else set is what they want. What
was cut is raised to at least its admitted value; a row that must be restored exactly is cut as
well. Limits go without the requests where that is possible: a request that does not fit its node
holds back all that was sent with it. Where a number that somebody else set leaves no room for the
admitted one, the container stays as it is: the API server takes no limit below its request.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mbcas.v1 import node_link_pb2 as pb
from mbcas_shim.inventory import Cpu
from mbcas_shim.kube.pod_containers import PodContainer
from mbcas_shim.kube.pods import Pod
from mbcas_shim.kube.resize_patch import difference, merged


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a container was admitted with, and whether the fail-safe may leave it more."""

    cpu: Cpu
    restores_exactly: bool = False


@dataclass(frozen=True, slots=True)
class Restore:
    """One PATCH of the fail-safe."""

    pod: Pod
    changes: Mapping[str, Cpu]
    rank: int
    """Lower ones first: cuts, then raises of limits, then raises of requests."""


@dataclass(frozen=True, slots=True)
class Held:
    """A pod with what it has now, which may be newer than what the watch knows."""

    pod: Pod
    specs: Mapping[str, Cpu]
    admitted: Mapping[str, Admitted]


def is_restorable(container: PodContainer) -> bool:
    """True where MBCAS set something that it may set again."""
    is_set = container.request_set_by_mbcas or container.limit_set_by_mbcas
    return is_set and not container.skip_reason and not container.restarts_on_resize


def plan_restore(
    held: Iterable[Held], *, room_millicores: int, unfitting: Collection[str]
) -> list[Restore]:
    """Lists what to send, in order.

    Args:
        held: All pods of the node.
        room_millicores: What may still be added to the requests of the node.
        unfitting: Pods, by uid, whose requests the kubelet found too large.
    """
    plans: list[Restore] = []
    for each in held:
        changes = _changes(each)
        rise = sum(
            max(0, (change.request_millicores or 0) - container.billed_request_millicores)
            for container in each.pod.containers
            if (change := changes.get(container.name)) is not None
        )
        if each.pod.uid in unfitting or rise > room_millicores:
            changes = _without_raised_requests(each, changes)
        else:
            room_millicores -= rise
        plans += _patches(each, changes)
    return sorted(plans, key=lambda plan: plan.rank)


def find_blocked(held: Iterable[Held]) -> list[str]:
    """Says of which containers nothing can come back, beside what somebody else has set."""
    return [
        f"{each.pod.namespace}/{each.pod.name}/{name} would have "
        f"request {after.request_millicores}m above limit {after.limit_millicores}m"
        for each in held
        for name, change in _wished(each)
        if _is_upside_down(after := merged(each.specs[name], change))
    ]


def _changes(held: Held) -> dict[str, Cpu]:
    return {
        name: change
        for name, change in _wished(held)
        if not _is_upside_down(merged(held.specs[name], change))
    }


def _is_upside_down(cpu: Cpu) -> bool:
    request, limit = cpu.request_millicores, cpu.limit_millicores
    return request is not None and limit is not None and request > limit


def _wished(held: Held) -> Iterator[tuple[str, Cpu]]:
    """What should change of each container, whether or not it can."""
    for container in held.pod.containers:
        admitted = held.admitted.get(container.name)
        if admitted is None or not is_restorable(container):
            continue
        spec = held.specs[container.name]
        wanted = Cpu(
            _wanted(
                admitted,
                spec.request_millicores,
                admitted.cpu.request_millicores,
                is_ours=container.request_set_by_mbcas,
            ),
            _wanted(
                admitted,
                spec.limit_millicores,
                admitted.cpu.limit_millicores,
                is_ours=container.limit_set_by_mbcas,
            ),
        )
        change = difference(spec, wanted)
        if change != Cpu():
            yield container.name, change


def _wanted(
    admitted: Admitted, now: int | None, admitted_millicores: int | None, *, is_ours: bool
) -> int | None:
    if not is_ours or now is None or admitted_millicores is None:
        return None
    return admitted_millicores if admitted.restores_exactly else max(now, admitted_millicores)


def _without_raised_requests(held: Held, changes: Mapping[str, Cpu]) -> dict[str, Cpu]:
    """Keeps requests as they are where they would rise; a Guaranteed pod's limits with them."""
    kept = {}
    for name, change in changes.items():
        if not _raises_request(held.specs[name], change):
            kept[name] = change
        elif held.pod.qos_class != pb.QOS_CLASS_GUARANTEED and change.limit_millicores is not None:
            kept[name] = Cpu(None, change.limit_millicores)
    return kept


def _patches(held: Held, changes: Mapping[str, Cpu]) -> list[Restore]:
    pod, specs = held.pod, held.specs
    if not changes:
        return []
    after = {name: merged(specs[name], change) for name, change in changes.items()}
    grows = sum(
        (after[name].limit_millicores or 0) - (specs[name].limit_millicores or 0) for name in after
    )
    requests = {
        name: Cpu(change.request_millicores, None)
        for name, change in changes.items()
        if _raises_request(specs[name], change)
    }
    limits = {
        name: rest
        for name, change in changes.items()
        if (rest := change if name not in requests else Cpu(None, change.limit_millicores)) != Cpu()
    }
    is_whole = pod.qos_class == pb.QOS_CLASS_GUARANTEED or not requests or not limits
    if is_whole:
        return [Restore(pod, changes, 0 if grows < 0 else 2 if requests else 1)]
    return [Restore(pod, limits, 0 if grows < 0 else 1), Restore(pod, requests, 2)]


def _raises_request(spec: Cpu, change: Cpu) -> bool:
    request = change.request_millicores
    return request is not None and request > (spec.request_millicores or 0)
