"""A kubelet without containers: it grants resizes, writes cgroups, and tells both in the status.

Three views of a pod's resources, each a step behind the one before: **desired** is the spec,
**allocated** is what the kubelet has granted, **actual** is what it has written to the cgroups.

Granting: a request above the node's allocatable CPU is Infeasible, one that does not fit beside
what the others were granted is Deferred, and tried again when room comes and every three minutes.
Neither is granted in part: limits of the same pod wait with it.

Writing: each pod has a worker, which after each sync waits for a look at the container runtime
that is newer than that sync, and the kubelet looks once a second. A sync writes what was granted,
and reports what the sync *before* wrote. So a pod that was left alone is written to at once
(40 ms) and reported at the next look; one that was just resized waits for that look, and values
that a later PATCH overtakes meanwhile are never written.
"""

from collections.abc import Callable
from copy import deepcopy

from tests.kube import fake_node, pod_status
from tests.kube.cgroup_folder import CgroupFolder
from tests.kube.granting import precedence, why_not
from tests.kube.kubelet_events import KubeletEvents
from tests.kube.pod_cgroups import PodCgroups
from tests.kube.pod_on_node import Delays, PodOnNode, report, starts_again
from tests.kube.pod_status import Run, is_going
from tests.kube.resources import Cgroup, Pod, is_sidecar, request_millicores, running_containers
from tests.kube.store import Store
from tests.kube.timers import Timers

Refusal = Callable[[Pod], str | None]


