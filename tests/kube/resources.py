"""What a pod's resources mean: defaults, its class of service, its totals, its cgroups' values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kube.quantity import canonical, millicores_of, number_of

Pod = dict[str, Any]
PERIOD_US = 100_000
MINIMUM_QUOTA_US = 1_000
MINIMUM_SHARES = 2
NO_QUOTA = -1


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The three values of the cpu controller (version 1) that the kubelet writes."""

    quota_us: int
    shares: int
    period_us: int = PERIOD_US


def running_containers(pod: Pod) -> Iterator[dict[str, Any]]:
    """Yields the containers that run beside each other: ordinary ones and sidecars."""
    for container in pod["spec"].get("initContainers", []):
        if is_sidecar(container):
            yield container
    yield from pod["spec"]["containers"]


def set_defaults(pod: Pod) -> None:
    """Writes quantities in their usual form, and gives a limit without a request that request."""
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        resources = container.setdefault("resources", {})
        for kind in ("limits", "requests"):
            if kind in resources:
                amounts = resources[kind]
                resources[kind] = {name: canonical(value) for name, value in amounts.items()}
        if resources.get("limits"):
            resources["requests"] = resources["limits"] | resources.get("requests", {})


def amount(container: dict[str, Any], kind: str, name: str = "cpu") -> str | None:
    """Returns one leaf of a container's resources."""
    found: str | None = container.get("resources", {}).get(kind, {}).get(name)
    return found


def is_sidecar(init_container: dict[str, Any]) -> bool:
    """Says whether an init container goes on beside the others."""
    return init_container.get("restartPolicy") == "Always"


def request_millicores(pod: Pod) -> int:
    """Returns what the spec reserves."""
    return _effective(pod, {each["name"]: _request(each) for each in _every(pod)})


def counted_millicores(pod: Pod) -> int:
    """Returns what the scheduler holds for a pod that may be in the middle of a resize.

    The most of what it asks for, was granted and has; what can never be granted does not count.
    """
    conditions = pod["status"].get("conditions", [])
    hopeless = any(
        each["type"] == "PodResizePending" and each.get("reason") == "Infeasible"
        for each in conditions
    )
    status = pod["status"]
    statuses = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    told = {each["name"]: each for each in statuses}
    requests = {}
    for container in _every(pod):
        name, known = container["name"], told.get(container["name"], {})
        held = [
            millicores_of(known.get("allocatedResources", {}).get("cpu", "0")),
            millicores_of(known.get("resources", {}).get("requests", {}).get("cpu", "0")),
        ]
        requests[name] = max(held) if hopeless and known else max(*held, _request(container))
    return _effective(pod, requests)


def _every(pod: Pod) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _request(container: dict[str, Any]) -> int:
    return millicores_of(amount(container, "requests") or "0")


def _effective(pod: Pod, requests: dict[str, int]) -> int:
    """Adds up what runs at the end, or the most while it starts."""
    before, most = 0, 0
    for container in pod["spec"].get("initContainers", []):
        own = requests[container["name"]]
        most = max(most, before + own)
        before += own if is_sidecar(container) else 0
    overhead = millicores_of(pod["spec"].get("overhead", {}).get("cpu", "0"))
    together = sum(requests[each["name"]] for each in running_containers(pod))
    whole = pod["spec"].get("resources", {}).get("requests", {}).get("cpu")
    return (max(most, together) if whole is None else millicores_of(whole)) + overhead


def _sum(pod: Pod, kind: str) -> int:
    return sum(millicores_of(amount(each, kind) or "0") for each in running_containers(pod))


def qos_of(pod: Pod) -> str:
    """Returns the class of service that the resources say; init containers count."""
    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    if "resources" in pod["spec"]:
        every = [pod["spec"]]
    goods = ("cpu", "memory")
    values = [
        number_of(amount(each, kind, good) or "0")
        for each in every
        for kind in ("limits", "requests")
        for good in goods
    ]
    if not any(values):
        return "BestEffort"
    equal = all(
        amount(each, "limits", good) is not None
        and amount(each, "limits", good) == amount(each, "requests", good)
        for each in every
        for good in goods
    )
    return "Guaranteed" if equal else "Burstable"


def cgroup_of_container(container: dict[str, Any]) -> Cgroup:
    """Returns what the kernel is told of a container."""
    limit = amount(container, "limits")
    request = amount(container, "requests") or "0"
    return Cgroup(_quota_us(limit and millicores_of(limit)), _shares(millicores_of(request)))


def cgroup_of_pod(pod: Pod) -> Cgroup:
    """Returns what the kernel is told of a pod: a quota only where each container has a limit."""
    limited = all(amount(each, "limits") for each in running_containers(pod))
    return Cgroup(
        _quota_us(_sum(pod, "limits") if limited else None), _shares(_sum(pod, "requests"))
    )


def _quota_us(millicores: int | str | None) -> int:
    if not millicores:
        return NO_QUOTA
    return max(MINIMUM_QUOTA_US, int(millicores) * PERIOD_US // 1000)


def _shares(millicores: int) -> int:
    return max(MINIMUM_SHARES, millicores * 1024 // 1000)
