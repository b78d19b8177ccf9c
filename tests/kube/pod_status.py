"""The status that a kubelet writes of a running pod."""

from typing import Any

from tests.kube.resources import Pod, running_containers

RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
ALWAYS_TRUE = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


def running(
    pod: Pod, *, allocated: Pod, actual: Pod, restarts: dict[str, int], with_resources: bool
) -> dict[str, Any]:
    """Returns phase, observed generation and the containers with what they were granted and have.

    A kubelet without support for resizes leaves the containers' resources out.
    """
    uid = pod["metadata"]["uid"]
    granted = {each["name"]: each.get("resources", {}) for each in running_containers(allocated)}
    written = {each["name"]: each.get("resources", {}) for each in running_containers(actual)}
    statuses: dict[str, dict[str, Any]] = {}
    for name, count in restarts.items():
        statuses[name] = {
            "name": name,
            "ready": True,
            "started": True,
            "restartCount": count,
            "containerID": f"containerd://{uid.replace('-', '')}{name}{count}",
            "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}},
        }
        if with_resources:
            statuses[name]["allocatedResources"] = granted[name].get("requests", {})
            statuses[name]["resources"] = written[name]
    ordinary = [each["name"] for each in pod["spec"]["containers"]]
    return {
        "phase": "Running",
        "observedGeneration": pod["metadata"]["generation"],
        "containerStatuses": [statuses[name] for name in ordinary],
        "initContainerStatuses": [
            status for name, status in statuses.items() if name not in ordinary
        ],
    }


def conditions(
    before: list[dict[str, Any]],
    *,
    generation: int,
    granted_generation: int,
    pending: tuple[str, str] | None,
    in_progress: bool,
    error: str | None,
) -> list[dict[str, Any]]:
    """Returns the usual conditions and those of a resize that waits or goes on; both may be."""
    result = [each for each in before if each["type"] not in (*RESIZE_CONDITIONS, *ALWAYS_TRUE)]
    result += [
        {"type": kind, "status": "True", "observedGeneration": generation} for kind in ALWAYS_TRUE
    ]
    if pending is not None:
        reason, message = pending
        result.append(_condition("PodResizePending", generation, reason, message))
    if in_progress:
        told = ("Error", error) if error else ("", "")
        result.append(_condition("PodResizeInProgress", granted_generation, *told))
    return result


def _condition(kind: str, generation: int, reason: str, message: str) -> dict[str, Any]:
    """Returns a condition; an empty reason or message is left out, as the API server does."""
    condition = {
        "type": kind,
        "status": "True",
        "observedGeneration": generation,
        "reason": reason,
        "message": message,
    }
    return {key: value for key, value in condition.items() if value != ""}


def needs_restart(after: dict[str, Any], before: dict[str, Any]) -> bool:
    """Says whether a container's own policy wants a restart for what has changed."""
    policies = {
        each["resourceName"]: each["restartPolicy"] for each in after.get("resizePolicy") or []
    }
    return any(
        after.get("resources", {}).get(leaf, {}).get(good)
        != before.get("resources", {}).get(leaf, {}).get(good)
        for good, policy in policies.items()
        if policy == "RestartContainer"
        for leaf in ("limits", "requests")
    )
