"""The status that a kubelet writes of a pod."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kube.resources import Pod, is_sidecar

RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
READINESS = ("ContainersReady", "Ready")
ALWAYS_TRUE = ("PodReadyToStartContainers", "Initialized", "PodScheduled")
NODE_IP = "192.0.2.1"
IMAGE_ID = f"sha256:{hashlib.sha256(b'image').hexdigest()}"


@dataclass(slots=True)
class Run:
    """One container's present run, and how the one before ended."""

    uid: str
    name: str
    started_at: str
    count: int = 0
    ended: dict[str, Any] | None = None
    before: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The container's id, which is its cgroup's name."""
        return hashlib.sha256(f"{self.uid} {self.name} {self.count}".encode()).hexdigest()

    def end(self, exit_code: int, at: str) -> None:
        """Ends it."""
        self.ended = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": self.started_at,
            "finishedAt": at,
            "containerID": f"containerd://{self.id}",
        }

    def restart(self, at: str) -> None:
        """Begins the next run: another id, another cgroup."""
        self.before = {"terminated": self.ended} if self.ended else {}
        self.ended, self.started_at, self.count = None, at, self.count + 1

    def to_wire(self, *, is_init: bool) -> dict[str, Any]:
        running = {"running": {"startedAt": self.started_at}}
        return {
            "name": self.name,
            "state": {"terminated": self.ended} if self.ended else running,
            "lastState": self.before,
            "ready": self.ended is None or (is_init and not self.ended["exitCode"]),
            "started": self.ended is None,
            "restartCount": self.count,
            "image": "localhost/busybox:e2e",
            "imageID": IMAGE_ID,
            "containerID": f"containerd://{self.id}",
        }


def told(
    pod: Pod, *, allocated: Pod, actual: Pod, runs: dict[str, Run], with_resources: bool
) -> dict[str, Any]:
    """Returns phase, observed generation and the containers with what they were granted and have.

    A kubelet without support for resizes leaves the containers' resources out.
    """
    granted = {each["name"]: each.get("resources", {}) for each in every_container(allocated)}
    written = {each["name"]: each.get("resources", {}) for each in every_container(actual)}
    inits = {each["name"] for each in pod["spec"].get("initContainers", [])}
    plain = {each["name"] for each in every_container(pod) if each["name"] in inits}
    plain -= {each["name"] for each in pod["spec"].get("initContainers", []) if is_sidecar(each)}
    statuses = []
    for name, run in runs.items():
        status = run.to_wire(is_init=name in plain)
        if with_resources:
            # An empty map is left out, as the API server does.
            requests = granted[name].get("requests")
            status |= {"allocatedResources": requests} if requests else {}
            status |= {"resources": written[name]} if written[name] else {"resources": {}}
        statuses.append(status)
    result = {
        "phase": _phase(pod, runs),
        "observedGeneration": pod["metadata"]["generation"],
        "hostIP": NODE_IP,
        "podIP": NODE_IP,
        "startTime": min((run.started_at for run in runs.values()), default=""),
        "containerStatuses": [each for each in statuses if each["name"] not in inits],
    }
    if inits:
        result["initContainerStatuses"] = [each for each in statuses if each["name"] in inits]
    return result


def every_container(pod: Pod) -> Iterator[dict[str, Any]]:
    """Yields init containers, then ordinary ones."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def _phase(pod: Pod, runs: dict[str, Run]) -> str:
    ordinary = [runs[each["name"]] for each in pod["spec"]["containers"] if each["name"] in runs]
    going = pod["spec"]["restartPolicy"] == "Always" and not is_going(pod)
    if going or not ordinary or any(run.ended is None for run in ordinary):
        return "Running"
    return "Failed" if any(run.ended and run.ended["exitCode"] for run in ordinary) else "Succeeded"


def is_going(pod: Pod) -> bool:
    """Says whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def conditions(
    before: list[dict[str, Any]],
    *,
    generation: int,
    granted_generation: int,
    pending: tuple[str, str] | None,
    in_progress: bool,
    error: str | None,
    ready: bool = True,
    now: str = "",
) -> list[dict[str, Any]]:
    """Returns the usual conditions and those of a resize that waits or goes on; both may be."""
    usual = (*ALWAYS_TRUE, *READINESS)
    known = {each["type"]: each for each in before}
    result = [each for each in before if each["type"] not in (*RESIZE_CONDITIONS, *usual)]
    for kind in usual:
        status = "True" if ready or kind in ALWAYS_TRUE else "False"
        result.append(_since(_condition(kind, generation, "", "", status=status), known, now))
    if pending is not None:
        reason, message = pending
        waiting = _condition("PodResizePending", generation, reason, message)
        result.append(_since(waiting, known, now))
    if in_progress:
        reasons = ("Error", error) if error else ("", "")
        going = _condition("PodResizeInProgress", granted_generation, *reasons)
        result.append(_since(going, known, now))
    return result


def _condition(
    kind: str, generation: int, reason: str, message: str, *, status: str = "True"
) -> dict[str, Any]:
    """Returns a condition; an empty reason or message is left out, as the API server does."""
    condition = {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "lastProbeTime": None,
        "reason": reason,
        "message": message,
    }
    return {key: value for key, value in condition.items() if value != ""}


def _since(condition: dict[str, Any], known: dict[str, dict[str, Any]], now: str) -> dict[str, Any]:
    """Adds since when the condition has its status."""
    before = known.get(condition["type"], {})
    same = before.get("status") == condition["status"]
    return condition | {"lastTransitionTime": before["lastTransitionTime"] if same else now}


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