class FakeKubelet:
    """The kubelet of one node; everything happens while the timers advance."""

    def __init__(
        self,
        store: Store,
        timers: Timers,
        *,
        node: str,
        millicores: int,
        delays: Delays,
        folder: CgroupFolder | None,
    ) -> None:
        self.node = node
        self.millicores = millicores
        self.delays = delays
        self.supports_resize = True
        self.static_cpu_manager = False
        self.has_swap = False
        self.refuse_write: Refusal = lambda pod: None
        """Asked before each write; a message is an error of the kernel, tried again each look."""
        self.pod_gone: Callable[[Pod], None] = lambda pod: None
        """Told of a pod that was to go and has ended."""
        self._store = store
        self._timers = timers
        self._running = True
        self._pods: dict[str, PodOnNode] = {}
        self._cgroups = PodCgroups(folder)
        self._events = KubeletEvents(store, timers, node)
        with store.changed:
            store.put("nodes", fake_node.node_object(node, millicores, timers))
        timers.after(delays.retry_deferred_every, self._retry_each_few_minutes)

    def cgroup_of(self, uid: str, container: str = "") -> Cgroup:
        """Returns what is in a container's cgroup; without a name, in the pod's."""
        return self._cgroups.of(uid, container)

    def write_by_hand(self, uid: str, container: str, cgroup: Cgroup) -> None:
        """Changes a cgroup behind the kubelet's back; it does not put that right."""
        self._cgroups.set(uid, container, cgroup)

    def write_burst(self, uid: str, container: str, burst_us: int) -> None:
        """Writes a burst behind the kubelet's back: no quota below it is taken any more."""
        self._cgroups.bursts_us[uid, container] = burst_us

    def stop(self) -> None:
        """Ends the kubelet; the containers go on, the API server answers as if nothing were."""
        with self._store.changed:
            self._running = False
            self._timers.after(fake_node.SILENT_AFTER_SECONDS, self._miss)

    def start(self) -> None:
        """Starts it again: it goes on from its checkpoints."""
        with self._store.changed:
            self._running = True
            fake_node.set_ready(self._store, self.node, "True", self._timers)
            for pod in self._pods_of_node():
                uid = pod["metadata"]["uid"]
                delay = self.delays.first_retry_after_start if uid in self._pods else 0.0
                self._timers.after(delay, lambda uid=uid: self._observe(uid))  # type: ignore[misc]  # mypy cannot type a lambda's default.

    def pod_changed(self, pod: Pod) -> None:
        """Notices a pod of this node that is new, whose spec has changed, or that is to go."""
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") == self.node:
            self._timers.after(self.delays.observe, lambda: self._observe(uid))

    def pod_removed(self, pod: Pod) -> None:
        """Ends a pod; its room goes to who waits for it."""
        if self._pods.pop(pod["metadata"]["uid"], None) is not None:
            self._cgroups.remove(pod)
            self._timers.after(self.delays.look_every, self._retry_deferred)

    def end_container(self, uid: str, container: str, *, exit_code: int = 0) -> None:
        """Lets a container end; the kubelet starts it again where the pod wants that."""
        with self._store.changed:
            pod, known = self._find(uid), self._pods[uid]
            assert pod is not None
            self._cgroups.end(pod, known.runs[container])
            known.runs[container].end(exit_code, self._timers.text())
            self._report(pod, known)
            if starts_again(pod, container, exit_code):
                self._timers.after(self.delays.look_every, lambda: self._restarted(uid, container))

    def _miss(self) -> None:
        if not self._running:
            fake_node.set_ready(self._store, self.node, "Unknown", self._timers)

    def _pods_of_node(self) -> list[Pod]:
        return [pod for pod in self._store.all("pods") if pod["spec"].get("nodeName") == self.node]

    def _find(self, uid: str) -> Pod | None:
        return next((pod for pod in self._pods_of_node() if pod["metadata"]["uid"] == uid), None)

    def _observe(self, uid: str) -> None:
        pod = self._find(uid)
        if not self._running or pod is None:
            return
        known = self._pods.get(uid)
        if known is None and pod["status"]["phase"] != "Failed":
            spec = deepcopy(pod)
            used = sum(request_millicores(each.allocated) for each in self._pods.values())
            if used + request_millicores(pod) > self.millicores:
                self._turn_away(pod)
                return
            self._pods[uid] = PodOnNode(allocated=spec, actual=spec, reported=spec)
            self._timers.after(self.delays.start, lambda: self._start(uid))
        elif known is not None:
            if is_going(pod):
                self._end(pod, known)
            if known.runs:
                self._grant(pod, known)

    def _turn_away(self, pod: Pod) -> None:
        """Refuses a pod that was bound although there is no room for it."""
        pod["status"] |= {
            "phase": "Failed",
            "reason": "OutOfcpu",
            "observedGeneration": pod["metadata"]["generation"],
        }
        self._store.put("pods", pod)

    def _start(self, uid: str) -> None:
        pod, known = self._find(uid), self._pods.get(uid)
        if not self._running or pod is None or known is None or is_going(pod):
            return
        now = self._timers.text()
        for each in pod_status.every_container(pod):
            known.runs[each["name"]] = Run(uid, each["name"], now)
        for each in pod["spec"].get("initContainers", []):
            if not is_sidecar(each):
                known.runs[each["name"]].end(0, now)
        self._write(known)
        known.reported = known.actual
        self._report(pod, known)
        if pod["spec"] != known.allocated["spec"]:
            self._observe(uid)

    def _end(self, pod: Pod, known: PodOnNode) -> None:
        """Begins to end a pod, once."""
        if not known.is_ending:
            known.is_ending = True
            grace_seconds = pod["metadata"]["deletionGracePeriodSeconds"]
            uid = pod["metadata"]["uid"]
            self._timers.after(min(grace_seconds, self.delays.end), lambda: self._ended(uid))

    def _ended(self, uid: str) -> None:
        """Tells how the containers of a pod that is to go have ended, then lets it go."""
        pod, known = self._find(uid), self._pods.get(uid)
        if pod is None or known is None:
            return
        if not self._running:
            known.is_ending = False
            return
        for run in known.runs.values():
            if run.ended is None:
                self._cgroups.end(pod, run)
                run.end(0, self._timers.text())
        self._report(pod, known)
        self._timers.after(self.delays.observe, lambda: self._let_go(uid))

    def _let_go(self, uid: str) -> None:
        pod = self._find(uid)
        if pod is not None:
            self.pod_gone(pod)

    def _grant(self, pod: Pod, known: PodOnNode) -> None:
        """Grants the spec, or says why not."""
        before = known.pending
        others = (each.allocated for each in self._pods.values() if each is not known)
        known.pending = why_not(
            pod,
            known.allocated,
            others,
            millicores=self.millicores,
            static_cpu_manager=self.static_cpu_manager,
            has_swap=self.has_swap,
        )
        if known.pending is None:
            fell = request_millicores(pod) < request_millicores(known.allocated)
            is_new = pod["spec"] != known.allocated["spec"]
            known.allocated = deepcopy(pod)
            if known.allocated["spec"] != known.actual["spec"]:
                self._plan_sync(pod["metadata"]["uid"], known, self.delays.write)
            if is_new:
                self._events.say("ResizeStarted", pod)
            if fell:
                self._timers.after(self.delays.look_every, self._retry_deferred)
        elif before is None:
            known.waiting_since = self._timers.now_seconds
        if known.pending is not None and known.pending != before:
            reason, message = known.pending
            self._events.say(f"Resize{reason}", pod, message)
        self._report(pod, known)

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
        was_reported = known.reported
        known.reported = known.actual
        if known.reported["spec"] != was_reported["spec"]:
            self._events.say("ResizeCompleted", known.reported)
        error_before, known.write_error = known.write_error, None
        if known.allocated["spec"] != known.actual["spec"]:
            known.write_error = self.refuse_write(known.allocated) or self._cgroups.refusal(
                known.allocated
            )
            if known.write_error is None:
                self._restart_where_wanted(uid, known)
                self._write(known)
            elif error_before is None:
                self._events.say("ResizeError", pod, known.write_error)
        if known.allocated["spec"] != known.reported["spec"]:
            self._plan_sync(uid, known, 0.0)
        self._report(pod, known)

    def _write(self, known: PodOnNode) -> None:
        known.actual = known.allocated
        self._cgroups.write(known.actual, known.runs)

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
        if pod is None or known is None or is_going(pod):
            return
        run = known.runs[container]
        if run.ended is None:
            self._cgroups.end(pod, run)
            run.end(137, self._timers.text())
        run.restart(self._timers.text())
        self._cgroups.write(known.actual, known.runs)
        self._report(pod, known)

    def _report(self, pod: Pod, known: PodOnNode) -> None:
        now = self._timers.text()
        report(pod, known, now=now, with_resources=self.supports_resize)
        self._store.put("pods", pod)

    def _retry_deferred(self) -> None:
        """Grants what fits now."""
        waiting = [
            (pod, known)
            for pod in self._pods_of_node()
            if (known := self._pods.get(pod["metadata"]["uid"])) is not None
            and known.pending is not None
            and known.pending[0] == "Deferred"
        ]
        if self._running:
            for pod, known in sorted(
                waiting,
                key=lambda pair: precedence(pair[0], pair[1].allocated, pair[1].waiting_since),
            ):
                self._grant(pod, known)

    def _retry_each_few_minutes(self) -> None:
        self._retry_deferred()
        self._timers.after(self.delays.retry_deferred_every, self._retry_each_few_minutes)
