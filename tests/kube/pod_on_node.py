"""What a kubelet knows of each of its pods, and how it tells that."""

from copy import deepcopy
from dataclasses import dataclass, field

from tests.kube import managed_fields, pod_status
from tests.kube.managed_fields import UPDATE, Owner
from tests.kube.pod_status import Run
from tests.kube.resources import Pod, is_sidecar


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long the kubelet takes, in seconds; 1.36 looks at the runtime more often."""

    start: float = 1.0
    observe: float = 0.02
    write: float = 0.04
    look_every: float = 1.0
    container_restart: float = 2.0
    end: float = 1.0
    retry_deferred_every: float = 180.0
    first_retry_after_start: float = 31.5


@dataclass(slots=True)
class PodOnNode:
    """What the kubelet knows of a pod."""

    allocated: Pod
    actual: Pod
    reported: Pod
    pending: tuple[str, str] | None = None
    """Why the spec is not granted: reason and message."""
    waiting_since: float = 0.0
    last_sync: float = float("-inf")
    sync_planned: bool = False
    runs: dict[str, Run] = field(default_factory=dict)
    write_error: str | None = None
    is_ending: bool = False


def report(pod: Pod, known: PodOnNode, *, now: str, with_resources: bool) -> None:
    """Writes into a pod's status what its kubelet knows, as the kubelet's own fields."""
    before = deepcopy(pod)
    pod["status"] |= pod_status.told(
        pod,
        allocated=known.allocated,
        actual=known.reported,
        runs=known.runs,
        with_resources=with_resources,
    )
    pod["status"]["conditions"] = pod_status.conditions(
        pod["status"].get("conditions", []),
        generation=pod["metadata"]["generation"],
        pending=known.pending,
        granted_generation=known.allocated["metadata"]["generation"],
        in_progress=known.allocated["spec"] != known.reported["spec"],
        error=known.write_error,
        ready=all(run.ended is None for run in known.runs.values() if run.name in _mains(pod)),
        now=now,
    )
    writer = Owner("kubelet", UPDATE, "status", "v1", now)
    managed_fields.record_update(pod, before, writer)


def _mains(pod: Pod) -> set[str]:
    return {each["name"] for each in pod["spec"]["containers"]}


def starts_again(pod: Pod, container: str, exit_code: int) -> bool:
    """Says whether a container that has ended is to run once more."""
    inits = pod["spec"].get("initContainers", [])
    if any(is_sidecar(each) and each["name"] == container for each in inits):
        return True
    policy = pod["spec"]["restartPolicy"]
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)
