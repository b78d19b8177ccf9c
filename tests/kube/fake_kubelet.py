"""A kubelet without containers: it grants resizes, writes cgroups, and tells both in the status.

Three views of a pod's resources, each a step behind the one before: **desired** is the spec,
**allocated** is what the kubelet has granted, **actual** is what it has written to the cgroups.

Granting (canResizePod of 1.35.4): a request above the node's allocatable CPU is Infeasible, one
that does not fit beside what the others were granted is Deferred, and tried again when room comes
and every three minutes. Neither is granted in part: limits of the same pod wait with it. Limits
are never looked at.

Writing: each pod has a worker, which after each sync waits for a look at the container runtime
that is newer than that sync, and the kubelet looks once a second. A sync writes what was granted,
and reports what the sync *before* wrote. So a pod that was left alone is written to at once
(40 ms) and reported at the next look; one that was just resized waits for that look, and values
that a later PATCH overtakes meanwhile are never written.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.kube import pod_status
from tests.kube.resources import (
    Cgroup,
    Pod,
    cgroup_of_container,
    cgroup_of_pod,
    qos_of,
    request_millicores,
    running_containers,
)
from tests.kube.store import Store
from tests.kube.timers import Timers

Refusal = Callable[[Pod], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long the kubelet takes, in seconds; 1.36 looks at the runtime more often."""

    start: float = 1.0
    observe: float = 0.02
    write: float = 0.04
    look_every: float = 1.0
    container_restart: float = 2.0
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
    restarts: dict[str, int] = field(default_factory=dict)
    write_error: str | None = None


