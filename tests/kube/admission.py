"""ResourceQuota and LimitRange: what a namespace may take. Both refuse with 403, without causes."""

from decimal import Decimal
from typing import Any

from tests.kube.errors import ApiError, Cause
from tests.kube.quantity import millicores_of, number_of
from tests.kube.resources import Pod, request_millicores, running_containers
from tests.kube.store import Store

COMPUTE = ("limits.cpu", "requests.cpu", "limits.memory", "requests.memory")
ENDED = ("Succeeded", "Failed")


def check_limit_ranges(store: Store, pod: Pod) -> None:
    """Raises where a container is outside of its namespace's LimitRange.

    Raises:
        ApiError: 403.
    """
    for limit_range in store.all("limitranges", pod["metadata"]["namespace"]):
        for entry in limit_range["spec"]["limits"]:
            if entry["type"] == "Container":
                for container in running_containers(pod):
                    _check_range(entry, container.get("resources") or {})


def _check_range(entry: dict[str, Any], resources: dict[str, Any]) -> None:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for good, most in entry.get("max", {}).items():
        if good not in limits:
            raise ApiError(403, f"maximum {good} usage per Container is {most}, but no limit")
        if number_of(limits[good]) > number_of(most):
            raise ApiError(403, f"maximum {good} usage per Container is {most}")
    for good, least in entry.get("min", {}).items():
        if good in requests and number_of(requests[good]) < number_of(least):
            raise ApiError(403, f"minimum {good} usage per Container is {least}")


def check_quotas(store: Store, pod: Pod) -> None:
    """Raises where the pod as it would be takes its namespace above a ResourceQuota.

    Only what grows is checked: a namespace that is above already may shrink.

    Raises:
        ApiError: 403.
    """
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    pods = store.all("pods", namespace)
    before = [each for each in pods if each["metadata"]["name"] == name]
    others = [each for each in pods if each["metadata"]["name"] != name]
    for quota in store.all("resourcequotas", namespace):
        for leaf, most in quota["spec"]["hard"].items():
            if leaf not in COMPUTE:
                continue
            used = sum(_use(each, leaf) for each in others)
            now, then = sum(_use(each, leaf) for each in before), _use(pod, leaf)
            if then > now and used + then > number_of(most):
                named = quota["metadata"]["name"]
                message = f"exceeded quota: {named}, used: {leaf}={used + now}, limited: {most}"
                raise ApiError(403, message)


def _use(pod: Pod, leaf: str) -> Decimal:
    """Returns the most of what a pod asks for, was granted and has, unless that can never be."""
    if pod["status"].get("phase") in ENDED:
        return Decimal(0)
    kind, good = leaf.split(".")
    infeasible = any(
        condition["type"] == "PodResizePending" and condition.get("reason") == "Infeasible"
        for condition in pod["status"].get("conditions", [])
    )
    statuses = {each["name"]: each for each in pod["status"].get("containerStatuses", [])}
    total = Decimal(0)
    for container in running_containers(pod):
        status = statuses.get(container["name"], {})
        values = [status.get("resources", {}).get(kind, {}).get(good, "0")]
        if kind == "requests":
            values.append(status.get("allocatedResources", {}).get(good, "0"))
        if not (infeasible and status):
            values.append((container.get("resources") or {}).get(kind, {}).get(good, "0"))
        total += max(number_of(value) for value in values)
    return total


def check_node_capacity(store: Store, pod: Pod, old_millicores: int) -> None:
    """Raises where a raised request is more than the whole node has: Kubernetes 1.36 and later.

    Raises:
        ApiError: 403 with the cause NodeCapacity.
    """
    asked, node = request_millicores(pod), pod["spec"].get("nodeName")
    if node is None or asked <= old_millicores:
        return
    allocatable = store.get("nodes", "", node)["status"]["allocatable"]["cpu"]
    if asked > millicores_of(allocatable):
        cause = Cause("NodeCapacity", "spec", f"node allocatable CPU is {allocatable}")
        raise ApiError(403, "node didn't have enough capacity", causes=(cause,))