class FakeKubelet:
    """The kubelet of one node; everything happens while the timers advance."""

    def __init__(
        self, store: Store, timers: Timers, *, node: str, millicores: int, delays: Delays
    ) -> None:
        self.node = node
        self.millicores = millicores
        self.delays = delays
        self.supports_resize = True
        self.static_cpu_manager = False
        self.refuse_write: Refusal = lambda pod: None
        """Asked before each write; a message is an error of the kernel, tried again each look."""
        self._store = store
        self._timers = timers
        self._running = True
        self._pods: dict[str, PodOnNode] = {}
        self._cgroups: dict[tuple[str, str], Cgroup] = {}
        timers.after(delays.retry_deferred_every, self._retry_each_few_minutes)

    def cgroup_of(self, uid: str, container: str = "") -> Cgroup:
        """Returns what is in a container's cgroup; without a name, in the pod's."""
        return self._cgroups[uid, container]

    def write_by_hand(self, uid: str, container: str, cgroup: Cgroup) -> None:
        """Changes a cgroup behind the kubelet's back; it does not put that right."""
        self._cgroups[uid, container] = cgroup

    def stop(self) -> None:
        """Ends the kubelet; the containers go on, the API server answers as if nothing were."""
        self._running = False

    def start(self) -> None:
        """Starts it again: it goes on from its checkpoints."""
        self._running = True
        for pod in self._pods_of_node():
            uid = pod["metadata"]["uid"]
            delay = self.delays.first_retry_after_start if uid in self._pods else 0.0
            self._timers.after(delay, lambda uid=uid: self._observe(uid))  # type: ignore[misc]  # mypy cannot type a lambda's default.

    def pod_changed(self, pod: Pod) -> None:
        """Notices a pod of this node that is new, or whose spec has changed."""
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") == self.node:
            self._timers.after(self.delays.observe, lambda: self._observe(uid))

    def pod_removed(self, pod: Pod) -> None:
        """Ends a pod; its room goes to who waits for it."""
        uid = pod["metadata"]["uid"]
        if self._pods.pop(uid, None) is not None:
            for key in [key for key in self._cgroups if key[0] == uid]:
                del self._cgroups[key]
            self._timers.after(self.delays.look_every, self._retry_deferred)

    def _pods_of_node(self) -> list[Pod]:
        return [pod for pod in self._store.all("pods") if pod["spec"].get("nodeName") == self.node]

    def _find(self, uid: str) -> Pod | None:
        return next((pod for pod in self._pods_of_node() if pod["metadata"]["uid"] == uid), None)

    def _observe(self, uid: str) -> None:
        pod = self._find(uid)
        if not self._running or pod is None:
            return
        known = self._pods.get(uid)
        if known is None:
            spec = deepcopy(pod)
            self._pods[uid] = PodOnNode(allocated=spec, actual=spec, reported=spec)
            self._timers.after(self.delays.start, lambda: self._start(uid))
            return
        self._grant(pod, known)

    def _start(self, uid: str) -> None:
        pod, known = self._find(uid), self._pods.get(uid)
        if not self._running or pod is None or known is None:
            return
        self._write(known)
        known.reported = known.actual
        known.restarts = {each["name"]: 0 for each in running_containers(pod)}
        self._report(pod, known)
        if pod["spec"] != known.allocated["spec"]:
            self._observe(uid)

    def _grant(self, pod: Pod, known: PodOnNode) -> None:
        """Grants the spec, or says why not."""
        before = known.pending
        known.pending = self._why_not(pod, known)
        if known.pending is None:
            fell = request_millicores(pod) < request_millicores(known.allocated)
            known.allocated = deepcopy(pod)
            if known.allocated["spec"] != known.actual["spec"]:
                self._plan_sync(pod["metadata"]["uid"], known, self.delays.write)
            if fell:
                self._timers.after(self.delays.look_every, self._retry_deferred)
        elif before is None:
            known.waiting_since = self._timers.now_seconds
        self._report(pod, known)

    def _why_not(self, pod: Pod, known: PodOnNode) -> tuple[str, str] | None:
        asked, granted = request_millicores(pod), request_millicores(known.allocated)
        if self.static_cpu_manager and qos_of(pod) == "Guaranteed" and asked != granted:
            message = (
                'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
            )
            return "Infeasible", message
        if asked > self.millicores:
            message = (
                "Node didn't have enough capacity: "
                f"cpu, requested: {asked}, capacity: {self.millicores}"
            )
            return "Infeasible", message
        others = sum(
            request_millicores(each.allocated) for each in self._pods.values() if each is not known
        )
        if asked > granted and others + asked > self.millicores:
            message = (
                "Node didn't have enough resource: "
                f"cpu, requested: {asked}, used: {others}, capacity: {self.millicores}"
            )
            return "Deferred", message
        return None

    def _plan_sync(self, uid: str, known: PodOnNode, delay: float) -> None:
        if known.sync_planned:
            return
        known.sync_planned = True
        due = max(self._timers.now_seconds + delay, self._look_after(known.last_sync))
        self._timers.at(due, lambda: self._sync(uid))

    def _look_after(self, seconds: float) -> float:
        """Returns when the kubelet first looks at the runtime after that time."""
        if seconds == float("-inf"):
            return seconds
        every = self.delays.look_every
        return (seconds // every + 1) * every

    def _sync(self, uid: str) -> None:
        """Reports what the last sync wrote, and writes what was granted since."""
        pod, known = self._find(uid), self._pods.get(uid)
        if pod is None or known is None:
            return
        known.sync_planned = False
        if not self._running:
            return
        known.last_sync = self._timers.now_seconds
        known.reported = known.actual
        known.write_error = None
        if known.allocated["spec"] != known.actual["spec"]:
            known.write_error = self.refuse_write(known.allocated)
            if known.write_error is None:
                self._restart_where_wanted(uid, known)
                self._write(known)
        if known.allocated["spec"] != known.reported["spec"]:
            self._plan_sync(uid, known, 0.0)
        self._report(pod, known)

    def _write(self, known: PodOnNode) -> None:
        known.actual = known.allocated
        uid = known.actual["metadata"]["uid"]
        for container in running_containers(known.actual):
            self._cgroups[uid, container["name"]] = cgroup_of_container(container)
        self._cgroups[uid, ""] = cgroup_of_pod(known.actual)

    def _restart_where_wanted(self, uid: str, known: PodOnNode) -> None:
        pairs = zip(
            running_containers(known.allocated), running_containers(known.actual), strict=True
        )
        for after, before in pairs:
            if pod_status.needs_restart(after, before):
                name = after["name"]
                self._timers.after(
                    self.delays.container_restart,
                    lambda name=name: self._restarted(uid, name),  # type: ignore[misc]  # mypy cannot type a lambda's default.
                )

    def _restarted(self, uid: str, container: str) -> None:
        pod, known = self._find(uid), self._pods.get(uid)
        if pod is not None and known is not None:
            known.restarts[container] += 1
            self._report(pod, known)

    def _report(self, pod: Pod, known: PodOnNode) -> None:
        pod["status"] |= pod_status.running(
            pod,
            allocated=known.allocated,
            actual=known.reported,
            restarts=known.restarts,
            with_resources=self.supports_resize,
        )
        known_conditions = pod["status"].get("conditions", [])
        pod["status"]["conditions"] = pod_status.conditions(
            known_conditions,
            generation=pod["metadata"]["generation"],
            pending=known.pending,
            granted_generation=known.allocated["metadata"]["generation"],
            in_progress=known.allocated["spec"] != known.reported["spec"],
            error=known.write_error,
        )
        self._store.put("pods", pod)

    def _retry_deferred(self) -> None:
        """Grants what fits now: by priority, class of service, then who waits longest."""
        waiting = [
            (pod, known)
            for pod in self._pods_of_node()
            if (known := self._pods.get(pod["metadata"]["uid"])) is not None
            and known.pending is not None
            and known.pending[0] == "Deferred"
        ]
        if self._running:
            for pod, known in sorted(waiting, key=lambda pair: _precedence(*pair)):
                self._grant(pod, known)

    def _retry_each_few_minutes(self) -> None:
        self._retry_deferred()
        self._timers.after(self.delays.retry_deferred_every, self._retry_each_few_minutes)


def _precedence(pod: Pod, known: PodOnNode) -> tuple[bool, int, bool, float]:
    rising = request_millicores(pod) > request_millicores(known.allocated)
    priority: Any = pod["spec"].get("priority", 0)
    return (rising, -priority, qos_of(pod) != "Guaranteed", known.waiting_since)
